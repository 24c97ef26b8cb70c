"""The residual MLP of OpenVLA-OFT's regression head (Kim, Finn, Liang 2025), by its published parameter names; StarVLA's
QwenOFT has the same."""

from torch import Tensor, nn
from torch.nn import functional as F

NUM_BLOCKS = 2  # of every published head


class ResidualBlock(nn.Module):
    """x + relu(W · norm(x)); the published block keeps its layers in a sequence called ``ffn``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.ffn(x)


class ResidualMLP(nn.Module):
    """[..., inputs] → [..., outputs] through residual blocks of ``width``."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(inputs)
        self.fc1 = nn.Linear(inputs, width)
        self.mlp_resnet_blocks = nn.ModuleList(ResidualBlock(width) for _ in range(NUM_BLOCKS))
        self.layer_norm2 = nn.LayerNorm(width)
        self.fc2 = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(self.layer_norm1(x)))
        for block in self.mlp_resnet_blocks:
            x = block(x)
        return self.fc2(self.layer_norm2(x))
