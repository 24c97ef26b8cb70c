"""The classifier that tells from one frame whether the task is done: an 18-layer residual network.

Source: He et al., *Deep Residual Learning*, arXiv:1512.03385; parameter names are those of RLinf's published ``resnet_rm.pth``.
"""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (64, 128, 256, 512)
"""Channels at each resolution of the published network."""
BLOCKS = 2
"""Residual blocks per resolution."""
FIRST_NORM = re.compile(r"net\.(\d+)\.0\.bn1\.weight")
"""One parameter per resolution, which tells its width."""


class Residual(nn.Module):
    """Two convolutions beside the identity; a width other than the input's halves the sides."""

    def __init__(self, channels: int, out: int, first: bool) -> None:
        super().__init__()
        stride = 2 if first else 1
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1, stride=stride)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        if first:
            self.conv3 = nn.Conv2d(channels, out, 1, stride=stride)
        self.bn1 = nn.BatchNorm2d(out)
        self.bn2 = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] → [N, out, H', W']."""
        inner = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(inner + (self.conv3(x) if hasattr(self, "conv3") else x))


class RewardModel(nn.Module):
    """The classifier, with random weights. It computes in float32.

    Args:
        widths: channels at each resolution; the first is also that of the stem.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.widths = tuple(widths)
        stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 7, stride=2, padding=3),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        levels = [
            nn.Sequential(
                *(
                    Residual(widths[max(level - (block == 0), 0)], width, first=level > 0 and block == 0)
                    for block in range(BLOCKS)
                )
            )
            for level, width in enumerate(widths)
        ]
        self.net = nn.Sequential(
            stem, *levels, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(widths[-1], 1), nn.Sigmoid()
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Frames [N, 3, H, W], clipped to [−1, 1] → probabilities of success, float32 [N]."""
        return self.logits(pixels).sigmoid()

    def logits(self, pixels: Tensor) -> Tensor:
        """Frames [N, 3, H, W], clipped to [−1, 1] → what the sigmoid is taken of, float32 [N], for training."""
        return self.net[:-1](pixels.float().clamp(-1, 1)).squeeze(1)


def widths_of(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The widths of the network that these parameters are of, which no file states beside them; none if they are of another."""
    norms = {int(found[1]): len(state[found[0]]) for name in state if (found := FIRST_NORM.fullmatch(name))}
    return tuple(norms[level] for level in sorted(norms))
