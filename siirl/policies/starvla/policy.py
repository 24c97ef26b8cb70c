"""StarVLA's policy: a framework acts, a Gaussian around what it regresses makes it a distribution."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from siirl.config.schema import EmbodiedConfig, ModelConfig, StarVLAConfig
from siirl.envs.base import EnvObs
from siirl.policies.base import (
    POLICIES,
    ActionChunk,
    Evaluation,
    PolicyInputs,
    Sampling,
    StoredTensor,
    ValueHeadSettings,
)
from siirl.policies.gaussian import (
    GaussianSettings,
    add_log_std,
    check_log_std,
    choose,
    gaussian_evaluation,
    save_log_std,
)
from siirl.policies.lora import add_adapters, layers_to_adapt, merged_state
from siirl.policies.prismatic.actions import find_statistics
from siirl.policies.prismatic.writing import write_weights
from siirl.policies.starvla.folder import KIND, PUBLISHED_VIEWS, PolicyFolder, write_surroundings
from siirl.policies.starvla.framework import FRAMEWORKS, Framework
from siirl.policies.starvla.network import Regression, StarVLANetwork
from siirl.policies.starvla.platform import ActionScale, fit_states, platform
from siirl.policies.starvla.weights import HEAD, check_weights, load_weights, stored_tensors
from siirl.policies.value_head import add_value_head, check_value_head, on_host, save_value_head

CHUNKS, DIMENSIONS = "predicts chunks of this many actions", "predicts actions of this many dimensions"
VIEWS = "was trained with this many camera views"


@POLICIES.register(KIND)
class StarVLA:
    """A policy of the contract in `siirl.policies.base`; conventions are in ``docs/policies.md``.

    Args:
        framework: network, prompts and images; the network has its spread.
        folder: config and statistics.
        embodied: camera views and un-normalisation key.
        model: type of computation, and which statistics un-normalise.
    """

    embodied_type: ClassVar[str] = KIND
    untrainable: ClassVar[str] = ""
    continuous: ClassVar[bool] = True

    def __init__(
        self, framework: Framework, folder: PolicyFolder, embodied: EmbodiedConfig, model: ModelConfig
    ) -> None:
        self.framework, self.folder, self.dtype = framework, folder, model.dtype
        self.model: StarVLANetwork = framework.model.eval()  # no Qwen-VL has dropout; act and evaluate must not differ
        self.device = next(self.model.parameters()).device
        self.robot = platform()
        self.num_images = embodied.num_images_in_input
        self.chunk_len, self.action_dim = framework.settings.chunk_len, framework.settings.action_dim
        self.statistics = find_statistics(folder.statistics, embodied.unnorm_key)
        self.scale = ActionScale.from_statistics(
            self.statistics["action"], model.starvla.action_stats_source, self.action_dim
        )

    @classmethod
    def load(
        cls,
        model: ModelConfig,
        embodied: EmbodiedConfig,
        device: torch.device,
        acting_only: bool = False,
        value_head: ValueHeadSettings | None = None,
    ) -> Self:
        """Load a policy folder, and add its spread, LoRA adapters if ``model.lora_rank`` says so, and a ``value_head``.

        Args:
            acting_only: see `siirl.policies.base.PolicyFactory.load`. Autocast rounds exactly the same weights, anew in every
                call, so what acts is the same bit for bit.

        Raises:
            ValueError: a file is missing or malformed; the base model is absent, or its tokenizer splits the action token;
                parameters are missing, surplus or mis-shaped; the un-normalisation key is unknown; chunk length, dimensions,
                camera views or framework contradict the checkpoint; ``target_modules`` names no layer of it; there is a value
                head or spread of other sizes.
        """
        folder, framework = cls._without_weights(model, embodied)
        network = framework.model
        half = network.halved_by_autocast() if acting_only and model.dtype == "bf16" else ()
        load_weights(network, folder, device, half)
        add_adapters(network, model)
        add_log_std(network, GaussianSettings.of(model), network.action_dim, folder.path)
        if value_head is not None:
            add_value_head(network, value_head, network.hidden_size, folder.path)
        if model.enable_gradient_checkpointing:
            network.enable_gradient_checkpointing()
        if model.use_torch_compile:
            network.compile_blocks()
        return cls(framework, folder, embodied, model)

    @classmethod
    def longest_prompt(
        cls,
        model: ModelConfig,
        embodied: EmbodiedConfig,
        instructions: Sequence[str],
        value_head: ValueHeadSettings | None = None,
    ) -> int:
        """Tokens of the longest prompt. Raises ValueError as `load` does."""
        folder, framework = cls._without_weights(model, embodied)
        network = framework.model
        check_weights(network, folder)
        layers_to_adapt(network, model)
        check_log_std(GaussianSettings.of(model), network.action_dim, folder.path)
        if value_head is not None:
            check_value_head(value_head, network.hidden_size, folder.path)
        views = embodied.num_images_in_input
        return max(framework.prompts.length(instruction, views) for instruction in instructions)

    @staticmethod
    def describe(path: str, num_images: int | None = None) -> EmbodiedConfig:
        """What a folder says of itself: action sizes, camera views, and its un-normalisation key if it has only one.

        Args:
            num_images: camera views, for a folder that does not say; otherwise those of the published policies, main and wrist.

        Raises:
            ValueError: a file other than the weights is missing or malformed.
        """
        folder = PolicyFolder.read(Path(path))
        settings, keys = folder.settings(), list(folder.statistics)
        return EmbodiedConfig(
            embodied_type=KIND,
            action_chunks_len=settings.chunk_len,
            action_token_len=settings.action_dim,
            num_images_in_input=num_images or folder.views or PUBLISHED_VIEWS,
            unnorm_key=keys[0] if len(keys) == 1 else "",
        )

    @staticmethod
    def stored_tensors(path: Path) -> Iterator[StoredTensor]:
        """See `siirl.policies.base.PolicyFactory`; names are those of now."""
        folder = PolicyFolder.read(path)
        tied = folder.vlm().tied
        return (stored for stored in stored_tensors(folder) if not (tied and stored[0] == HEAD))

    @staticmethod
    def write_surroundings(path: Path, folder: Path, embodied: EmbodiedConfig) -> bool:
        """Write config, statistics, tokenizer and processor, so that the base model's folder is no longer needed."""
        start = PolicyFolder.read(path)
        write_surroundings(start, start.vlm(), embodied.num_images_in_input, folder)
        return True

    @staticmethod
    def check_settings(embodied: EmbodiedConfig) -> None:
        """Raises ValueError for a robot that there is not, or whose actions have other dimensions."""
        robot = platform()
        if embodied.action_token_len != robot.action_dim:
            raise ValueError(
                f"actor_rollout_ref.embodied.action_token_len is {embodied.action_token_len}, but actions of {robot.name!r} "
                f"(ROBOT_PLATFORM) have {robot.action_dim} dimensions. Set it to {robot.action_dim}."
            )

    @classmethod
    def _without_weights(cls, model: ModelConfig, embodied: EmbodiedConfig) -> tuple[PolicyFolder, Framework]:
        """The folder, and the framework with its network on ``meta``. Raises ValueError where they contradict the config."""
        cls.check_settings(embodied)
        folder = PolicyFolder.read(Path(model.path))
        settings = folder.settings()
        wanted: StarVLAConfig = model.starvla
        section = "actor_rollout_ref.embodied", "actor_rollout_ref.model.starvla"
        for name, given, found, what in (  # what is expected comes last: in the shipped configs it follows the sizes
            (f"{section[1]}.framework_name", wanted.framework_name, settings.name, "is of the framework"),
            (f"{section[0]}.action_chunks_len", embodied.action_chunks_len, settings.chunk_len, CHUNKS),
            (f"{section[0]}.action_token_len", embodied.action_token_len, settings.action_dim, DIMENSIONS),
            (f"{section[1]}.expected_num_action_chunks", wanted.expected_num_action_chunks, settings.chunk_len, CHUNKS),
            (f"{section[1]}.expected_action_dim", wanted.expected_action_dim, settings.action_dim, DIMENSIONS),
            (f"{section[0]}.num_images_in_input", embodied.num_images_in_input, folder.views, VIEWS),
        ):
            if None not in (given, found) and given != found:
                raise ValueError(
                    f"{name} is {given}, but the checkpoint {what}: {found} ({folder.source}). Set it to {found}."
                )
        limits = find_statistics(folder.statistics, embodied.unnorm_key)["action"]
        ActionScale.from_statistics(limits, wanted.action_stats_source, settings.action_dim)
        kind = FRAMEWORKS.get(settings.name)
        with torch.device("meta"):
            return folder, kind(folder.vlm(), settings)

    def save(self, folder: str) -> None:
        """Write a Hugging Face-style folder, adapters merged in; without any it loads back bit for bit. It is complete: the base
        model's config, tokenizer and processor are in it. Spread and value head have files of their own."""
        to = Path(folder)
        write_surroundings(self.folder, self.framework.vlm, self.num_images, to)
        weights = merged_state(self.model)
        if self.model.tied:
            weights.pop(HEAD, None)
        write_weights(weights, lambda names: {n: weights[n].detach().cpu().contiguous() for n in names}, to)
        save_log_std(self.model, to)
        save_value_head(self.model, to)

    def prompt_length(self, instruction: str) -> int:
        """Number of prompt tokens for an instruction, image tokens not counted."""
        return self.framework.prompts.length(instruction, self.num_images)

    def prepare(self, obs: EnvObs) -> PolicyInputs:
        """Observations → ``input_ids`` int64 [B, L] (left padded), ``attention_mask`` bool [B, L] and ``images`` uint8
        [B, V, h, w, 3], views in the order main, extra, wrist.

        Raises:
            ValueError: the policy sees two views but the observation has no wrist images; a field is missing or of another
                batch size; states have neither 7 nor 8 values.
        """
        settings, prompts, images = self.framework.settings, self.framework.prompts, self.framework.images
        resized = np.stack([[images.resize(view) for view in views] for views in self._views(obs)])
        states = fit_states(np.asarray(obs.states), settings.state_dim or min(self.robot.state_dims), self.robot)
        words = [[images.words(view) for view in views] for views in resized]
        ids, mask = prompts.batch(obs.task_descriptions, words, None if settings.state_dim is None else states)
        inputs = {"input_ids": ids, "attention_mask": mask, "images": torch.from_numpy(resized)}
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in inputs.items()}

    def _views(self, obs: EnvObs) -> list[list[np.ndarray]]:
        """For each row its camera images in the published order."""
        if obs.main_images is None or obs.states is None or obs.task_descriptions is None:
            lacking = [n for n in ("main_images", "states", "task_descriptions") if getattr(obs, n) is None]
            raise ValueError(f"the observation has no {' and no '.join(lacking)}; StarVLA's policies need them.")
        stacks = [obs.main_images[:, None]]
        if obs.extra_view_images is not None:
            stacks.append(obs.extra_views())
        if self.num_images == 2:
            if obs.wrist_images is None:
                raise ValueError(
                    "num_images_in_input is 2 but the environment gives no wrist images; set "
                    "actor_rollout_ref.embodied.num_images_in_input=1 (load_policy: num_images=1) if the policy was trained "
                    "with one view, or use an env_type with a wrist camera (outside of a run: give wrist_images)."
                )
            stacks.append(obs.wrist_images[:, None])
        if len({len(stack) for stack in stacks} | {len(obs.states), len(obs.task_descriptions)}) > 1:
            raise ValueError("the observation's images, states and task_descriptions are not of one batch size.")
        return [[view for stack in stacks for view in stack[row]] for row in range(len(obs.main_images))]

    def autocast(self) -> torch.autocast:
        """The context of every forward: computes in bf16 when the policy's dtype says so."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bf16")

    def forward(self, inputs: PolicyInputs) -> Regression:
        """Regressed actions, their spread and values, with gradient."""
        flat = list(inputs["images"].flatten(0, 1))
        pixel_values, grid = self.framework.images.patches(flat)
        with self.autocast():
            return self.model(inputs["input_ids"], inputs["attention_mask"], pixel_values, grid)

    def regress(self, inputs: PolicyInputs) -> Tensor:
        """Normalised actions float32 [B, T, D], with gradient."""
        return self.forward(inputs).mean

    def normalise(self, actions: np.ndarray) -> np.ndarray:
        """The environment's actions [..., D] as the policy regresses them, float32 [..., D]."""
        return self.scale.normalise(actions)

    @torch.no_grad()
    def act(self, inputs: PolicyInputs, sampling: Sampling) -> ActionChunk:
        """Decide on chunks: draws around what the network regresses, or that itself. ``sampled`` is normalised and not clipped,
        float32 [B, T·D]; clipping and the gripper's decision are part of un-normalisation."""
        found = self.forward(inputs)
        assert found.std is not None, "what is loaded has a spread"
        sampled = choose(found.mean, found.std, sampling)
        log_probs = gaussian_evaluation(found.mean, found.std, sampled, sampling.temperature).log_probs
        chunks = sampled.view(-1, self.chunk_len, self.action_dim).cpu().numpy()
        actions = torch.from_numpy(self.scale.unnormalise(chunks))
        return ActionChunk(actions, sampled.cpu(), log_probs.cpu(), on_host(found.values))

    def evaluate(self, inputs: PolicyInputs, sampled: Tensor, temperature: float) -> Evaluation:
        """Log-densities and entropy of ``sampled`` [B, T·D] (see `act`), float32 [B, T·D], and values, with gradient."""
        found = self.forward(inputs)
        assert found.std is not None, "what is loaded has a spread"
        return gaussian_evaluation(found.mean, found.std, sampled.to(self.device), temperature, found.values)

    @torch.no_grad()
    def value(self, inputs: PolicyInputs) -> Tensor:
        """See `siirl.policies.base.Policy.value`; the whole network, whose action head costs next to nothing."""
        values = self.forward(inputs).values
        assert values is not None, "there is no value head"
        return values.cpu()
