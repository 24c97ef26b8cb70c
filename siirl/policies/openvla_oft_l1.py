"""OpenVLA-OFT with an L1 regression head, as published for LIBERO: one forward yields a chunk of actions as numbers.

Paper: Kim, Finn, Liang, *Fine-Tuning Vision-Language-Action Models: Optimizing Speed and Success* (2025). There is one chunk for
an observation, not a distribution of them, so the policy can be evaluated but not trained by RL.
"""

import torch
from torch import Tensor

from siirl.policies.base import POLICIES, ActionChunk, Evaluation, PolicyInputs, Sampling
from siirl.policies.prismatic.loading import Checkpoint
from siirl.policies.prismatic.oft import OFTPolicy
from siirl.policies.prismatic.parts import ACTION_HEAD
from siirl.policies.prismatic.policy import other_type
from siirl.policies.prismatic.regression import ACTION_DIM, PrismaticRegression


@POLICIES.register("openvla-oft-l1")
class OpenVLAOFTL1(OFTPolicy):
    """The policy; its arguments are those of `PrismaticPolicy`."""

    embodied_type = "openvla-oft-l1"
    network = PrismaticRegression
    published_shape = (8, ACTION_DIM)
    published_views = 2
    untrainable = (
        "this checkpoint regresses actions; it has no distribution to train by RL. Start from one with action tokens"
    )
    model: PrismaticRegression

    @classmethod
    def check_architecture(cls, checkpoint: Checkpoint) -> None:
        """Raises ValueError for a folder without a regression head, in a file of its own or among the saved weights."""
        super().check_architecture(checkpoint)
        if ACTION_HEAD not in checkpoint.parts and "embodied_type" not in checkpoint.config:
            raise other_type(f"lies beside no {ACTION_HEAD}--<step>_checkpoint.pt", cls.embodied_type, "openvla-oft")

    @torch.no_grad()
    def act(self, inputs: PolicyInputs, sampling: Sampling) -> ActionChunk:
        """The chunk that the network regresses; ``sampling`` has nothing to decide.

        ``sampled`` is that chunk before un-normalisation, float32 [B, T·D]. ``log_probs`` are 0, the logarithm of the
        probability 1 that the only possible chunk has, and NaN where it is not finite.

        Raises:
            ValueError: ``do_sample``.
        """
        if sampling.do_sample:
            raise ValueError(f"do_sample=True, but {self.embodied_type} regresses actions; give do_sample=False.")
        with self.autocast():
            chunk = self.model.regress(
                inputs["input_ids"], inputs["attention_mask"], inputs["images"], inputs.get("proprio")
            )
        chunk = chunk.float().cpu()
        actions = torch.from_numpy(self.codec.bounds.unnormalise(chunk.numpy())).float()
        sampled = chunk.flatten(1)
        log_probs = torch.where(sampled.isfinite(), 0.0, torch.nan)
        return ActionChunk(actions=actions, sampled=sampled, log_probs=log_probs)

    def evaluate(self, inputs: PolicyInputs, sampled: Tensor, temperature: float) -> Evaluation:
        """Raises ValueError: what is regressed has no log-probs."""
        raise ValueError(f"{self.untrainable}.")

    def value(self, inputs: PolicyInputs) -> Tensor:
        """Raises ValueError: only a policy that is trained has a value head."""
        raise ValueError(f"{self.untrainable}.")
