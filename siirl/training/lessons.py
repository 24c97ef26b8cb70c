"""What fine-tuning teaches a policy: labels of demonstrated actions, the loss, and how far the policy is from them."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from siirl.envs.base import EnvObs
from siirl.policies.base import PolicyInputs
from siirl.policies.prismatic.actions import ActionCodec


class Taught(Protocol):
    """What fine-tuning needs of any policy; ``images`` among the inputs are uint8 [B, V, S, S, 3]."""

    chunk_len: int

    @property
    def model(self) -> nn.Module: ...

    def prepare(self, obs: EnvObs) -> PolicyInputs: ...


class BinPolicy(Taught, Protocol):
    """What it needs of one that emits each action dimension as one of 256 bins."""

    codec: ActionCodec

    def label_logits(self, inputs: PolicyInputs, labels: Tensor) -> Tensor: ...


class RegressionPolicy(Taught, Protocol):
    """What it needs of one that regresses actions."""

    def normalise(self, actions: np.ndarray) -> np.ndarray:
        """The environment's actions [..., D] as the policy regresses them, float32 [..., D]."""
        ...

    def regress(self, inputs: PolicyInputs) -> Tensor:
        """Normalised actions float32 [B, T, D], with gradient."""
        ...


class Lesson(Protocol):
    """Labels and loss of a kind of policy."""

    distance: ClassVar[str]
    """What `errors` measures, in the record of a measurement."""

    @property
    def policy(self) -> Taught: ...

    def labels(self, actions: np.ndarray) -> np.ndarray:
        """Of the environment's actions [N, T, D]: [N, T·D]."""
        ...

    def loss(self, inputs: PolicyInputs, labels: Tensor) -> Tensor:
        """Mean over a batch, with gradient."""
        ...

    def errors(self, inputs: PolicyInputs, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and distance from the label of every element, float32 [B, T·D]."""
        ...


@dataclass(frozen=True)
class BinLesson:
    """Cross entropy with soft labels: a Gaussian of ``sigma`` bins around that of the action."""

    policy: BinPolicy
    sigma: float
    distance: ClassVar[str] = "heldout_bins"

    def labels(self, actions: np.ndarray) -> np.ndarray:
        return self.policy.codec.encode(actions).reshape(len(actions), -1)

    def loss(self, inputs: PolicyInputs, labels: Tensor) -> Tensor:
        logits = self.policy.label_logits(inputs, labels)
        soft = soft_labels(labels, logits.shape[-1], self.sigma)
        return -(soft * F.log_softmax(logits, dim=-1)).sum(-1).mean()

    def errors(self, inputs: PolicyInputs, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy with the label itself, and bins between it and the likeliest one."""
        logits = self.policy.label_logits(inputs, labels)
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
        return losses, (logits.argmax(-1) - labels).abs().float()


@dataclass(frozen=True)
class RegressionLesson:
    """Absolute differences of normalised actions, as OpenVLA-OFT and StarVLA are trained (Kim, Finn, Liang 2025)."""

    policy: RegressionPolicy
    distance: ClassVar[str] = "heldout_l1"

    def labels(self, actions: np.ndarray) -> np.ndarray:
        return self.policy.normalise(actions).reshape(len(actions), -1)

    def loss(self, inputs: PolicyInputs, labels: Tensor) -> Tensor:
        return F.l1_loss(self.policy.regress(inputs).flatten(1), labels)

    def errors(self, inputs: PolicyInputs, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Both the absolute difference."""
        differences = (self.policy.regress(inputs).flatten(1) - labels).abs()
        return differences, differences


def soft_labels(labels: Tensor, num_bins: int, sigma: float) -> Tensor:
    """Gaussians ``sigma`` bins wide around ``labels`` int64 [B, K]: float32 [B, K, num_bins], rows sum to 1."""
    distance = torch.arange(num_bins) - labels[..., None]
    return torch.softmax(-0.5 * (distance / sigma) ** 2, dim=-1)
