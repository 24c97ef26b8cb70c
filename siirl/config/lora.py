"""LoRA by names alone: which layers take an adapter, how many parameters that makes, and which settings cannot work."""

import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence

from siirl.config.keys import KEYS, get_value
from siirl.config.problems import problem, show
from siirl.config.schema import Config, ModelConfig

MODEL = "actor_rollout_ref.model"
RANK, ALPHA, TARGETS = f"{MODEL}.lora_rank", f"{MODEL}.lora_alpha", f"{MODEL}.target_modules"
ALL_LINEAR = "all-linear"
INSTALL_HINT = "install it with: pip install 'siirl[lora]'"


def adaptable(linear: Iterable[str]) -> list[str]:
    """Those of a policy's ``linear`` layers that can take an adapter: all but the head, of which only some rows are read."""
    return [name for name in linear if name.rpartition(".")[2] != "lm_head"]


def adapted(linear: Iterable[str], targets: Sequence[str]) -> list[str]:
    """The layers that ``target_modules`` means, in the order of ``linear``: a target is a layer's name or the end of it
    (``q_proj`` means that of every block), or ``all-linear``."""
    return [name for name in adaptable(linear) if any(_means(target, name) for target in targets)]


def _means(target: str, name: str) -> bool:
    return target == ALL_LINEAR or f".{name}".endswith(f".{target}")


def adapter_parameters(shapes: Mapping[str, Sequence[int]], model: ModelConfig) -> int:
    """Parameters of the adapters of a policy whose own parameters have these ``shapes``; 0 without LoRA."""
    linear = {
        name.removesuffix(".weight"): shape
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) == 2 and not name.endswith("embed_tokens.weight")
    }
    return sum(model.lora_rank * sum(linear[name]) for name in adapted(linear, model.target_modules))


def check_lora(config: Config) -> Iterator[str]:
    """Scale and layers belong to a rank, and the package that makes adapters must be there."""
    model = config.actor_rollout_ref.model
    if model.lora_rank == 0:
        for key in (ALPHA, TARGETS):
            default = show(KEYS[key].default)
            if (value := get_value(config, key)) != KEYS[key].default:
                allowed = f"{default} with {RANK}=0, which trains the weights themselves and would ignore it"
                yield problem(key, value, allowed, f"{RANK}=32 or {key}={default}")
        return
    if config.trainer.val_only:
        yield problem(RANK, model.lora_rank, "0 with trainer.val_only=true, which trains nothing", f"{RANK}=0")
    names = model.target_modules
    if not names or len(set(names)) < len(names) or (ALL_LINEAR in names and len(names) > 1):
        allowed = f"{ALL_LINEAR} alone, or at least one name, each once"
        yield problem(TARGETS, names, allowed, f"{TARGETS}={ALL_LINEAR}")
    if not config.dry_run and importlib.util.find_spec("peft") is None:
        allowed = f"0 without the package peft, which makes the adapters ({INSTALL_HINT})"
        yield problem(RANK, model.lora_rank, allowed, f"install peft, or {RANK}=0")
