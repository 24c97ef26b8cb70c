"""Which prompts a training step rolls out, and the episodes that they become."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from siirl.data.manifest import Prompt
from siirl.data.trajectory import EpisodeSpec

TRAIN, VALIDATE, SHUFFLE, REPEAT = range(4)
"""First number of every seed's key: random streams of different purposes never meet."""


class Sampler(Protocol):
    """Endless batches of prompts, whose place can be saved and restored: a `PromptSampler`, or a mixture of two."""

    def next_batch(self, size: int) -> list[Prompt]:
        """The next ``size`` prompts."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where the sampler stands, as plain JSON values, one of them its ``epoch``."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken. Raises ValueError where that cannot be."""
        ...


class PromptSampler:
    """Endless batches of prompts, pass after pass; its place can be saved and restored.

    Batches are always full: one that meets the end of a pass goes on with the next pass. So after any number of whole
    passes every prompt was drawn equally often, and no prompt is drawn twice before every other was drawn once.

    The order of a pass is derived from (seed, number of the pass) alone, so these two and the position are the whole
    state of the random generator.

    Args:
        prompts: what to draw from.
        shuffle: a new random order in every pass; otherwise the given order.
        seed: seed of the orders.
    """

    def __init__(self, prompts: Sequence[Prompt], shuffle: bool, seed: int) -> None:
        self.prompts = list(prompts)
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.position = 0
        self._order = self._order_of(0)

    def next_batch(self, size: int) -> list[Prompt]:
        """The next ``size`` prompts."""
        assert self.prompts, "only a run that only validates has none, and it draws none"
        batch: list[Prompt] = []
        while len(batch) < size:
            if self.position == len(self.prompts):
                self.epoch, self.position = self.epoch + 1, 0
                self._order = self._order_of(self.epoch)
            taken = self._order[self.position : self.position + size - len(batch)]
            batch += [self.prompts[i] for i in taken]
            self.position += len(taken)
        return batch

    @property
    def drawn(self) -> int:
        """Prompts drawn so far."""
        return self.epoch * len(self.prompts) + self.position

    def state_dict(self) -> dict[str, Any]:
        """Where the sampler stands, as plain JSON values."""
        return {"epoch": self.epoch, "position": self.position, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken.

        Raises:
            ValueError: the state belongs to other prompts, or to another order of them.
        """
        for name, value in self._identity().items():
            if state[name] != value:
                raise ValueError(
                    f"the checkpoint's sampler has {name}={state[name]}, this run has {name}={value}: its place "
                    "cannot be found again. Resume with the same data, task, trial and trainer.seed keys, or set "
                    "trainer.resume_mode=disable."
                )
        self.epoch, self.position = state["epoch"], state["position"]
        self._order = self._order_of(self.epoch)

    def _identity(self) -> dict[str, Any]:
        """What makes two samplers draw the same prompts in the same order."""
        digest = hashlib.sha256("\n".join(p.prompt_id for p in self.prompts).encode()).hexdigest()
        return {"seed": self.seed, "shuffle": self.shuffle, "prompts": len(self.prompts), "prompts_sha256": digest}

    def _order_of(self, epoch: int) -> list[int]:
        if not self.shuffle:
            return list(range(len(self.prompts)))
        sequence = np.random.SeedSequence(self.seed, spawn_key=(SHUFFLE, epoch))
        return np.random.default_rng(sequence).permutation(len(self.prompts)).tolist()


def episode_specs(
    prompts: Sequence[Prompt], *, n: int, seed: int, step: int | None, first_group: int = 0
) -> list[EpisodeSpec]:
    """A group of ``n`` episodes for each prompt, group after group, with reproducible seeds, in the prompt's environment.

    Args:
        prompts: one per group; a prompt that comes twice makes two groups.
        n: episodes per group.
        seed: the run's seed.
        step: the training step; None for validation, whose seeds hang on the prompt alone, so that every validation
            runs the same episodes, whatever the step and whatever else is validated.
        first_group: number of the first group, for a step that rolls out several batches.
    """
    specs = []
    for group_id, prompt in enumerate(prompts, start=first_group):
        key = _validation_key(prompt) if step is None else (TRAIN, step, group_id)
        specs += _group(prompt, n, seed, key, group_id)
    return specs


def repeated_specs(prompts: Sequence[Prompt], repetitions: int, seed: int) -> list[EpisodeSpec]:
    """An episode of each prompt, ``repetitions`` times, each time with a seed of its own for the simulator and for sampling.

    The first ones are those that validation runs (`episode_specs` with ``step=None``). A prompt's seeds hang on its task, its
    trial and the repetition alone, so that evaluations of other policies, of fewer tasks or of more repetitions share them.
    ``group_id`` numbers the prompts, ``index`` the repetitions.
    """
    specs = []
    for repetition in range(repetitions):
        for group_id, prompt in enumerate(prompts):
            key = (REPEAT, prompt.task_id, prompt.trial_id, repetition) if repetition else _validation_key(prompt)
            (spec,) = _group(prompt, 1, seed, key, group_id)
            specs.append(replace(spec, index=repetition))
    return specs


def _validation_key(prompt: Prompt) -> tuple[int, ...]:
    return VALIDATE, prompt.task_id, prompt.trial_id


def _group(prompt: Prompt, n: int, seed: int, key: tuple[int, ...], group_id: int) -> list[EpisodeSpec]:
    env_seed = _derive(seed, key, bits=32)  # NumPy's global generator, which simulators use, takes 32 bits
    return [
        EpisodeSpec(
            suite=prompt.suite,
            task_id=prompt.task_id,
            trial_id=prompt.trial_id,
            instruction=prompt.instruction,
            max_steps=prompt.max_steps,
            group_id=group_id,
            index=index,
            env_seed=env_seed,
            action_seed=_derive(seed, (*key, index), bits=63),
            env=prompt.env,
        )
        for index in range(n)
    ]


def _derive(seed: int, key: tuple[int, ...], bits: int) -> int:
    """A seed of so many bits, hashed from the run's seed and a key (`numpy.random.SeedSequence`)."""
    word = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0]
    return int(word) >> (64 - bits)
