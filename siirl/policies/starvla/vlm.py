"""The vision-language model below a StarVLA framework: Qwen2.5-VL or Qwen3-VL, from a local folder in Hugging Face layout."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoProcessor, Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration

QWEN2_5 = "qwen2_5_vl"
CLASSES: dict[str, Any] = {QWEN2_5: Qwen2_5_VLForConditionalGeneration, "qwen3_vl": Qwen3VLForConditionalGeneration}
"""By the ``model_type`` of ``config.json``."""
ATTENTION = "sdpa"


@dataclass
class VLM:
    """A base model's folder without its weights.

    Attributes:
        folder: where it lies.
        config: transformers' config.
        processor: tokenizer, chat template and image processor.
    """

    folder: Path
    config: Any
    processor: Any

    @classmethod
    def read(cls, folder: Path, named: str) -> "VLM":
        """Read config, tokenizer and image processor.

        Args:
            folder: the folder.
            named: what says where it is, for messages.

        Raises:
            ValueError: it is no folder, of another kind of model, or something in it is missing or malformed.
        """
        if not folder.is_dir():
            raise ValueError(
                f"{named} is {str(folder)!r}, but there is no such folder. It must be the local folder of the base model, e.g. "
                "after `hf download Qwen/Qwen2.5-VL-3B-Instruct --local-dir models/Qwen2.5-VL-3B-Instruct`."
            )
        # told explicitly, because transformers otherwise asks at the terminal whether to run code that lies in the folder
        safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            config = AutoConfig.from_pretrained(str(folder), **safe)
            processor = AutoProcessor.from_pretrained(str(folder), **safe)
        except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ValueError(
                f"{named} is {str(folder)!r}, which cannot be read as a Qwen-VL ({reason}); it needs config.json, the "
                "tokenizer's files and the processor's, as published."
            ) from error
        if config.model_type not in CLASSES:
            raise ValueError(
                f"{named} is {str(folder)!r}, a {config.model_type!r}; allowed: {', '.join(CLASSES)}. Name a Qwen2.5-VL or "
                "Qwen3-VL."
            )
        if not hasattr(processor, "image_processor") or processor.tokenizer.pad_token_id is None:
            raise ValueError(
                f"{named} is {str(folder)!r}, which lacks an image processor or a padding token; it needs "
                "preprocessor_config.json (or processor_config.json) and tokenizer_config.json, as published."
            )
        return cls(folder, config, processor)

    @property
    def is_qwen2_5(self) -> bool:
        """Whether it is a Qwen2.5-VL, whose images StarVLA resizes once more before the processor does."""
        return self.config.model_type == QWEN2_5

    @property
    def hidden_size(self) -> int:
        """H, the width of the language model."""
        return int(self.config.text_config.hidden_size)

    @property
    def tied(self) -> bool:
        """Whether the output head is the embedding of words."""
        return bool(self.config.tie_word_embeddings)

    @property
    def has_weights(self) -> bool:
        """Whether the folder holds weights. Raises ValueError where they are of a format that is not read."""
        if any(self.folder.glob("*.safetensors")):
            return True
        if pickled := sorted(self.folder.glob("pytorch_model*.bin")):
            raise ValueError(
                f"{pickled[0]}: base models are read from safetensors alone; save it anew with transformers' "
                "save_pretrained, or download a folder with model*.safetensors."
            )
        return False

    def build(self) -> nn.Module:
        """The network with random weights, float32, on PyTorch's default device."""
        network = CLASSES[self.config.model_type]._from_config(
            self.config, attn_implementation=ATTENTION, dtype=torch.float32
        )
        assert isinstance(network, nn.Module)
        return network

    def load(self) -> nn.Module:
        """The network with the folder's weights, float32, on the CPU."""
        network = CLASSES[self.config.model_type].from_pretrained(
            str(self.folder), attn_implementation=ATTENTION, dtype=torch.float32, local_files_only=True
        )
        assert isinstance(network, nn.Module)
        return network
