"""A trained policy as a Hugging Face folder: the weights of a checkpoint beside the files of the start policy."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from safetensors import SafetensorError

from siirl.config.lora import RANK
from siirl.config.schema import Config, ModelConfig
from siirl.policies.base import POLICIES, ValueHeadSettings
from siirl.policies.gaussian import write_log_std
from siirl.policies.lora import factor_names, lora_config
from siirl.policies.prismatic.loading import read_json
from siirl.policies.prismatic.parts import complete, find_parts
from siirl.policies.prismatic.writing import write_weights, write_weights_file
from siirl.policies.value_head import write_value_head
from siirl.training.parameters import BACK, adapted_layers, merged_parameters, reading, saved_parameters

log = logging.getLogger(__name__)

COPIED = {".json", ".jinja", ".model", ".py", ".txt"}
"""Suffixes of what surrounds the weights: config, statistics, tokenizer, processor, published model code. Weights in other
formats are not copied, because they are the start policy's, nor is its model card: the trained policy gets its own."""


CARD = "README.md"
Card = Callable[[Path], str]
"""Makes the text of the model card of a folder that has all its other files; ValueError when it must not have one like that."""


def export(checkpoint: Path, start: Path, folder: Path, config: Config, card: Card | None = None) -> list[Path]:
    """Write the policy of a verified checkpoint into ``folder``, which is empty or absent, and check that it loads.

    Adapters are merged into the start policy's weights; a value head and the spread of actions have files of their own. On the
    way memory holds one file of weights, not the model. What a failed export has written is removed again.

    Args:
        checkpoint: ``global_step_N``.
        start: the policy folder that the run started from; it has the files besides the weights, and the weights that
            adapters were trained on.
        config: the run's config; it names the policy's class.
        card: makes the model card; None: the folder gets none.

    Returns:
        The files of weights.

    Raises:
        ValueError: the checkpoint or the start policy is gone meanwhile, or cannot be read; the folder cannot be written; or
            the policy's class does not accept it.
    """
    embodied, model = config.actor_rollout_ref.embodied, config.actor_rollout_ref.model
    with _all_or_nothing(folder):
        with_adapters = model.lora_rank > 0
        factory = POLICIES.get(embodied.embodied_type)
        merge = partial(merged_parameters, start=start, model=model, stored_tensors=factory.stored_tensors)
        trained = merge(checkpoint) if with_adapters else saved_parameters(checkpoint)
        settings = ValueHeadSettings.of(config)
        policy = {name: tensor for name, tensor in trained.tensors.items() if name not in trained.beside}
        weights = write_weights(policy, trained.read, folder)
        if not factory.write_surroundings(start, folder, embodied):
            copy_other_files(start, folder)
        if settings is not None:
            write_value_head(trained.read(trained.value_head), settings.position, folder)
        if trained.action_noise:
            write_log_std(trained.read(trained.action_noise), folder)
        factory.longest_prompt(ModelConfig(path=str(folder)), embodied, [""], settings)
        _write_card(card, folder)
    return weights


def export_adapters(
    checkpoint: Path, start: Path, folder: Path, config: Config, card: Card | None = None
) -> list[Path]:
    """Write the LoRA adapters of a verified checkpoint alone into ``folder``, which is empty or absent, in peft's layout.

    Args:
        checkpoint: ``global_step_N``.
        start: the policy folder that the run started from, which the adapters belong to.
        config: the run's config.
        card: as in `export`.

    Returns:
        The file of weights.

    Raises:
        ValueError: the run has no adapters, peft is missing, the checkpoint is gone meanwhile, or the folder cannot be
            written.
    """
    model = config.actor_rollout_ref.model
    if model.lora_rank == 0:
        raise ValueError(
            f"the run of {checkpoint} has no adapters ({RANK}=0); export the whole policy, without --adapters"
        )
    saved = saved_parameters(checkpoint)
    layers = adapted_layers(saved)
    adapters = lora_config(model, layers)
    adapters.base_model_name_or_path, adapters.inference_mode = str(start), True
    adapters.target_modules = layers  # peft made a set of them, which would be written in another order every time
    file = folder / "adapter_model.safetensors"
    names = {name: f"base_model.model.{layer}.{end}.weight" for layer in layers for name, end in _factors(layer)}
    with _all_or_nothing(folder):
        log.info("writing %s", file)
        values = saved.read(names)
        write_weights_file({names[name]: value for name, value in values.items()}, file)
        adapters.save_pretrained(str(folder))
        _write_card(card, folder)
    return [file]


def _write_card(card: Card | None, folder: Path) -> None:
    if card is not None:
        (folder / CARD).write_text(card(folder), encoding="utf-8")


def _factors(layer: str) -> Iterator[tuple[str, str]]:
    """Names of A and B in the checkpoint, and what peft calls them in a file."""
    return zip(factor_names(layer), ("lora_A", "lora_B"), strict=True)


def copy_other_files(start: Path, folder: Path) -> None:
    """Copy what surrounds the weights, unchanged but for one thing: a part that lay in a file of its own beside the start
    policy's weights is among the trained ones, so that ``config.json`` must now say what that file told."""
    with reading(start, BACK):
        files = sorted(file for file in start.iterdir() if file.is_file())
    for file in files:
        if file.suffix in COPIED and not file.name.endswith(".index.json"):
            with reading(start, BACK):
                content = file.read_bytes()
            (folder / file.name).write_bytes(content)
    with reading(start, BACK):
        parts = find_parts(start)
        config = complete(read_json(start / "config.json"), parts, start / "config.json") if parts else None
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config, indent=2))


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[None]:
    """Make ``folder`` and, when the block does not come to its end, remove all that is in it. Raises ValueError when the
    folder cannot be made or written to."""
    with ExitStack() as undo:
        try:
            existed = folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            undo.callback(_remove, folder, files_only=existed)
            yield
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"{folder} could not be written ({error}); free disk space, or name another folder"
            ) from error
        undo.pop_all()


def _remove(folder: Path, files_only: bool) -> None:
    """Undo a failed export, which has no subfolders."""
    for file in folder.iterdir():
        file.unlink()
    if not files_only:
        folder.rmdir()
