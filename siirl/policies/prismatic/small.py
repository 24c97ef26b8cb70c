"""A small OpenVLA-OFT to be trained from scratch: the same network and folder layout, with a word tokenizer of its own."""

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Punctuation, Sequence, WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from torch import nn

from siirl.policies.prismatic.model import PrismaticOFT
from siirl.policies.prismatic.prompt import TEMPLATE

SPECIAL = ("<pad>", "<s>", "</s>", "<out>", "<unk>")  # ids 0 to 4; 1 and 2 are Llama's BOS and stop token
NUM_BINS = 256
PADDING = 64  # unused rows at the vocabulary's end, as the published checkpoints have them


def word_tokenizer(instructions: Iterable[str]) -> Tokenizer:
    """A tokenizer of the words in the prompts for ``instructions``; other words become ``<unk>``."""
    splitter = Sequence([WhitespaceSplit(), Punctuation()])
    prompts = (TEMPLATE.format(instruction=instruction.lower()) for instruction in instructions)
    words = sorted({word for prompt in prompts for word, _ in splitter.pre_tokenize_str(prompt)})
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def small_config(
    tokenizer: Tokenizer,
    *,
    vision_width: int = 128,
    vision_depth: int = 5,
    vision_heads: int = 2,
    hidden_size: int = 192,
    layers: int = 4,
    heads: int = 3,
    intermediate_size: int = 512,
    image_size: int = 112,
    patch_size: int = 16,
    proprio_dim: int = 8,
) -> dict[str, Any]:
    """``config.json`` of a small policy; the last of ``vision_depth`` blocks exists but is never computed, as published."""
    return {
        "model_type": "openvla",
        "use_fused_vision_backbone": False,
        "image_sizes": [image_size],
        "timm_model_args": [
            {
                "img_size": image_size,
                "patch_size": patch_size,
                "embed_dim": vision_width,
                "depth": vision_depth,
                "num_heads": vision_heads,
                "class_token": False,
                "global_pool": "",
            }
        ],
        "text_config": {
            "model_type": "llama",
            "vocab_size": tokenizer.get_vocab_size() + NUM_BINS + PADDING,
            "hidden_size": hidden_size,
            "intermediate_size": intermediate_size,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "attention_bias": True,
            "initializer_range": 0.07,
            "pad_token_id": 0,
        },
        "pad_to_multiple_of": PADDING,
        "pad_token_id": 0,
        "prompt_suffix_token_id": SPECIAL.index("<out>"),
        "n_action_bins": NUM_BINS,
        "action_chunks_len": 8,
        "action_token_len": 7,
        "use_proprio": True,
        "proprio_dim": proprio_dim,
    }


@torch.no_grad()
def initialise_from_scratch(model: PrismaticOFT, weight_std: float = 0.07, qk_bias_std: float = 0.5) -> None:
    """Random weights that learn quickly from nothing.

    Zero action embeddings carry no position into the first layer: with the usual standard deviation of 0.02 and no biases all
    action tokens look alike for a long time. Larger weights, and random biases of queries and keys, which rotary positions turn
    into position-dependent attention, break the symmetry at once.
    """
    for module in (model.projector, model.language_model.model, getattr(model, "proprio_projector", None)):
        for layer in module.modules() if module is not None else ():
            if isinstance(layer, (nn.Linear, nn.Embedding)):
                nn.init.normal_(layer.weight, std=weight_std)
            if isinstance(layer, nn.Linear) and layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for block in model.language_model.model.layers:
        for projection in (block.self_attn.q_proj, block.self_attn.k_proj):
            if projection.bias is not None:
                nn.init.normal_(projection.bias, std=qk_bias_std)
    nn.init.normal_(model.language_model.lm_head.weight, std=0.02)
