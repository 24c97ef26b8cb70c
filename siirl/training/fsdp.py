"""Training over several ranks with FSDP2: the process groups, the sharding, and the way back to full tensors."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor


@dataclass(frozen=True)
class Ranks:
    """A process's place among those that hold the policy: the actors, which train, come first, then those that only act.

    Attributes:
        rank: this process, in [0, ``world``).
        world: all of them.
        actors: how many train; ranks below it do.
        trainers: group of the actors; None where there is one, or this rank is none.
        receivers: group of rank 0 and all that only act; None where none only acts, or this rank is another actor.
    """

    rank: int = 0
    world: int = 1
    actors: int = 1
    trainers: dist.ProcessGroup | None = None
    receivers: dist.ProcessGroup | None = None

    @property
    def trains(self) -> bool:
        """Whether this rank is an actor's."""
        return self.rank < self.actors


ALONE = Ranks()
"""One process that trains and acts, without any process group."""


def init_ranks(rank: int, world: int, actors: int, store: dist.Store | None, device: torch.device) -> Ranks:
    """Join the process group of all that hold the policy (gloo on the CPU, NCCL on GPUs); collective. One process needs none.

    Args:
        rank, world, actors: see `Ranks`.
        store: what all ranks share to find each other; None for one process.
        device: the rank's own device; on GPUs, the only one that this process sees.
    """
    assert 0 <= rank < world
    assert 1 <= actors <= world
    if world == 1:
        return ALONE
    assert store is not None
    dist.init_process_group(
        backend="nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=world,
        device_id=device if device.type == "cuda" else None,
    )
    # Every rank takes part in making a group, also of those that it does not belong to.
    trainers = dist.new_group(list(range(actors))) if actors > 1 else None
    receivers = dist.new_group([0, *range(actors, world)]) if world > actors else None
    trains, receives = rank < actors, rank == 0 or rank >= actors
    return Ranks(rank, world, actors, trainers if trains else None, receivers if receives else None)


def shard(model: nn.Module, ranks: Ranks, device: torch.device) -> None:
    """Shard ``model`` in place over the actors, each transformer block on its own, so that one block is whole at a time.

    With one actor the model is left as it is: a rollout on the same slot acts with these very parameters.

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
    if ranks.trainers is None:
        return
    mesh = DeviceMesh.from_group(ranks.trainers, device.type)
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
        yield name, gathered(parameter, device)


def gathered(parameter: nn.Parameter, device: torch.device) -> Tensor:
    """A parameter's whole value on ``device`` (collective where it is sharded); the parameter's own memory where it is whole
    and there already."""
    return whole(parameter.detach().to(device))


def whole(tensor: Tensor) -> Tensor:
    """The full value of a sharded tensor (collective); any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
