"""What the policies OpenVLA and OpenVLA-OFT share: their folder, prompts, images and un-normalisation."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from siirl.config.schema import EmbodiedConfig, ModelConfig
from siirl.envs.base import EnvObs
from siirl.policies.base import ActionChunk, Evaluation, PolicyInputs, Sampling, StoredTensor, ValueHeadSettings
from siirl.policies.images import openvla_image
from siirl.policies.lora import add_adapters, layers_to_adapt
from siirl.policies.prismatic.actions import LIMITS, NORMALIZATION, ActionCodec, Bounds, find_statistics
from siirl.policies.prismatic.loading import Checkpoint, check_weights, load_weights, stored_tensors
from siirl.policies.prismatic.model import PrismaticVLA
from siirl.policies.prismatic.parts import PROPRIO_PROJECTOR, find_parts
from siirl.policies.prismatic.prompt import Prompts
from siirl.policies.value_head import add_value_head, check_value_head


class PrismaticPolicy(ABC):
    """A policy of the contract in `siirl.policies.base`; conventions are in ``docs/policies.md``.

    A subclass gives the network, `act` and `evaluate`.

    Args:
        model: the network, with its weights, on the policy's device.
        checkpoint: config, statistics and tokenizer.
        embodied: image views, centre crop and un-normalisation key.
        dtype: ``bf16`` runs act and evaluate under autocast.
    """

    embodied_type: ClassVar[str]
    """The name it is registered under; `save` writes it into ``config.json``."""
    network: ClassVar[type[PrismaticVLA]]
    published_shape: ClassVar[tuple[int, int]]
    """(chunk length, dimensions) of the published checkpoints, whose ``config.json`` does not state them."""
    only_chunk_len: ClassVar[int | None] = None
    """Chunk length of every checkpoint there can be; None where it is not the same."""
    published_views: ClassVar[int | None] = None
    """Camera views of all of them; None where it is not the same."""
    untrainable: ClassVar[str] = ""
    continuous: ClassVar[bool] = False
    """Both: see `siirl.policies.base.PolicyFactory`."""

    def __init__(self, model: PrismaticVLA, checkpoint: Checkpoint, embodied: EmbodiedConfig, dtype: str) -> None:
        self.model = model.eval()  # the network has no dropout; act and evaluate must not differ
        self.checkpoint = checkpoint
        self.device = next(model.parameters()).device
        self.dtype = dtype
        self.num_images = embodied.num_images_in_input
        self.center_crop = embodied.center_crop
        self.chunk_len, self.action_dim = self.action_shape(checkpoint.config)
        self.statistics = find_statistics(checkpoint.statistics, embodied.unnorm_key)
        self.codec = ActionCodec(self.bounds("action"), model.num_bins)
        self.prompts = Prompts(checkpoint)

    def bounds(self, entry: str) -> Bounds:
        """Normalisation of an entry of the statistics, ``action`` or ``proprio``, of the kind that the config states."""
        kind = self.checkpoint.config.get(NORMALIZATION, next(iter(LIMITS)))
        return Bounds.from_statistics(self.statistics.get(entry, {}), kind)

    @classmethod
    def action_shape(cls, config: dict[str, Any]) -> tuple[int, int]:
        """(chunk length, dimensions) of a checkpoint."""
        chunk_len, action_dim = cls.published_shape
        return config.get("action_chunks_len", chunk_len), config.get("action_token_len", action_dim)

    @classmethod
    def build(
        cls,
        checkpoint: Checkpoint,
        embodied: EmbodiedConfig,
        dtype: str = "fp32",
        device: str | torch.device = "cpu",
    ) -> Self:
        """A policy with random weights, made where it computes, for supervised fine-tuning from scratch and for tests."""
        with torch.device(device):
            model = cls.network(checkpoint.config, int(np.prod(cls.action_shape(checkpoint.config))))
        return cls(model, checkpoint, embodied, dtype)

    @classmethod
    def from_config(cls, config: dict[str, Any], num_images: int = 1) -> Self:
        """A policy with random weights from a ``config.json``; it un-normalises by the first of its ``norm_stats`` and,
        without a tokenizer, cannot read prompts."""
        embodied = EmbodiedConfig(num_images_in_input=num_images, unnorm_key=next(iter(config["norm_stats"])))
        return cls.build(Checkpoint(config, config["norm_stats"]), embodied)

    @classmethod
    def longest_prompt(
        cls,
        model: ModelConfig,
        embodied: EmbodiedConfig,
        instructions: Sequence[str],
        value_head: ValueHeadSettings | None = None,
    ) -> int:
        """Tokens of the longest prompt. Raises ValueError as `load` does; names and shapes of weights are in their headers."""
        folder = Path(model.path)
        checkpoint = Checkpoint.read(folder)
        network = cls._without_weights(checkpoint, embodied)
        check_weights(network, folder)
        layers_to_adapt(network, model)
        if value_head is not None:
            cls._check_takes_value_head()
            check_value_head(value_head, network.hidden_size, folder)
        prompts = Prompts(checkpoint)
        return max(len(prompts.tokens(instruction)) for instruction in instructions)

    @classmethod
    def load(
        cls,
        model: ModelConfig,
        embodied: EmbodiedConfig,
        device: torch.device,
        acting_only: bool = False,
        value_head: ValueHeadSettings | None = None,
    ) -> Self:
        """Load a policy folder, and add LoRA adapters if ``model.lora_rank`` says so, and a ``value_head``.

        Args:
            acting_only: see `siirl.policies.base.PolicyFactory.load`. Autocast rounds exactly the same weights, anew in every
                call, so what acts is the same bit for bit.
            value_head: see `siirl.policies.value_head.add_value_head`.

        Raises:
            ValueError: a file is missing or malformed; the folder is of another architecture; parameters are missing,
                surplus or mis-shaped; the un-normalisation key is unknown; ``action_token_len``, ``action_chunks_len``
                or ``num_images_in_input`` contradict the checkpoint; ``target_modules`` names no layer of it; there is a
                value head of other sizes, or the class is `untrainable` and takes none.
        """
        if value_head is not None:
            cls._check_takes_value_head()
        folder = Path(model.path)
        checkpoint = Checkpoint.read(folder)
        network = cls._without_weights(checkpoint, embodied)
        load_weights(
            network, folder, device, network.halved_by_autocast() if acting_only and model.dtype == "bf16" else ()
        )
        network.restore_buffers(device)
        if (statistics := checkpoint.pixel_statistics) is not None:
            network.vision_backbone.normalisation = statistics
        add_adapters(network, model)
        if value_head is not None:
            add_value_head(network, value_head, network.hidden_size, folder)
        if model.enable_gradient_checkpointing:
            network.enable_gradient_checkpointing()
        if model.use_torch_compile:
            network.compile_blocks()
        return cls(network, checkpoint, embodied, model.dtype)

    @classmethod
    def describe(cls, path: str, num_images: int | None = None) -> EmbodiedConfig:
        """What a folder says of itself: action sizes, camera views, and its un-normalisation key if it has only one.

        Args:
            num_images: camera views, for a folder that does not say.

        Raises:
            ValueError: a file other than the weights is missing or malformed, the folder is of another architecture, or
                nothing tells the camera views.
        """
        checkpoint = Checkpoint.read(Path(path))
        cls.check_architecture(checkpoint)
        chunk_len, action_dim = cls.action_shape(checkpoint.config)
        views = num_images or checkpoint.config.get("num_images_in_input", cls.published_views)
        if views is None:
            raise ValueError(
                f"{path!r} does not say how many camera views the policy was trained with (num_images_in_input of its "
                "config.json); give num_images, 1 for the main view, 2 for main and wrist."
            )
        keys = list(checkpoint.statistics)
        return EmbodiedConfig(
            embodied_type=cls.embodied_type,
            action_chunks_len=chunk_len,
            action_token_len=action_dim,
            num_images_in_input=views,
            unnorm_key=keys[0] if len(keys) == 1 else "",
        )

    @classmethod
    def check_settings(cls, embodied: EmbodiedConfig) -> None:
        """Raises ValueError for settings that no folder of this class has."""
        if cls.only_chunk_len not in (None, embodied.action_chunks_len):
            raise ValueError(
                f"actor_rollout_ref.embodied.action_chunks_len is {embodied.action_chunks_len}, but {cls.embodied_type!r} "
                f"always predicts chunks of {cls.only_chunk_len}. Set it to {cls.only_chunk_len}, or "
                "actor_rollout_ref.embodied.embodied_type to another class."
            )

    @staticmethod
    def stored_tensors(path: Path) -> Iterator[StoredTensor]:
        """See `siirl.policies.base.PolicyFactory`. Of the parts beside the weights, the other one regresses actions: no
        policy that trains has it."""
        parts = {part: file for part, file in find_parts(path).items() if part == PROPRIO_PROJECTOR}
        for name, shape, stored in stored_tensors(path, parts):
            yield name, shape, partial(stored.__getitem__, ...)

    @staticmethod
    def write_surroundings(path: Path, folder: Path, embodied: EmbodiedConfig) -> bool:
        """See `siirl.policies.base.PolicyFactory`: its files can be copied."""
        return False

    @classmethod
    def check_architecture(cls, checkpoint: Checkpoint) -> None:
        """Raises ValueError for a ``config.json`` that states another ``embodied_type``."""
        if (stated := checkpoint.config.get("embodied_type", cls.embodied_type)) != cls.embodied_type:
            raise other_type(f"says embodied_type {stated!r}", cls.embodied_type, stated)

    @classmethod
    def _without_weights(cls, checkpoint: Checkpoint, embodied: EmbodiedConfig) -> PrismaticVLA:
        """The network on ``meta``. Raises ValueError when the config contradicts the checkpoint."""
        cls.check_architecture(checkpoint)
        cls.check_settings(embodied)
        cls._check_sizes(checkpoint, embodied)
        with torch.device("meta"):
            return cls.network(checkpoint.config, embodied.action_chunks_len * embodied.action_token_len)

    @classmethod
    def _check_takes_value_head(cls) -> None:
        if cls.untrainable:
            raise ValueError(
                f"critic.use_critic_model is true, but {cls.embodied_type!r} takes no value head: {cls.untrainable}, or set "
                "critic.use_critic_model=false."
            )

    @classmethod
    def _check_sizes(cls, checkpoint: Checkpoint, embodied: EmbodiedConfig) -> None:
        chunk_len, action_dim = cls.action_shape(checkpoint.config)
        dims = len(find_statistics(checkpoint.statistics, embodied.unnorm_key)["action"]["q01"])
        views = checkpoint.config.get("num_images_in_input", cls.published_views or embodied.num_images_in_input)
        for name, given, allowed, source in (
            ("action_chunks_len", embodied.action_chunks_len, chunk_len, "predicts chunks of this many actions"),
            ("action_token_len", embodied.action_token_len, action_dim, "predicts actions of this many dimensions"),
            ("action_token_len", embodied.action_token_len, dims, "has statistics of this many dimensions"),
            ("num_images_in_input", embodied.num_images_in_input, views, "was trained with this many camera views"),
        ):
            if given != allowed:
                raise ValueError(
                    f"actor_rollout_ref.embodied.{name} is {given}, but the checkpoint {source}: {allowed}. "
                    f"Set it to {allowed}{f' (load_policy: num_images={allowed})' if name == 'num_images_in_input' else ''}."
                )

    def save(self, folder: str) -> None:
        """Write a Hugging Face-style folder, adapters merged in; without any it loads back bit for bit. Its config.json states
        class and camera views. Weights that rest in bf16 are written so, a value head into a file of its own."""
        stated = {"embodied_type": self.embodied_type, "num_images_in_input": self.num_images}
        config = {**self.checkpoint.config, **stated}
        replace(self.checkpoint, config=config).write(Path(folder), self.model)

    def prompt_length(self, instruction: str) -> int:
        """Number of prompt tokens for an instruction, image tokens not counted."""
        return len(self.prompts.tokens(instruction))

    def prepare(self, obs: EnvObs) -> PolicyInputs:
        """Observations → ``input_ids`` int64 [B, L] (right padded), ``attention_mask`` bool [B, L] and ``images`` uint8
        [B, V, S, S, 3].

        Raises:
            ValueError: the policy sees two views but the observation has no wrist images.
        """
        inputs = dict(zip(("input_ids", "attention_mask"), self.prompts.batch(obs.task_descriptions), strict=True))
        inputs["images"] = torch.from_numpy(self._images(obs))
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in inputs.items()}

    def _images(self, obs: EnvObs) -> np.ndarray:
        """Every view as the network sees it, uint8 [B, V, S, S, 3]."""
        views = [obs.main_images]
        if self.num_images == 2:
            if obs.wrist_images is None:
                raise ValueError(
                    "num_images_in_input is 2 but the environment gives no wrist images; "
                    "set actor_rollout_ref.embodied.num_images_in_input=1 (load_policy: num_images=1) if the policy was trained "
                    "with one view, or use an env_type with a wrist camera (outside of a run: give wrist_images)."
                )
            views.append(obs.wrist_images)
        size = self.model.vision_backbone.image_size
        return np.stack([[openvla_image(f, size, self.center_crop) for f in row] for row in zip(*views, strict=True)])

    def autocast(self) -> torch.autocast:
        """The context of every forward: computes in bf16 when the policy's dtype says so."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bf16")

    def nearest_bins(self, ids: Tensor) -> Tensor:
        """Token ids → bins; the published code takes an id that is no action for the nearest one."""
        return (ids - self.model.first_action_id).clamp(0, self.model.num_bins - 1)

    def decode(self, bins: Tensor) -> Tensor:
        """Bins [B, K] → un-normalised actions float32 [B, T, D] on the CPU."""
        chunks = bins.view(-1, self.chunk_len, self.action_dim).cpu().numpy()
        return torch.from_numpy(self.codec.decode(chunks)).float()

    @abstractmethod
    def act(self, inputs: PolicyInputs, sampling: Sampling) -> ActionChunk:
        """See `siirl.policies.base.Policy.act`."""

    @abstractmethod
    def evaluate(self, inputs: PolicyInputs, sampled: Tensor, temperature: float) -> Evaluation:
        """See `siirl.policies.base.Policy.evaluate`."""

    @abstractmethod
    def value(self, inputs: PolicyInputs) -> Tensor:
        """See `siirl.policies.base.Policy.value`."""


def other_type(states: str, loaded_as: str, right: str) -> ValueError:
    """The error for a folder of another architecture."""
    return ValueError(
        f"the checkpoint's config.json {states}, so it cannot be loaded as {loaded_as!r}. "
        f"Set actor_rollout_ref.embodied.embodied_type={right} (load_policy: embodied_type={right!r})."
    )
