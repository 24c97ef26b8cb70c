"""OpenVLA-OFT with discrete action tokens and parallel decoding: one forward predicts a chunk of actions.

Paper: Kim, Finn, Liang, *Fine-Tuning Vision-Language-Action Models: Optimizing Speed and Success* (2025). Sampling treats the K =
chunk × dimensions tokens as independent given the observation, each a softmax over its 256 bins.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from siirl.config.schema import EmbodiedConfig, ModelConfig
from siirl.envs.base import EnvObs
from siirl.policies.base import POLICIES, ActionChunk, Evaluation, PolicyInputs, Sampling
from siirl.policies.images import openvla_image
from siirl.policies.prismatic.actions import ActionCodec, Bounds, find_statistics
from siirl.policies.prismatic.loading import Checkpoint, check_weights, load_weights
from siirl.policies.prismatic.model import PrismaticOFT
from siirl.policies.prismatic.prompt import Prompts

CHUNK_LEN, ACTION_DIM = 8, 7  # of the published LIBERO checkpoints, whose config.json does not state them


@POLICIES.register("openvla-oft")
class OpenVLAOFT:
    """The policy of the contract in `siirl.policies.base`; conventions are in ``docs/policies.md``.

    Args:
        model: the network, with its weights, on the policy's device.
        checkpoint: config, statistics and tokenizer.
        embodied: image views, centre crop and un-normalisation key.
        dtype: ``bf16`` runs act and evaluate under autocast; weights stay float32.
    """

    def __init__(self, model: PrismaticOFT, checkpoint: Checkpoint, embodied: EmbodiedConfig, dtype: str) -> None:
        self.model = model.eval()  # the network has no dropout; act and evaluate must not differ
        self.checkpoint = checkpoint
        self.device = next(model.parameters()).device
        self.dtype = dtype
        self.num_images = embodied.num_images_in_input
        self.center_crop = embodied.center_crop
        self.chunk_len, self.action_dim = _action_shape(checkpoint.config)
        statistics = find_statistics(checkpoint.statistics, embodied.unnorm_key)
        self.codec = ActionCodec(Bounds.from_statistics(statistics["action"]), model.num_bins)
        self.use_proprio = bool(checkpoint.config.get("use_proprio", False))
        self.proprio_bounds = (
            _proprio_bounds(statistics, checkpoint.config["proprio_dim"]) if self.use_proprio else None
        )
        self.prompts = Prompts(checkpoint)

    @classmethod
    def build(
        cls, checkpoint: Checkpoint, embodied: EmbodiedConfig, dtype: str = "fp32", device: str = "cpu"
    ) -> "OpenVLAOFT":
        """A policy with random weights, for supervised fine-tuning from scratch and for tests."""
        model = PrismaticOFT(checkpoint.config, int(np.prod(_action_shape(checkpoint.config)))).to(device)
        return cls(model, checkpoint, embodied, dtype)

    @classmethod
    def from_config(cls, config: dict[str, Any], num_images: int = 1) -> "OpenVLAOFT":
        """A policy with random weights from a ``config.json``; it un-normalises by the first of its ``norm_stats`` and, without
        a tokenizer, cannot read prompts."""
        embodied = EmbodiedConfig(num_images_in_input=num_images, unnorm_key=next(iter(config["norm_stats"])))
        return cls.build(Checkpoint(config, config["norm_stats"]), embodied)

    @staticmethod
    def longest_prompt(model: ModelConfig, embodied: EmbodiedConfig, instructions: Sequence[str]) -> int:
        """Tokens of the longest prompt. Raises ValueError as `load` does; names and shapes of weights are in their headers."""
        folder = Path(model.path)
        checkpoint = Checkpoint.read(folder)
        check_weights(_network(checkpoint, embodied), folder)
        prompts = Prompts(checkpoint)
        return max(len(prompts.tokens(instruction)) for instruction in instructions)

    @staticmethod
    def load(model: ModelConfig, embodied: EmbodiedConfig, device: torch.device) -> "OpenVLAOFT":
        """Load a policy folder.

        Raises:
            ValueError: a file is missing or malformed; parameters are missing, surplus or mis-shaped; the un-normalisation
                key is unknown; ``action_token_len``, ``action_chunks_len`` or ``num_images_in_input`` contradict the
                checkpoint.
        """
        folder = Path(model.path)
        checkpoint = Checkpoint.read(folder)
        network = _network(checkpoint, embodied)
        load_weights(network, folder, device)
        network.restore_buffers(device)
        if (statistics := checkpoint.pixel_statistics) is not None:
            network.vision_backbone.normalisation = statistics
        if model.enable_gradient_checkpointing:
            network.enable_gradient_checkpointing()
        return OpenVLAOFT(network, checkpoint, embodied, model.dtype)

    def save(self, folder: str) -> None:
        """Write a Hugging Face-style folder that loads back bit for bit."""
        self.checkpoint.write(Path(folder), self.model)

    def prompt_length(self, instruction: str) -> int:
        """Number of prompt tokens for an instruction, image tokens not counted."""
        return len(self.prompts.tokens(instruction))

    def prepare(self, obs: EnvObs) -> PolicyInputs:
        """Observations → ``input_ids`` int64 [B, L] (right padded), ``attention_mask`` bool [B, L], ``images`` uint8
        [B, V, S, S, 3] and, when the checkpoint uses proprioception, ``proprio`` float32 [B, D] in [−1, 1].

        Raises:
            ValueError: the policy sees two views but the observation has no wrist images.
        """
        inputs = dict(zip(("input_ids", "attention_mask"), self.prompts.batch(obs.task_descriptions), strict=True))
        inputs["images"] = torch.from_numpy(self._images(obs))
        if self.proprio_bounds is not None:
            inputs["proprio"] = torch.from_numpy(self.proprio_bounds.normalise(obs.states).astype(np.float32))
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in inputs.items()}

    def _images(self, obs: EnvObs) -> np.ndarray:
        """Every view as the network sees it, uint8 [B, V, S, S, 3]."""
        views = [obs.main_images]
        if self.num_images == 2:
            if obs.wrist_images is None:
                raise ValueError(
                    "num_images_in_input is 2 but the environment gives no wrist images; "
                    "set actor_rollout_ref.embodied.num_images_in_input=1 or use an env_type with a wrist camera."
                )
            views.append(obs.wrist_images)
        size = self.model.vision_backbone.image_size
        return np.stack([[openvla_image(f, size, self.center_crop) for f in row] for row in zip(*views, strict=True)])

    def action_logits(self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor) -> Tensor:
        """Logits of the 256 action ids for normalised pixels float32 [B, V·C, S, S] → float32 [B, K, 256]."""
        return self.model(input_ids, attention_mask.bool(), pixel_values)

    def bin_logits(self, inputs: PolicyInputs) -> Tensor:
        """Logits of every bin, float32 [B, K, 256], with gradient. Bin ``b`` is token ``vocab_size − 256 + b``."""
        return self._forward(inputs)

    def _forward(self, inputs: PolicyInputs, whole_vocabulary: bool = False) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bf16"):
            return self.model(
                inputs["input_ids"],
                inputs["attention_mask"],
                inputs["images"],
                inputs.get("proprio"),
                whole_vocabulary=whole_vocabulary,
            )

    @torch.no_grad()
    def act(self, inputs: PolicyInputs, sampling: Sampling) -> ActionChunk:
        """Decide on chunks. Sampling draws from the bins; otherwise the argmax over the *whole* vocabulary is taken, as
        published, and an id outside of the action tokens counts as the nearest bin. Log-probs are over the bins."""
        if sampling.do_sample:
            logits = self.bin_logits(inputs)
            log_probs = torch.log_softmax(logits / sampling.temperature, dim=-1)
            bins = draw(log_probs, sampling.seeds)
        else:
            logits = self._forward(inputs, whole_vocabulary=True)
            first, last = self.model.vocab_size - self.model.num_bins, self.model.vocab_size
            bins = (logits.argmax(dim=-1) - first).clamp(0, self.model.num_bins - 1)
            log_probs = torch.log_softmax(logits[..., first:last] / sampling.temperature, dim=-1)
        chosen = log_probs.gather(-1, bins[..., None])[..., 0]
        return ActionChunk(actions=self.decode(bins), sampled=bins.to(torch.int16).cpu(), log_probs=chosen.cpu())

    def decode(self, bins: Tensor) -> Tensor:
        """Bins [B, K] → un-normalised actions float32 [B, T, D] on the CPU."""
        chunks = bins.view(-1, self.chunk_len, self.action_dim).cpu().numpy()
        return torch.from_numpy(self.codec.decode(chunks)).float()

    def evaluate(self, inputs: PolicyInputs, sampled: Tensor, temperature: float) -> Evaluation:
        """Log-probs and entropy of ``sampled`` bins [B, K], float32 [B, K], with gradient."""
        log_probs = torch.log_softmax(self.bin_logits(inputs) / temperature, dim=-1)
        chosen = log_probs.gather(-1, sampled.to(self.device, torch.int64)[..., None])[..., 0]
        return Evaluation(log_probs=chosen, entropy=-(log_probs.exp() * log_probs).sum(dim=-1))


def draw(log_probs: Tensor, seeds: Sequence[int]) -> Tensor:
    """One bin per token by inverting the distribution function: [B, K, 256] → int64 [B, K].

    A row's uniform numbers come from its own generator on the CPU, so a draw does not depend on the batch or the device.
    """
    rows = [
        torch.rand(log_probs.shape[1], generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in seeds
    ]
    cumulative = log_probs.double().exp().cumsum(dim=-1)
    uniform = torch.stack(rows).to(log_probs.device)[..., None]
    bins = torch.searchsorted(cumulative, uniform * cumulative[..., -1:], right=True)[..., 0]
    return bins.clamp(max=log_probs.shape[-1] - 1)  # NaN logits would end up one behind the last bin


def _proprio_bounds(statistics: dict[str, Any], proprio_dim: int) -> Bounds:
    dims = len(statistics.get("proprio", {}).get("q01", []))
    if dims != proprio_dim:
        raise ValueError(
            f"the checkpoint's config.json says use_proprio with proprio_dim {proprio_dim}, but its dataset statistics describe "
            f"{dims} proprioceptive values; add them under 'proprio' (q01, q99) or set use_proprio to false."
        )
    return Bounds.from_statistics(statistics["proprio"])


def _action_shape(config: dict[str, Any]) -> tuple[int, int]:
    """(chunk length, dimensions) of a checkpoint."""
    return config.get("action_chunks_len", CHUNK_LEN), config.get("action_token_len", ACTION_DIM)


def _network(checkpoint: Checkpoint, embodied: EmbodiedConfig) -> PrismaticOFT:
    """The network on ``meta``, without weights. Raises ValueError when the config contradicts the checkpoint."""
    _check_sizes(checkpoint, embodied)
    with torch.device("meta"):
        return PrismaticOFT(checkpoint.config, embodied.action_chunks_len * embodied.action_token_len)


def _check_sizes(checkpoint: Checkpoint, embodied: EmbodiedConfig) -> None:
    chunk_len, action_dim = _action_shape(checkpoint.config)
    dims = len(find_statistics(checkpoint.statistics, embodied.unnorm_key)["action"]["q01"])
    views = checkpoint.config.get("num_images_in_input", embodied.num_images_in_input)
    for name, given, allowed, source in (
        ("action_chunks_len", embodied.action_chunks_len, chunk_len, "predicts chunks of this many actions"),
        ("action_token_len", embodied.action_token_len, action_dim, "predicts actions of this many dimensions"),
        ("action_token_len", embodied.action_token_len, dims, "has statistics of this many dimensions"),
        ("num_images_in_input", embodied.num_images_in_input, views, "was trained with this many camera views"),
    ):
        if given != allowed:
            raise ValueError(
                f"actor_rollout_ref.embodied.{name} is {given}, but the checkpoint {source}: {allowed}. Set it to {allowed}."
            )
