"""Policy folders of StarVLA: a run folder as StarVLA writes it, or one in Hugging Face layout that siirl saved.

A run folder has ``config.yaml``, ``dataset_statistics.json`` and ``checkpoints/*.pt`` (or ``.safetensors``), and names the base
model's folder. A saved one is complete: ``config.json`` is the base model's with `SECTION` added, tokenizer and processor lie
beside it, and the weights are safetensors.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from siirl.policies.prismatic.loading import FIX, read_json
from siirl.policies.starvla.framework import BASE_VLM
from siirl.policies.starvla.settings import TRAINED_SIZE, StarVLASettings
from siirl.policies.starvla.vlm import VLM

KIND = "starvla"
RUN_CONFIG, CONFIG, STATISTICS, CHECKPOINTS = "config.yaml", "config.json", "dataset_statistics.json", "checkpoints"
SECTION = "starvla"
"""Key of a saved ``config.json``: the sections ``framework`` and ``vla_data`` of the config."""
VIEWS = "num_images_in_input"
PUBLISHED_VIEWS = 2  # main and wrist, in the published training on LIBERO, which no config tells
SUFFIXES = (".pt", ".safetensors")


@dataclass(frozen=True)
class PolicyFolder:
    """A policy folder without its weights.

    Attributes:
        path: where it lies.
        framework, data: sections of the config.
        statistics: ``dataset_statistics.json``: un-normalisation key → ``action`` with its limits.
        base_vlm: the base model's folder.
        views: camera views that it was trained with, where the config tells.
        published: whether it is a run folder of StarVLA.
    """

    path: Path
    framework: Mapping[str, Any]
    data: Mapping[str, Any]
    statistics: dict[str, Any]
    base_vlm: Path
    views: int | None
    published: bool

    @classmethod
    def read(cls, path: Path) -> "PolicyFolder":
        """Read config and statistics.

        Raises:
            ValueError: a file is missing or malformed, or the folder is of another kind of policy.
        """
        published = is_run_folder(path)
        if published:
            framework, data = _sections(_read_yaml(path / RUN_CONFIG), path / RUN_CONFIG)
            views, base = None, _base_vlm(framework, path)
        else:
            config = read_json(path / CONFIG)
            section = config.get(SECTION)
            if not isinstance(section, dict) or not isinstance(section.get("framework"), dict):
                raise ValueError(
                    f"{path / CONFIG} has no section {SECTION!r} with a 'framework', and there is no {RUN_CONFIG}: it is no "
                    f"policy of StarVLA. {FIX}"
                )
            framework, data = section["framework"], section.get("vla_data") or {}
            views, base = config.get(VIEWS), path
        statistics = read_json(path / STATISTICS)
        if not statistics or not all(
            isinstance(e, dict) and isinstance(e.get("action"), dict) for e in statistics.values()
        ):
            raise ValueError(f"{path / STATISTICS} must map un-normalisation keys to statistics of 'action'. {FIX}")
        return cls(path, framework, data, statistics, base, views, published)

    @property
    def source(self) -> Path:
        """The file that holds the config."""
        return self.path / (RUN_CONFIG if self.published else CONFIG)

    def settings(self) -> StarVLASettings:
        """What the config says; frames are resized as in training where it says nothing of their size.

        Raises:
            ValueError: as `StarVLASettings.read`.
        """
        try:
            settings = StarVLASettings.read(self.framework, self.data)
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from error
        return settings if settings.image_size else replace(settings, image_size=TRAINED_SIZE)

    def vlm(self) -> VLM:
        """The base model's folder. Raises ValueError as `VLM.read`."""
        return VLM.read(self.base_vlm, f"{BASE_VLM} of {self.source}")

    def weights(self) -> list[Path]:
        """Files of weights: the newest checkpoint of a run folder, or the safetensors of a saved one, sharded or not.

        Raises:
            ValueError: there is none.
        """
        folder = self.path / CHECKPOINTS if self.published else self.path
        files = [file for file in folder.glob("*") if file.suffix in SUFFIXES and file.is_file()]
        if not self.published:
            files = [file for file in files if file.name.startswith("model") and file.suffix == ".safetensors"]
        if not files:
            wanted = " or ".join(f"*{suffix}" for suffix in SUFFIXES) if self.published else "model.safetensors"
            raise ValueError(f"{folder} has no {wanted}, the policy's weights. {FIX}")
        return sorted(files, key=_step)[-1:] if self.published else sorted(files)


def is_run_folder(path: Path) -> bool:
    """Whether a folder is laid out as StarVLA's own."""
    return (path / RUN_CONFIG).is_file()


def write_surroundings(folder: PolicyFolder, vlm: VLM, views: int, to: Path) -> None:
    """Write what a saved policy has besides its weights: the base model's config with the policy's sections, tokenizer,
    processor and statistics."""
    to.mkdir(parents=True, exist_ok=True)
    vlm.processor.save_pretrained(str(to))
    vlm.config.save_pretrained(str(to))
    config = json.loads((to / CONFIG).read_text())
    stated = {"embodied_type": KIND, VIEWS: views, SECTION: {"framework": folder.framework, "vla_data": folder.data}}
    (to / CONFIG).write_text(json.dumps({**config, **stated}, indent=2))
    (to / STATISTICS).write_text(json.dumps(folder.statistics, indent=2))


def _sections(config: dict[str, Any], file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """``framework`` and ``datasets.vla_data``."""
    framework, datasets = config.get("framework"), config.get("datasets") or {}
    data = datasets.get("vla_data") or {} if isinstance(datasets, dict) else None
    if not isinstance(framework, dict) or not isinstance(data, dict):
        raise ValueError(
            f"{file} must have a section framework, and datasets.vla_data if any, as StarVLA writes it. {FIX}"
        )
    return framework, data


def _base_vlm(framework: Mapping[str, Any], run: Path) -> Path:
    """As it is named, or from within the run folder."""
    qwen = framework.get("qwenvl")
    named = qwen.get("base_vlm") if isinstance(qwen, dict) else None
    if not isinstance(named, str) or not named:
        raise ValueError(f"{run / RUN_CONFIG}: {BASE_VLM} is {named!r}; it must name the base model's local folder.")
    inside = run / named
    return inside if inside.is_dir() else Path(named)


def _read_yaml(file: Path) -> dict[str, Any]:
    from omegaconf import DictConfig, OmegaConf  # here, because only run folders need it
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        config = OmegaConf.load(file)
        content = OmegaConf.to_container(config, resolve=True) if isinstance(config, DictConfig) else None
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{file} cannot be read ({str(error).splitlines()[0]}). {FIX}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no YAML mapping. {FIX}")
    return {str(key): value for key, value in content.items()}


def _step(file: Path) -> tuple[int, str]:
    """Orders checkpoints by the step in their names, e.g. ``steps_30000_pytorch_model.pt``; others come before."""
    step = re.search(r"steps?[_-]?(\d+)", file.stem)
    return (int(step[1]) if step else -1, file.name)
