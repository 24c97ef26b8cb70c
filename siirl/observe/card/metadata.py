"""What a model card tells machines: the YAML before its text.

Fields: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

import logging
import re
from pathlib import Path
from typing import Any

import yaml

from siirl.config.schema import Config
from siirl.observe.card.success import Measurement
from siirl.training.export import CARD

log = logging.getLogger(__name__)

INHERITED = ("license", "license_name", "license_link", "datasets")
"""Fields that hold for the trained policy as for the one that it started from, where that one's card has them."""
FRONT = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def front_matter(file: Path) -> dict[str, Any]:
    """The metadata of a model card; none where there is no card, or nothing before its text. Metadata that is no YAML is told,
    and left out."""
    found = FRONT.match(file.read_text(encoding="utf-8", errors="replace")) if file.is_file() else None
    if found is None:
        return {}
    try:
        content = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        log.warning("the metadata of %s is no YAML, so that the new card has no license: %s", file, error)
        return {}
    return content if isinstance(content, dict) else {}


def is_hub_name(name: str) -> bool:
    """Whether the Hugging Face Hub could have a model of this name."""
    return HUB_NAME.fullmatch(name) is not None


def hub_name(folder: Path) -> str | None:
    """``OWNER/NAME`` of a policy folder in the cache of the Hugging Face Hub (``models--OWNER--NAME/snapshots/…``); None of any
    other folder, which does not tell."""
    for part in folder.absolute().parts:
        if len(pieces := part.split("--")) == 3 and pieces[0] == "models":
            return f"{pieces[1]}/{pieces[2]}"
    return None


def metadata(
    name: str,
    start: Path,
    config: Config,
    measured: list[Measurement],
    *,
    base_model: str | None,
    adapters: bool,
) -> dict[str, Any]:
    """The fields of a card; those of which nothing is known are left out.

    Args:
        name: of the policy.
        start: the policy folder that the run started from.
        measured: success of this very policy.
        base_model: name of ``start`` on the Hub, if it is there.
        adapters: whether the weights are LoRA adapters alone.
    """
    env, algorithm = config.actor_rollout_ref.embodied.env, config.algorithm
    kind = config.actor_rollout_ref.embodied.embodied_type
    tags = ["siirl", "robotics", "vla", "reinforcement-learning", kind, algorithm.reward, algorithm.adv_estimator]
    tags += [env.env_type, env.env_name, *(["lora"] if config.actor_rollout_ref.model.lora_rank else [])]
    fields: dict[str, Any] = {"library_name": "peft" if adapters else "siirl", "pipeline_tag": "robotics"}
    fields["tags"] = list(dict.fromkeys(tags))
    if base_model is not None:
        fields |= {"base_model": base_model, "base_model_relation": "adapter" if adapters else "finetune"}
    before = front_matter(start / CARD)
    fields |= {field: before[field] for field in INHERITED if before.get(field)}
    if measured:
        fields["model-index"] = [{"name": name, "results": [_result(one) for one in measured]}]
    return fields


def _result(one: Measurement) -> dict[str, Any]:
    """An entry of ``model-index``: a rate and the two ends of its interval."""
    low, high = one.rate.interval
    rows = (
        ("success_rate", "success rate", one.rate.value),
        ("success_rate_low", "success rate, low end of the Wilson 95 % interval", low),
        ("success_rate_high", "success rate, high end of the Wilson 95 % interval", high),
    )
    return {
        "task": {"type": "robotics", "name": "robot manipulation in simulation"},
        "dataset": {"type": one.suite, "name": f"{one.suite}: {one.how}", "split": one.split},
        "metrics": [{"type": kind, "name": name, "value": round(value, 4)} for kind, name, value in rows],
    }
