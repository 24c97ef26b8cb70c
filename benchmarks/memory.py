"""Is the memory estimate of ``dry_run`` right? Every item beside what is measured; needs no quiet machine.

``python -m benchmarks.memory`` counts bytes: of a trainer's weights, gradients and moments of AdamW, of trajectories, and at
their peak those of all tensors that live during a forward and backward pass (`LiveBytes`).
"""

import weakref
from collections.abc import Iterator
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.common import print_table, write_result
from benchmarks.policy import MEDIUM, Case, episode, observation
from benchmarks.published import INSTRUCTION
from siirl.config.activations import Forward, activation_bytes, copy_bytes
from siirl.config.estimate import GIB, estimate_rows
from siirl.config.schema import Config
from siirl.data.trajectory import Trajectory
from siirl.policies.prismatic.policy import PrismaticPolicy
from siirl.roles.trainer import Trainer

CPU = torch.device("cpu")


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that operations made within and that still live, the backward pass's included.

    Attributes:
        live: now.
        peak: the most so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            self._note(leaf, was_there=True)
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            self._note(leaf, was_there=False)
        return result

    def _note(self, leaf: Any, was_there: bool) -> None:
        """Count a tensor's storage, once, until it is freed; not what came in from outside."""
        if not isinstance(leaf, Tensor):
            return
        storage = leaf.untyped_storage()
        key, size = storage._cdata, 0 if was_there else storage.nbytes()
        if key in self._known:
            return

        def freed(_: object) -> None:
            self.live -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, freed)
        self.live += size
        self.peak = max(self.peak, self.live)


def update_peak(policy: PrismaticPolicy, chunks: int) -> int:
    """Bytes that one micro-batch of an update needs at its peak, gradients of parameters (which stay) not counted."""
    inputs = policy.prepare(observation(chunks))
    bins = torch.zeros(chunks, policy.chunk_len * policy.action_dim, dtype=torch.int64)
    for parameter in policy.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with LiveBytes() as memory:
        result = policy.evaluate(inputs, bins, 1.0)
        (result.log_probs.sum() + result.entropy.sum()).backward()
    return memory.peak


def estimated_peak(policy: PrismaticPolicy, chunks: int) -> int:
    """What the estimate says to `update_peak`."""
    shapes = {name: list(tensor.shape) for name, tensor in policy.model.state_dict().items()}
    actions = policy.chunk_len * policy.action_dim
    half, checkpointing = policy.dtype == "bf16", policy.model.gradient_checkpointing
    forward = Forward(chunks, policy.num_images, policy.prompt_length(INSTRUCTION), actions, half, checkpointing)
    return activation_bytes(shapes, forward) + (copy_bytes(shapes) if half else 0)


def bytes_of(tensors: Any) -> int:
    """Of tensors or arrays."""
    return sum(tensor.nbytes for tensor in tensors)


def trainer_bytes(policy: PrismaticPolicy) -> dict[str, int]:
    """Of weights, gradients and moments, on the trainer's own objects."""
    trainer: Trainer[Trajectory] = Trainer(policy, Config(), CPU)
    moments = [state[name] for state in trainer.optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    gradients = [torch.zeros_like(parameter) for parameter in trainer.parameters]
    return {
        "policy weights, float32": bytes_of(policy.model.state_dict().values()),
        "gradients, float32": bytes_of(gradients),
        "AdamW's two moments, float32": bytes_of(moments),
    }


def trajectory_bytes(policy: PrismaticPolicy, config: Config) -> int:
    """Of the episodes of a generation batch, all of full length."""
    ref = config.actor_rollout_ref
    chunks = -(-(ref.embodied.env.max_steps or ref.rollout.response_length) // policy.chunk_len)
    one = episode(policy, chunks, 0)
    assert ref.embodied.env.image_size == one.images.shape[2]
    arrays = [value for value in vars(one).values() if isinstance(value, np.ndarray)]
    return config.data.train_batch_size * ref.rollout.n * bytes_of(arrays)


def measure() -> Iterator[dict[str, Any]]:
    """Every item: policy, name, estimated and measured bytes."""
    for name, config in (("start policy, 3 M", None), ("random, 191 M", MEDIUM)):
        yield from _whole_estimate(name, Case(name, "openvla-oft", "fp32", config, ()).policy(CPU))
        for dtype in ("fp32", "bf16"):
            for checkpointing in (False, True):
                policy = Case(name, "openvla-oft", dtype, config, ()).policy(CPU, checkpointing)
                for chunks in (2, 8):
                    item = f"activations of {chunks} chunks, {dtype}" + (", checkpointing" if checkpointing else "")
                    yield _item(name, item, estimated_peak(policy, chunks), update_peak(policy, chunks))


def _whole_estimate(name: str, policy: PrismaticPolicy) -> Iterator[dict[str, Any]]:
    """The rows of ``dry_run`` for a policy's folder."""
    config = Config()
    with TemporaryDirectory() as folder:
        policy.save(folder)
        config.actor_rollout_ref.model.path = folder
        estimate = {row.name: row.gib * GIB for row in estimate_rows(config)}
    for item, measured in trainer_bytes(policy).items():
        yield _item(name, item, estimate[item], measured)
    trajectories = next(item for item in estimate if item.startswith("trajectories"))
    yield _item(name, trajectories, estimate[trajectories], trajectory_bytes(policy, config))


def _item(policy: str, name: str, estimated: float, measured: float) -> dict[str, Any]:
    return {"policy": policy, "item": name, "estimated": round(estimated), "measured": round(measured)}


def main() -> None:
    """Measure, print and write ``results/memory.json``."""
    rows = list(measure())
    columns = ["", "item", "estimated MiB", "measured MiB", "estimated / measured"]
    cells = []
    for row in rows:
        mib = [f"{row[key] / 2**20:.1f}" for key in ("estimated", "measured")]
        cells.append([row["policy"], row["item"], *mib, f"{row['estimated'] / row['measured']:.2f}"])
    print_table("memory", columns, cells)
    print(write_result("memory", {"rows": rows}))


if __name__ == "__main__":
    main()
