"""What supervised fine-tuning trains on: demonstrations turned into prepared observations and labels of their actions."""

import errno
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import RawIOBase
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from siirl.data.lerobot import Demo, Demonstrations
from siirl.envs.base import EnvObs
from siirl.policies.base import PolicyInputs
from siirl.training.lessons import Lesson

PREPARE_ROWS = 64
"""Frames that are decoded and prepared at a time."""


@dataclass
class Samples:
    """N pairs of a prepared observation and the actions that followed it.

    Attributes:
        inputs: what the policy's ``prepare`` gave, N rows; the images are mapped from a file.
        labels: of the next T actions, [N, T·D], see `siirl.training.lessons.Lesson`.
        trials: trial of each row, int [N].
    """

    inputs: PolicyInputs
    labels: Tensor
    trials: np.ndarray

    def rows(self, index: Tensor) -> tuple[PolicyInputs, Tensor]:
        """Inputs and labels at ``index`` int64 [B]."""
        return {name: value[index] for name, value in self.inputs.items()}, self.labels[index]


def dataset_statistics(demos: Sequence[Demo]) -> dict[str, Any]:
    """One suite's entry of OpenVLA's ``dataset_statistics.json``, over all steps of ``demos``.

    The last action dimension, the gripper, is masked: it is used as it is, in [0, 1].
    """

    def describe(values: np.ndarray) -> dict[str, Any]:
        moments = {"mean": values.mean(0), "std": values.std(0), "min": values.min(0), "max": values.max(0)}
        quantiles = {"q01": np.quantile(values, 0.01, axis=0), "q99": np.quantile(values, 0.99, axis=0)}
        return {name: value.tolist() for name, value in {**moments, **quantiles}.items()}

    action = describe(np.concatenate([d.actions for d in demos]))
    action["mask"] = [True] * (len(action["mean"]) - 1) + [False]
    proprio = describe(np.concatenate([d.states for d in demos]))
    counts = {"num_transitions": sum(len(d.actions) for d in demos), "num_trajectories": len(demos)}
    return {"action": action, "proprio": proprio, **counts}


def build_samples(lesson: Lesson, data: Demonstrations, frame_every: int) -> Samples:
    """One sample per ``frame_every`` steps. Past a demonstration's end its last action is repeated.

    Frames are decoded and prepared here, once: their JPEG round trip costs more than their share of a training step.
    What is prepared goes to an unnamed temporary file in ``$TMPDIR``, of which the operating system keeps as much in memory as
    there is room for, and which vanishes with the process, however that ends.

    Raises:
        ValueError: as `Demonstrations.frames`, or the temporary file does not fit on its disk.
    """
    texts, labels = [], []
    trials: list[int] = []
    shape: tuple[int, ...] = ()
    with tempfile.TemporaryFile(
        buffering=0
    ) as file:  # a buffer would be written once more, and fail again, at the close
        for demo, steps in _parts(data, frame_every):
            obs = EnvObs(data.frames(demo, steps.tolist()), demo.states[steps], [demo.instruction] * len(steps))
            inputs = lesson.policy.prepare(obs)
            images = inputs.pop("images")
            shape = (len(trials) + len(steps), *images.shape[1:])
            _append(file, images, shape)
            texts.append(inputs)
            ahead = np.minimum(steps[:, None] + np.arange(lesson.policy.chunk_len), len(demo.actions) - 1)
            labels.append(lesson.labels(demo.actions[ahead]))
            trials += [demo.trial] * len(steps)
        # copy-on-write only because PyTorch warns of read-only arrays
        mapped = torch.from_numpy(np.memmap(file, np.uint8, "c", shape=shape))
    return Samples({**join_inputs(texts), "images": mapped}, torch.from_numpy(np.concatenate(labels)), np.array(trials))


def _parts(data: Demonstrations, frame_every: int) -> Iterator[tuple[Demo, np.ndarray]]:
    """The steps of each demonstration that become samples, at most `PREPARE_ROWS` at a time."""
    for demo in data.demos:
        first = demo.index % min(frame_every, len(demo.actions))  # not always the same phase of an episode
        steps = np.arange(first, len(demo.actions), frame_every)
        for begin in range(0, len(steps), PREPARE_ROWS):
            yield demo, steps[begin : begin + PREPARE_ROWS]


def _append(file: RawIOBase, rows: Tensor, shape: tuple[int, ...]) -> None:
    """Write ``rows`` uint8 [B, …], after which the file has ``shape``."""
    rest = rows.contiguous().view(-1).numpy().data
    try:
        while rest:
            rest = rest[file.write(rest) or 0 :]  # without a buffer, part of it may be written
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ValueError(
            f"{tempfile.gettempdir()} has no room for {shape[0]} prepared frames of {rows[0].numel()} bytes; set TMPDIR "
            "to a folder with more, or raise --frame-every"
        ) from error


def join_inputs(parts: Sequence[PolicyInputs]) -> PolicyInputs:
    """Rows of several `prepare` calls in one batch; prompts are padded on the right to the longest."""
    longest = max(part["input_ids"].shape[1] for part in parts)

    def widen(name: str, value: Tensor) -> Tensor:
        is_text = name in ("input_ids", "attention_mask")
        return F.pad(value, (0, longest - value.shape[1])) if is_text else value

    return {name: torch.cat([widen(name, part[name]) for part in parts]) for name in parts[0]}
