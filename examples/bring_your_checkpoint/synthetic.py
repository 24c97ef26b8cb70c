"""A folder laid out like the published OpenVLA checkpoints, with small random networks, to try a walk-through without 15 GB.

``python examples/bring_your_checkpoint/synthetic.py FOLDER`` writes 130 MB: sharded bf16 safetensors with their index, a
``config.json`` that names timm models and does not say which policy it is, a tokenizer of 32,000 tokens with Llama's
special ids, and statistics under ``libero_spatial_no_noops``. Its actions are noise.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from siirl.policies.openvla_oft import OpenVLAOFT

DIMENSIONS = 7
STATISTICS = {
    "libero_spatial_no_noops": {
        "action": {
            "q01": [-0.75, -0.65, -0.94, -0.11, -0.2, -0.18, 0.0],
            "q99": [0.94, 0.83, 0.94, 0.14, 0.18, 0.18, 1.0],
            "mask": [True] * (DIMENSIONS - 1) + [False],
        }
    }
}
CONFIG: dict[str, Any] = {
    "architectures": ["OpenVLAForActionPrediction"],
    "arch_specifier": "no-align+fused-gelu-mlp",
    "image_resize_strategy": "resize-naive",
    "image_sizes": [224, 224],
    "llm_backbone_id": "llama2-7b-pure",
    "llm_max_length": 2048,
    "model_type": "openvla",
    "n_action_bins": 256,
    "norm_stats": STATISTICS,
    "pad_to_multiple_of": 64,
    "pad_token_id": 32000,
    "text_config": {
        "model_type": "llama",
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_attention_heads": 4,
        "num_hidden_layers": 4,
        "num_key_value_heads": 4,
        "pad_token_id": 32000,
        "torch_dtype": "bfloat16",
        "vocab_size": 32064,
    },
    "timm_model_ids": ["vit_small_patch14_reg4_dinov2.lvd142m", "vit_small_patch14_dinov2.lvd142m"],
    "timm_override_act_layers": [None, None],
    "torch_dtype": "bfloat16",
    "use_fused_vision_backbone": True,
    "vision_backbone_id": "dinosiglip-vit-so-224px",
}
SPECIAL = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 29871}


def main() -> None:
    """Write the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if folder.exists():
        parser.error(f"{folder} is there already; remove it or name another folder")
    write(folder)


def write(folder: Path) -> None:
    """Write everything into ``folder``, which may not exist yet."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    weights = OpenVLAOFT.from_config(CONFIG).model.state_dict()
    save_torch_state_dict({n: w.bfloat16() for n, w in weights.items()}, folder, max_shard_size="100MB")
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2))
    (folder / "dataset_statistics.json").write_text(json.dumps(STATISTICS, indent=2))
    tokenizer().save(str(folder / "tokenizer.json"))


def tokenizer() -> Tokenizer:
    """One token a character, BOS in front; of the other ids only Llama's special ones mean something."""
    vocabulary = dict(SPECIAL)
    characters = {chr(code): code for code in range(10, 127)}
    unused = {f"<unused_{i}>": i for i in range(32000) if i not in {*SPECIAL.values(), *characters.values()}}
    made = Tokenizer(models.WordLevel(vocabulary | characters | unused, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", SPECIAL["<s>"])])
    return made


if __name__ == "__main__":
    main()
