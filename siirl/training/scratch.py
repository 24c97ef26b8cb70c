"""A small OpenVLA or OpenVLA-OFT from nothing: its tokenizer, and weights from which it learns quickly."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

from siirl.config.schema import EmbodiedConfig
from siirl.policies.openvla import OpenVLA
from siirl.policies.openvla_oft import OpenVLAOFT
from siirl.policies.prismatic.loading import Checkpoint
from siirl.policies.prismatic.model import PrismaticVLA

SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}  # ids 0 to 3
ANSWER = "<answer>"  # id 4; stands where Llama's prompts end with the token "▁"
BIAS_STD = 1.0
CLASSES = (OpenVLAOFT, OpenVLA)
"""Policies that can be taught bins; the first is what a config means that states no ``embodied_type``."""


def word_tokenizer(words: Sequence[str]) -> Tokenizer:
    """One token per word or punctuation mark, lower case, BOS in front; ``words`` take the ids from 5 on.

    Raises:
        ValueError: a word is repeated or not in lower case.
    """
    tokens = [*SPECIAL.values(), ANSWER, *words]
    if len(set(tokens)) < len(tokens) or any(word != word.lower() for word in words):
        raise ValueError("the vocabulary must hold each word once, in lower case: remove repeated and capitalised ones")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    bos = SPECIAL["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])]
    )
    tokenizer.add_special_tokens([*SPECIAL.values(), ANSWER])
    return tokenizer


def new_policy(
    config: dict[str, Any], words: Sequence[str], suite: str, statistics: dict[str, Any], dtype: str = "bf16"
) -> OpenVLAOFT | OpenVLA:
    """A policy with random weights, from PyTorch's global generator.

    Args:
        config: ``config.json`` of the policy; its ``embodied_type`` is openvla-oft or openvla.
        words: the vocabulary, see `word_tokenizer`.
        suite: key of ``statistics`` in ``dataset_statistics.json``.
        statistics: see `siirl.training.sft.dataset_statistics`.
        dtype: computation type, ``fp32`` or ``bf16``.

    Raises:
        ValueError: the config has no room for the words, or is of no class that can be taught.
    """
    kinds = {kind.embodied_type: kind for kind in CLASSES}
    if (stated := config.get("embodied_type", CLASSES[0].embodied_type)) not in kinds:
        raise ValueError(f"embodied_type of the architecture is {stated!r}; allowed: {', '.join(kinds)}")
    tokenizer = word_tokenizer(words)
    room = config["text_config"]["vocab_size"] - config["pad_to_multiple_of"] - config["n_action_bins"]
    if tokenizer.get_vocab_size() > room:
        raise ValueError(
            f"the vocabulary has {tokenizer.get_vocab_size()} tokens but text_config.vocab_size leaves room for {room}; "
            "raise it"
        )
    side_files = {
        "tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **SPECIAL}, indent=2)
    }
    checkpoint = Checkpoint(config, {suite: statistics}, tokenizer, side_files)
    embodied = EmbodiedConfig(unnorm_key=suite, num_images_in_input=1)
    kinds[stated].check_architecture(checkpoint)
    policy = kinds[stated].build(checkpoint, embodied, dtype)
    initialise(policy.model)
    return policy


def load_vision(tower: nn.Module, file: Path) -> None:
    """Give a policy's vision tower the weights of a safetensors file, named as the tower names them.

    Raises:
        ValueError: the file is missing or damaged, or holds the weights of another tower.
    """
    try:
        weights = load_file(file)
        tower.load_state_dict(weights)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"--vision {file} cannot be read ({error}); name a safetensors file of a vision tower"
        ) from error
    except RuntimeError as error:
        raise ValueError(
            f"--vision {file} holds another tower than the architecture's ({error}); make it with the same architecture"
        ) from error


@torch.no_grad()
def initialise(model: PrismaticVLA) -> None:
    """Change the usual random weights where a small network would start slowly.

    The embeddings of all action positions of OpenVLA-OFT are zero, so in the first layer positions differ only through rotated
    query and key *biases*: zero ones would make all 56 outputs alike for hundreds of steps. The head's rows of ids that are
    no action start at zero, since training never sees them and a greedy choice is over the whole vocabulary.
    """
    for layer in model.language_model.model.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            if projection.bias is not None:
                nn.init.normal_(projection.bias, std=BIAS_STD)
    head = model.language_model.lm_head.weight
    head[: model.vocab_size - model.num_bins] = 0
    head[model.vocab_size :] = 0
