"""A small policy of StarVLA from nothing: its tokenizer, its image processor, and weights from which it learns quickly."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

import siirl.torchvision_shim  # noqa: F401  (before transformers)
from siirl.config.schema import EmbodiedConfig, ModelConfig
from siirl.policies.starvla import StarVLA
from siirl.policies.starvla.folder import SECTION, VIEWS, PolicyFolder
from siirl.policies.starvla.framework import FRAMEWORKS
from siirl.policies.starvla.prompt import state_vocabulary
from siirl.policies.starvla.settings import StarVLASettings
from siirl.policies.starvla.vlm import VLM

from transformers import (  # isort: skip
    AutoConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
SPECIAL = (PAD, START, END, VISION_START, VISION_END, IMAGE, VIDEO)
"""Qwen-VL's special tokens, by the names that its processor looks for; they take the ids from 0 on."""
TOKEN_IDS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": VISION_START,
    "vision_end_token_id": VISION_END,
}
"""Keys of a Qwen-VL's config that are ids of tokens."""
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen-VL's chat template, as far as a single request needs it."""
BIAS_STD = 1.0


def byte_tokenizer(words: Sequence[str], size: int, action_token: str) -> Tokenizer:
    """Byte pairs merged until every one of ``words`` is one token; anything else is told by its pieces, at worst its bytes.

    Args:
        words: what prompts are made of.
        size: ids there may be.
        action_token: is one token of its own, with the id behind the special ones.

    Raises:
        ValueError: there are fewer ids than special tokens and bytes.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    least = len(SPECIAL) + 1 + len(alphabet)
    if size < least:
        raise ValueError(f"text_config.vocab_size is {size}, but special tokens and bytes are {least}; raise it")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        show_progress=False,
        special_tokens=[AddedToken(token, special=True) for token in (*SPECIAL, action_token)],
        initial_alphabet=alphabet,
    )
    tokenizer.train_from_iterator([" ".join(("", *words)), *words], trainer)
    return tokenizer


def new_starvla(
    config: dict[str, Any], words: Sequence[str], suite: str, statistics: dict[str, Any], dtype: str = "bf16"
) -> StarVLA:
    """A policy with random weights, from PyTorch's global generator, and nothing downloaded.

    Args:
        config: ``config.json`` of the policy: a Qwen-VL's, with the section ``starvla`` and the views; ids of special tokens are
            those of the tokenizer that is made here.
        words: what the tokenizer makes one token of each, see `byte_tokenizer`.
        suite: key of ``statistics`` in ``dataset_statistics.json``.
        statistics: see `siirl.training.samples.dataset_statistics`.
        dtype: computation type, ``fp32`` or ``bf16``.

    Raises:
        ValueError: the config is of another kind of model or framework, lacks a section, or has no room for the tokenizer.
    """
    section = config.get(SECTION) or {}
    settings = StarVLASettings.read(section.get("framework") or {}, section.get("vla_data"))
    kind = FRAMEWORKS.get(settings.name)
    asked = kind.suffix(settings.chunk_len).replace(kind.action_token, " ").split()
    told = [] if settings.state_dim is None else state_vocabulary()
    vlm = _new_vlm(config, [*words, *asked, *told, "user", "assistant"], kind.action_token, settings.image_size)
    framework = kind(vlm, settings)
    initialise(framework.model)
    folder = PolicyFolder(
        path=vlm.folder,
        framework=section["framework"],
        data=section.get("vla_data") or {},
        statistics={suite: statistics},
        base_vlm=vlm.folder,
        views=config.get(VIEWS, 1),
        published=False,
    )
    embodied = EmbodiedConfig(
        unnorm_key=suite,
        num_images_in_input=config.get(VIEWS, 1),
        action_chunks_len=settings.chunk_len,
        action_token_len=settings.action_dim,
    )
    return StarVLA(framework, folder, embodied, ModelConfig(dtype=dtype))


def _new_vlm(config: dict[str, Any], words: Sequence[str], action_token: str, size: tuple[int, int] | None) -> VLM:
    """A base model's config, tokenizer and processor, in memory."""
    sections = ("model_type", "text_config", "vision_config")
    if absent := [name for name in sections if name not in config]:
        raise ValueError(f"the architecture lacks {', '.join(absent)}; give the config.json of a small Qwen-VL")
    tokenizer = byte_tokenizer(words, config["text_config"].get("vocab_size", 0), action_token)
    ids = {name: tokenizer.token_to_id(token) for name, token in TOKEN_IDS.items()}
    ends = {
        "pad_token_id": tokenizer.token_to_id(PAD),
        "bos_token_id": None,
        "eos_token_id": tokenizer.token_to_id(END),
    }
    own = {name: value for name, value in config.items() if name not in (SECTION, VIEWS, "embodied_type", "model_type")}
    made = AutoConfig.for_model(config["model_type"], **{**own, "text_config": config["text_config"] | ends, **ids})
    return VLM(Path("."), made, _new_processor(tokenizer, config, size))


def _new_processor(tokenizer: Tokenizer, config: dict[str, Any], size: tuple[int, int] | None) -> Qwen2_5_VLProcessor:
    """Tokenizer, chat template, and an image processor that leaves frames of ``size`` as they are."""
    vision, area = config["vision_config"], 224**2 if size is None else size[0] * size[1]
    patches: dict[str, Any] = {
        "patch_size": vision["patch_size"],
        "temporal_patch_size": vision["temporal_patch_size"],
        "merge_size": vision["spatial_merge_size"],
        "size": {"shortest_edge": min(area, 56**2), "longest_edge": max(area, 56**2)},
    }
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=config["text_config"]["max_position_embeddings"],
    )
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**patches),
        tokenizer=wrapped,
        video_processor=Qwen2VLVideoProcessor(**patches),
        chat_template=TEMPLATE,
    )


@torch.no_grad()
def initialise(model: nn.Module) -> None:
    """Change the usual random weights where a small network would start slowly.

    All places of action hold the same word, so in the first layer they differ only through rotated query and key *biases*: zero
    ones would make all actions of a chunk alike for hundreds of steps.
    """
    for name, parameter in model.named_parameters():
        if "language_model" in name and name.endswith(("q_proj.bias", "k_proj.bias")):
            nn.init.normal_(parameter, std=BIAS_STD)
