"""OpenVLA-OFT with discrete action tokens and parallel decoding: one forward predicts a chunk of actions.

Paper: Kim, Finn, Liang, *Fine-Tuning Vision-Language-Action Models: Optimizing Speed and Success* (2025). Sampling treats the K =
chunk × dimensions tokens as independent given the observation, each a softmax over its 256 bins.
"""

import torch
from torch import Tensor

from siirl.policies.base import POLICIES, ActionChunk, Evaluation, PolicyInputs, Sampling
from siirl.policies.prismatic.loading import Checkpoint
from siirl.policies.prismatic.model import Prediction
from siirl.policies.prismatic.oft import OFTPolicy
from siirl.policies.prismatic.parallel import PrismaticOFT
from siirl.policies.prismatic.parts import ACTION_HEAD
from siirl.policies.prismatic.sampling import draw, evaluation, truncate
from siirl.policies.value_head import on_host


@POLICIES.register("openvla-oft")
class OpenVLAOFT(OFTPolicy):
    """The policy; its arguments are those of `PrismaticPolicy`."""

    embodied_type = "openvla-oft"
    network = PrismaticOFT
    published_shape = (8, 7)
    model: PrismaticOFT

    @classmethod
    def check_architecture(cls, checkpoint: Checkpoint) -> None:
        """Raises ValueError for a regression head beside the weights, unless the config states that the action tokens are
        the policy: whoever trained the head may have left them untrained."""
        super().check_architecture(checkpoint)
        if ACTION_HEAD in checkpoint.parts and "embodied_type" not in checkpoint.config:
            raise ValueError(
                f"this checkpoint regresses actions: there is {checkpoint.parts[ACTION_HEAD].name}. It has no distribution to "
                "train by RL; to evaluate it, set actor_rollout_ref.embodied.embodied_type=openvla-oft-l1 and "
                "trainer.val_only=true. If its action tokens were trained too and you mean those, add "
                f'"embodied_type": "{cls.embodied_type}" to its config.json.'
            )

    def action_logits(self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor) -> Tensor:
        """Logits of the 256 action ids for normalised pixels float32 [B, V·C, S, S] → float32 [B, K, 256]."""
        with self.autocast():
            return self.model(input_ids, attention_mask.bool(), pixel_values).logits

    def bin_logits(self, inputs: PolicyInputs) -> Tensor:
        """Logits of every bin, float32 [B, K, 256], with gradient. Bin ``b`` is token ``vocab_size − 256 + b``."""
        return self._forward(inputs).logits

    def label_logits(self, inputs: PolicyInputs, labels: Tensor) -> Tensor:
        """`bin_logits`: no bin is predicted from others, so that ``labels`` are not looked at."""
        return self.bin_logits(inputs)

    def _forward(self, inputs: PolicyInputs, whole_vocabulary: bool = False) -> Prediction:
        with self.autocast():
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
            logits, values = self._forward(inputs)
            log_probs = torch.log_softmax(logits / sampling.temperature, dim=-1)
            bins = draw(truncate(log_probs, sampling.top_k, sampling.top_p), sampling.seeds)
        else:
            logits, values = self._forward(inputs, whole_vocabulary=True)
            bins = self.nearest_bins(logits.argmax(dim=-1))
            logits = logits[..., self.model.first_action_id : self.model.vocab_size]
        log_probs = evaluation(logits, bins, sampling.temperature).log_probs
        return ActionChunk(self.decode(bins), bins.to(torch.int16).cpu(), log_probs.cpu(), on_host(values))

    def evaluate(self, inputs: PolicyInputs, sampled: Tensor, temperature: float) -> Evaluation:
        """Log-probs and entropy of ``sampled`` bins [B, K], float32 [B, K], and values, with gradient."""
        logits, values = self._forward(inputs)
        return evaluation(logits, sampled.to(self.device, torch.int64), temperature, values)

    @torch.no_grad()
    def value(self, inputs: PolicyInputs) -> Tensor:
        """See `siirl.policies.base.Policy.value`; the whole network but its output head."""
        prompt = inputs["input_ids"], inputs["attention_mask"]
        with self.autocast():
            return self.model.value(*prompt, inputs["images"], inputs.get("proprio")).cpu()
