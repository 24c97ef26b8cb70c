"""OpenVLA: a word for each dimension of one action, predicted one after the other.

Paper: Kim, Pertsch, Karamcheti et al., *OpenVLA: An Open-Source Vision-Language-Action Model* (2024). The probability of an
action is the product of its tokens', each a softmax over 256 bins given the observation and the tokens before it.
"""

import torch
from torch import Tensor

from siirl.policies.base import POLICIES, ActionChunk, Evaluation, PolicyInputs, Sampling
from siirl.policies.prismatic.causal import PrismaticCausal
from siirl.policies.prismatic.loading import Checkpoint
from siirl.policies.prismatic.parts import ACTION_HEAD
from siirl.policies.prismatic.policy import PrismaticPolicy, other_type
from siirl.policies.prismatic.sampling import evaluation, invert, truncate, uniforms
from siirl.policies.value_head import on_host


@POLICIES.register("openvla")
class OpenVLA(PrismaticPolicy):
    """The policy; its arguments are those of `PrismaticPolicy`."""

    embodied_type = "openvla"
    network = PrismaticCausal
    published_shape = (1, 7)
    only_chunk_len = 1
    published_views = 1
    model: PrismaticCausal

    @classmethod
    def check_architecture(cls, checkpoint: Checkpoint) -> None:
        """Raises ValueError for what only OpenVLA-OFT has: chunks, proprioception, or parts beside the weights."""
        super().check_architecture(checkpoint)
        config = checkpoint.config
        if checkpoint.parts:
            names = " and ".join(file.name for file in checkpoint.parts.values())
            right = "openvla-oft-l1" if ACTION_HEAD in checkpoint.parts else "openvla-oft"
            raise other_type(f"lies beside {names}", cls.embodied_type, right)
        if (chunk_len := config.get("action_chunks_len", 1)) != cls.only_chunk_len:
            raise other_type(f"says action_chunks_len {chunk_len}", cls.embodied_type, "openvla-oft")
        if config.get("use_proprio", False):
            raise other_type("says use_proprio", cls.embodied_type, "openvla-oft")

    @torch.no_grad()
    def action_logits(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor, action_tokens: Tensor | None = None
    ) -> Tensor:
        """Logits of the 256 action ids, float32 [B, 7, 256], without gradient.

        Args:
            input_ids, attention_mask: the prompt, right padded, [B, L].
            pixel_values: normalised pixels float32 [B, C, S, S], or uint8 images [B, 1, S, S, 3].
            action_tokens: ids int64 [B, 7] that precede the later positions; without them, the likeliest ids of the
                whole vocabulary, as in published (greedy) decoding.
        """
        with self.autocast():
            if action_tokens is None:
                return self.model.generate(input_ids, attention_mask.bool(), pixel_values, likeliest).logits
            return self.model(input_ids, attention_mask.bool(), pixel_values, action_tokens).logits

    def label_logits(self, inputs: PolicyInputs, labels: Tensor) -> Tensor:
        """Logits of every bin, given the ``labels`` (bins, int64 [B, 7]) of the dimensions before it: float32 [B, 7, 256], with
        gradient."""
        ids = labels.to(self.device) + self.model.first_action_id
        with self.autocast():
            return self.model(inputs["input_ids"], inputs["attention_mask"], inputs["images"], ids).logits

    @torch.no_grad()
    def act(self, inputs: PolicyInputs, sampling: Sampling) -> ActionChunk:
        """Decide on one action. Sampling draws from the bins; otherwise each id is the likeliest of the *whole* vocabulary,
        as published, and counts as the nearest bin. Log-probs are over the bins.

        ``sampled`` is int32 [B, 7], ids relative to bin 0's: bins, or beyond them where the likeliest id is no action. So
        `evaluate` sees the very ids that later ones were predicted from.
        """
        uniform = uniforms(sampling.seeds, self.model.num_action_tokens)
        first, last = self.model.first_action_id, self.model.vocab_size

        def choose(logits: Tensor, step: int) -> Tensor:
            log_probs = torch.log_softmax(logits[:, first:last] / sampling.temperature, dim=-1)
            return first + invert(truncate(log_probs, sampling.top_k, sampling.top_p), uniform[:, step])

        with self.autocast():
            ids, logits, values = self.model.generate(
                inputs["input_ids"],
                inputs["attention_mask"],
                inputs["images"],
                choose if sampling.do_sample else likeliest,
            )
        bins = self.nearest_bins(ids)
        log_probs = evaluation(logits, bins, sampling.temperature).log_probs
        sampled = (ids - first).to(torch.int32)
        return ActionChunk(self.decode(bins), sampled.cpu(), log_probs.cpu(), on_host(values))

    def evaluate(self, inputs: PolicyInputs, sampled: Tensor, temperature: float) -> Evaluation:
        """Log-probs and entropy of ``sampled`` [B, 7] (see `act`), float32 [B, 7], and values, with gradient, in one forward."""
        ids = sampled.to(self.device, torch.int64) + self.model.first_action_id
        with self.autocast():
            logits, values = self.model(inputs["input_ids"], inputs["attention_mask"], inputs["images"], ids)
        return evaluation(logits, self.nearest_bins(ids), temperature, values)

    @torch.no_grad()
    def value(self, inputs: PolicyInputs) -> Tensor:
        """See `siirl.policies.base.Policy.value`; from images and prompt alone."""
        with self.autocast():
            return self.model.value(inputs["input_ids"], inputs["attention_mask"], inputs["images"]).cpu()


def likeliest(logits: Tensor, step: int) -> Tensor:
    """Greedy choice over the whole vocabulary: [B, vocabulary] → [B]."""
    return logits.argmax(dim=-1)
