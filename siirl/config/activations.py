"""What the update keeps of a forward for its backward pass, counted from the parameters' shapes.

The counts follow PyTorch's autograd through the layers as they are written; a test measures them. Korthikanti et al. (2022),
*Reducing Activation Recomputation in Large Transformer Models*, counts likewise: 34 bytes per token and hidden unit in 16 bits.
Here residuals and norms are in float32. A GPU's fused norms keep a little less.
"""

import math
import re
from dataclasses import dataclass

from siirl.config.shapes import Shapes

FP32, BF16 = 4, 2
QWEN_PATCHES = 16**2
"""Patches of 14² of a frame of 224², as StarVLA's policies see it."""
FORWARD_BLOCK, BACKWARD_BLOCK = 0.4, 1.2
"""Of what a block keeps: what lives while it runs and keeps nothing, and what lives in its backward pass, gradients included."""


@dataclass(frozen=True)
class Forward:
    """A forward of the update.

    Attributes:
        chunks: rows of the micro-batch.
        views: camera views.
        prompt: tokens of the prompt.
        actions: K, action tokens.
        half: whether it computes in bf16, under autocast.
        checkpointing: whether a block's activations are computed again in the backward pass.
    """

    chunks: int
    views: int
    prompt: int
    actions: int
    half: bool
    checkpointing: bool


def activation_bytes(shapes: Shapes, forward: Forward) -> int:
    """Peak of what lives besides weights, their gradients and bf16 copies (`copy_bytes`): what is kept of the forward, and the
    head's gradient before it is added. With checkpointing the inputs of blocks are kept, and the peak is at the end of the
    forward, where all copies live, in the backward pass of the largest block, or at the head.
    """
    blocks = _blocks(shapes)
    patches, seen = (forward.views * count for count in _patches(shapes))
    sequence = seen + forward.prompt + forward.actions + 1
    kept, inputs, block = 0, 0, 0
    for name, parameters in blocks.items():
        if name.startswith("vision_backbone"):
            tokens, width, each = patches, parameters["mlp.fc1.weight"][1], _vision_block(parameters, forward.half)
        elif "mlp.gate_proj.weight" in parameters:
            tokens, width, each = (
                patches if ".visual." in name else sequence,
                parameters["mlp.gate_proj.weight"][1],
                _llama_block(parameters, forward.half),
            )
        else:
            continue
        kept += tokens * each
        inputs += tokens * FP32 * width
        block = max(block, tokens * each)
    rest = patches * _projector(shapes, forward.half) + forward.actions * _head(shapes)
    head = FP32 * max((math.prod(s) for name, s in shapes.items() if name.endswith("lm_head.weight")), default=0)
    if not forward.checkpointing:
        return forward.chunks * (rest + kept) + head
    block *= forward.chunks
    copies = copy_bytes(shapes) if forward.half else 0
    stages = (copies + FORWARD_BLOCK * block, BACKWARD_BLOCK * block, head)
    return forward.chunks * (rest + inputs) + round(max(stages)) - copies


def copy_bytes(shapes: Shapes) -> int:
    """bf16 copies of weights that autocast keeps during a forward: of all matrices that multiply activations."""
    return BF16 * _halved(_without_last_vision_blocks(shapes))


def acting_bytes(shapes: Shapes, half: bool) -> int:
    """Weights of a copy that only acts, of which ``half`` lets the matrices rest in bf16."""
    size = FP32 * sum(math.prod(shape) for shape in shapes.values())
    return size - (FP32 - BF16) * _halved(shapes) if half else size


def _halved(shapes: Shapes) -> int:
    """Parameters in matrices that autocast multiplies with."""
    exempt = ("embed_tokens.weight", "lm_head.weight", "pos_embed", "cls_token", "reg_token")
    return sum(math.prod(shape) for name, shape in shapes.items() if len(shape) > 1 and not name.endswith(exempt))


def _llama_block(block: Shapes, half: bool) -> int:
    """Bytes per token: two norms (input and normed, float32) and their results, q, k, v and attention's result; in the MLP gate,
    its SiLU, up and their product."""
    inner, hidden = block["mlp.gate_proj.weight"]
    return (28 * hidden + 8 * inner) if half else (40 * hidden + 16 * inner)


def _vision_block(block: Shapes, half: bool) -> int:
    """Bytes per token: two norms' inputs (float32) and results, q, k, v, attention's result; what layer scales multiply; in the
    MLP GELU's input and result."""
    inner, width = block["mlp.fc1.weight"]
    scales = 2 * width if "ls1.scale_factor" in block else 0
    size = BF16 if half else FP32
    return 2 * FP32 * width + size * (8 * width + 2 * inner + scales)


def _patches(shapes: Shapes) -> tuple[int, int]:
    """Patches of a view, and the language model's tokens that they become: of a Qwen-VL a quarter."""
    tower = max((shape[1] for name, shape in shapes.items() if name.endswith("pos_embed")), default=0)
    if any(".visual." in name for name in shapes):
        return QWEN_PATCHES, QWEN_PATCHES // 4
    return tower, tower


def _projector(shapes: Shapes, half: bool) -> int:
    """Bytes per patch: input and output of every layer."""
    layers = [shape for name, shape in shapes.items() if re.fullmatch(r"projector\.fc\d\.weight", name)]
    return (BF16 if half else FP32) * sum(rows + columns for rows, columns in layers)


def _head(shapes: Shapes) -> int:
    """Bytes per action token: final norm (its input, normed, result) and two distributions over 256 bins, float32."""
    hidden = next((shape[1] for name, shape in shapes.items() if name.endswith("lm_head.weight")), 0)
    return FP32 * (3 * hidden + 2 * 256)


def _blocks(shapes: Shapes) -> dict[str, Shapes]:
    """Parameters of each numbered block that runs, by their names within it."""
    blocks: dict[str, Shapes] = {}
    for name, shape in _without_last_vision_blocks(shapes).items():
        if found := re.match(r"(.*?\.\d+)\.(.*)", name):
            blocks.setdefault(found[1], {})[found[2]] = shape
    return blocks


def _without_last_vision_blocks(shapes: Shapes) -> Shapes:
    """Features come from the last block but one of each tower."""
    pattern = re.compile(r"(vision_backbone\.\w+\.blocks)\.(\d+)\.")
    last: dict[str, int] = {}
    for found in filter(None, map(pattern.match, shapes)):
        last[found[1]] = max(last.get(found[1], 0), int(found[2]))
    unused = tuple(f"{tower}.{number}." for tower, number in last.items())
    return {name: shape for name, shape in shapes.items() if not (unused and name.startswith(unused))}
