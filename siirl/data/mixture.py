"""Batches of prompts of two environments: a fixed share of them is real."""

import math
from collections.abc import Sequence
from typing import Any

from siirl.config.environments import TRAINING
from siirl.config.schema import Config
from siirl.data.manifest import Prompt
from siirl.data.sampler import PromptSampler, Sampler

REAL, FRACTION = "real", "real_fraction"


class MixedSampler:
    """Endless batches in which, from the start of the run on, ``fraction`` of all prompts are real, to within half a prompt; each
    environment's go round in passes of their own.

    Args:
        imagined, real: what to draw from.
        fraction: in (0, 1].
    """

    def __init__(self, imagined: PromptSampler, real: PromptSampler, fraction: float) -> None:
        self.imagined, self.real, self.fraction = imagined, real, fraction

    def next_batch(self, size: int) -> list[Prompt]:
        """The next ``size`` prompts, real ones last."""
        drawn = self.imagined.drawn + self.real.drawn
        count = math.floor((drawn + size) * self.fraction + 0.5) - self.real.drawn
        return self.imagined.next_batch(size - count) + self.real.next_batch(count)

    def state_dict(self) -> dict[str, Any]:
        """Where both stand, as plain JSON values; ``epoch`` is that of the imagined ones."""
        return self.imagined.state_dict() | {REAL: self.real.state_dict(), FRACTION: self.fraction}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken.

        Raises:
            ValueError: the state belongs to other prompts, to another order or to another share of them.
        """
        if state.get(FRACTION, 0.0) != self.fraction:
            raise ValueError(
                f"the checkpoint's sampler has real_fraction={state.get(FRACTION, 0.0)}, this run has {self.fraction}: its "
                "place cannot be found again. Resume with the same actor_rollout_ref.embodied.real_fraction, or set "
                "trainer.resume_mode=disable."
            )
        self.imagined.load_state_dict(state)
        self.real.load_state_dict(state[REAL])


def training_sampler(prompts: Sequence[Prompt], config: Config) -> Sampler:
    """The sampler of a run's training prompts, of one environment or of two."""
    imagined = [prompt for prompt in prompts if prompt.env == TRAINING]
    real = [prompt for prompt in prompts if prompt.env != TRAINING]
    first = PromptSampler(imagined, config.data.shuffle, config.trainer.seed)
    if not real:
        return first
    second = PromptSampler(real, config.data.shuffle, config.trainer.seed)
    return MixedSampler(first, second, config.actor_rollout_ref.embodied.real_fraction)
