"""The contract of a policy. One policy = one file (or folder) in this package, registered by name."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from siirl.config.schema import Config, EmbodiedConfig, EvaluateConfig, ModelConfig, RolloutConfig, ValKwargsConfig
from siirl.config.value_head import value_outputs
from siirl.envs.base import EnvObs
from siirl.registry import Registry, did_you_mean

PolicyInputs = dict[str, Tensor]
"""What `Policy.prepare` returns: tensors on the policy's device, batch first, so that rows can be sliced and joined."""


StoredTensor = tuple[str, list[int], Callable[[], Tensor]]
"""A parameter in a file: its name, its shape, and what reads it."""


@dataclass(frozen=True)
class Sampling:
    """How actions are drawn.

    ``top_k`` and ``top_p`` say what may be drawn and nothing else: the log-probs that `Policy.act` records and
    `Policy.evaluate` computes are those of the whole tempered distribution. So PPO's ratio of new to old probability is
    finite and positive for every drawn token whatever the new weights are. Were both renormalised over what may be drawn,
    a token that an update moves out of its top k would have probability 0: no gradient could bring it back. The price is
    that draws are likelier than their recorded log-probs say, by the probability of what may be drawn.

    Attributes:
        do_sample: draw from the distribution, else take its mode.
        temperature: the logits are divided by it before the softmax; also in `Policy.evaluate`. Of continuous actions it tempers
            the density likewise (`siirl.policies.gaussian.gaussian_evaluation`).
        seeds: one per row; a row's draw depends on its seed and its own distribution alone, not on the batch. Empty in
            settings that are still to meet rows.
        top_k: draw each token from its this many likeliest; −1: from all.
        top_p: draw each token from the fewest likeliest that have this much probability together, of what ``top_k`` left
            (nucleus sampling: Holtzman et al. 2020, *The Curious Case of Neural Text Degeneration*); 1: from all.
    """

    do_sample: bool
    temperature: float
    seeds: Sequence[int] = ()
    top_k: int = -1
    top_p: float = 1.0

    @classmethod
    def of(cls, settings: RolloutConfig | ValKwargsConfig | EvaluateConfig) -> Self:
        """What the config says of training, validation or evaluation, without seeds."""
        return cls(settings.do_sample, settings.temperature, (), settings.top_k, settings.top_p)


@dataclass(frozen=True)
class ValueHeadSettings:
    """The value head that a policy is loaded with.

    Attributes:
        position: whose last hidden state it reads: ``first_action``, that at the first action token (where tokens come one
            after the other: that which predicts it, for no value may depend on what was drawn); ``last_prompt``, that at
            the prompt's last token.
        outputs: V, values of an observation.
    """

    position: str
    outputs: int

    @classmethod
    def of(cls, config: Config) -> Self | None:
        """What the config says; None where no value head is trained."""
        outputs = value_outputs(config)
        return cls(config.critic.position, outputs) if outputs else None


@dataclass
class ActionChunk:
    """What the policy decided for B rows.

    Attributes:
        actions: un-normalised actions, float32 [B, T, D] on the CPU.
        sampled: what was drawn, of any dtype, which trajectories keep (for OpenVLA-OFT: action bins, int16 [B, T·D]; of
            continuous actions: these, normalised and not clipped, float32 [B, T·D]), on the CPU.
        log_probs: log-probability of each drawn element, float32 [B, T·D] on the CPU; not finite for a row that went
            wrong.
        values: value estimates of the observations, float32 [B, V] on the CPU; None without a value head.
    """

    actions: Tensor
    sampled: Tensor
    log_probs: Tensor
    values: Tensor | None = None


@dataclass
class Evaluation:
    """`Policy.evaluate`'s result, differentiable: log_probs and entropy float32 [B, T·D], values float32 [B, V], or None
    without a value head."""

    log_probs: Tensor
    entropy: Tensor
    values: Tensor | None = None


def stack_observations(images: np.ndarray, states: np.ndarray, instructions: list[str]) -> EnvObs:
    """Observations as trajectories store them (images uint8 [B, V, H, W, 3] as by `EnvObs.views`) → `EnvObs`."""
    views = images.shape[1]
    return EnvObs(
        main_images=images[:, 0],
        states=states,
        task_descriptions=instructions,
        wrist_images=images[:, 1] if views > 1 else None,
        extra_view_images=images[:, 2:] if views > 2 else None,
    )


class Policy(Protocol):
    """A VLA policy. `act` and `evaluate` give the same log-probs and values for the same weights, in any batch and padding."""

    action_dim: int
    chunk_len: int

    @property
    def model(self) -> torch.nn.Module:
        """What is trained, synchronised and checkpointed, a value head as the submodule ``value_head``; its parameters are
        float32, unless it was loaded to act only. Those that need no gradient are not trained, and are in no checkpoint: they
        are those of the folder that it was loaded from."""
        ...

    def prepare(self, obs: EnvObs) -> PolicyInputs:
        """Turn raw observations into model inputs on the device. The same function serves rollout and update."""
        ...

    def act(self, inputs: PolicyInputs, sampling: Sampling) -> ActionChunk:
        """Decide on a chunk of actions, without gradient."""
        ...

    def evaluate(self, inputs: PolicyInputs, sampled: Tensor, temperature: float) -> Evaluation:
        """Log-probs and entropy of ``sampled`` [B, T·D], and values, under the current weights, with gradient.

        Raises ValueError where the class is `PolicyFactory.untrainable`."""
        ...

    def value(self, inputs: PolicyInputs) -> Tensor:
        """The values that `act` would give, float32 [B, V] on the CPU, without deciding on an action. Not of a sharded model,
        and only with a value head."""
        ...

    def prompt_length(self, instruction: str) -> int:
        """Number of prompt tokens for an instruction, image tokens not counted."""
        ...

    def save(self, folder: str) -> None:
        """Write a Hugging Face-style folder that loads back as ``actor_rollout_ref.model.path``, with or without the value
        head."""
        ...


class PolicyFactory(Protocol):
    """What is registered: loads a policy folder onto a device."""

    untrainable: str
    """Why RL cannot train this class, whose `Policy.act` then knows no ``do_sample``; empty where it can."""

    continuous: bool
    """Whether what is drawn are numbers, from a Gaussian whose spread ``model.action_noise`` sets (`siirl.policies.gaussian`),
    and not tokens: then there is no ``top_k`` and no ``top_p``."""

    @staticmethod
    def longest_prompt(
        model: ModelConfig,
        embodied: EmbodiedConfig,
        instructions: Sequence[str],
        value_head: ValueHeadSettings | None = None,
    ) -> int:
        """Tokens of the longest prompt, image tokens not counted, from the folder without its weights.

        Raises ValueError as `load` does, for all that shows without reading the weights."""
        ...

    @staticmethod
    def load(
        model: ModelConfig,
        embodied: EmbodiedConfig,
        device: torch.device,
        acting_only: bool = False,
        value_head: ValueHeadSettings | None = None,
    ) -> Policy:
        """A policy with float32 weights. With ``acting_only`` and ``model.dtype`` ``bf16`` it may keep weights in bf16 where
        `act` does the same with them; the update refuses those. With ``value_head`` it has one, float32: the folder's if
        one was saved with it, else a new one, the same in every process.

        Raises ValueError naming what is wrong with the folder: no config, missing, surplus or mis-shaped parameters,
        unknown un-normalisation key, chunk or action sizes that contradict the checkpoint. With ``model.lora_rank`` > 0
        only adapters and the value head need a gradient (`siirl.policies.lora`). A policy that cannot take adapters, or a
        value head, raises ValueError."""
        ...

    @staticmethod
    def describe(path: str, num_images: int | None = None) -> EmbodiedConfig:
        """Settings that fit a folder: its class, action sizes, camera views (``num_images`` if given), and
        un-normalisation key if it has only one (else empty). Raises ValueError as `load` does, for all that shows without
        reading the weights, and when neither the folder nor the class nor ``num_images`` tells the views."""
        ...

    @staticmethod
    def check_settings(embodied: EmbodiedConfig) -> None:
        """Raises ValueError for settings that no folder of this class has."""
        ...

    @staticmethod
    def stored_tensors(path: Path) -> Iterator[StoredTensor]:
        """The trainable weights that lie in a folder, none of them read yet. Raises ValueError for a damaged file."""
        ...

    @staticmethod
    def write_surroundings(path: Path, folder: Path, embodied: EmbodiedConfig) -> bool:
        """Write into ``folder`` what makes a policy folder of weights alone, from that of ``path``; false, and nothing is
        written, where copies of its files are all that it takes. Raises ValueError as `load`."""
        ...


POLICIES: Registry[PolicyFactory] = Registry("embodied_type", "siirl.policies")


def stated_type(config: dict[str, Any], file: Path) -> str | None:
    """The ``embodied_type`` that a ``config.json`` states; None where it states none.

    Raises:
        ValueError: it is no string, or no policy has this name.
    """
    if "embodied_type" not in config:
        return None
    stated, known = config["embodied_type"], POLICIES.names()
    if not isinstance(stated, str) or stated not in known:
        hint = did_you_mean(str(stated), known)
        raise ValueError(
            f"{file}: embodied_type is {stated!r}; allowed: {', '.join(known)}.{hint} Correct it, or remove it and "
            "name the class yourself."
        )
    return stated
