"""Training over several ranks with FSDP2: the process group, the sharding, and the way back to full tensors."""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor


def init_ranks(rank: int, world_size: int, address: str, port: int, device: torch.device) -> None:
    """Join the process group of the update's ranks (gloo on the CPU, NCCL on GPUs); one rank needs none.

    Args:
        address, port: where rank 0 listens, the same on every rank.
        device: the rank's own device; on GPUs, the only one that this process sees.
    """
    if world_size == 1:
        return
    dist.init_process_group(
        backend="nccl" if device.type == "cuda" else "gloo",
        init_method=f"tcp://{address}:{port}",
        rank=rank,
        world_size=world_size,
        device_id=device if device.type == "cuda" else None,
    )


def shard(model: nn.Module, world_size: int, device: torch.device) -> None:
    """Shard ``model`` in place over the ranks, each transformer block on its own, so that one block is whole at a time.

    With one rank the model is left as it is: a rollout on the same slot acts with these very parameters.

    Parameters are gathered in float32 and the policy's own autocast computes in bf16, as in the rollout. Gathering in
    bf16 would also round norms and embeddings, and the log-probs would no longer be the rollout's.

    Raises:
        ValueError: a parameter is not float32.
    """
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            raise ValueError(
                f"the update needs float32 weights, but {name} is {parameter.dtype}; load the policy in float32"
            )
    if world_size == 1:
        return
    mesh = init_device_mesh(device.type, (world_size,))
    for block in transformer_blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def transformer_blocks(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks of ``model``: elements, all of one class and not mere layers, of its outermost lists."""
    blocks: list[nn.Module] = []
    for child in model.children():
        elements = list(child.children())
        repeated = isinstance(child, nn.ModuleList | nn.Sequential) and len({type(e) for e in elements}) == 1
        if repeated and any(True for _ in elements[0].children()):
            blocks.extend(elements)
        else:
            blocks.extend(transformer_blocks(child))
    return blocks


def full_parameters(model: nn.Module, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """Every parameter's name and whole value on ``device``, one at a time: memory holds the shards and one parameter.

    Gathering is collective: all ranks iterate, to the end. Offloaded shards are brought to the device first, because
    NCCL gathers nothing else.
    """
    for name, parameter in model.named_parameters():
        yield name, whole(parameter.detach().to(device))


def whole(tensor: Tensor) -> Tensor:
    """The full value of a sharded tensor (collective); any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
