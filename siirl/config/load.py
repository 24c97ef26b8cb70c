"""From YAML files and ``key=value`` overrides to a `Config`, collecting every problem on the way.

Hydra composes the YAML files (defaults lists, group selections such as ``model=start_policy``) and its override grammar
reads the values of the command line; the conversion to the typed tree is ours, so that no key is ever dropped.
"""

import argparse
import dataclasses
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from siirl.config.aliases import holds_names
from siirl.config.checks import check_config
from siirl.config.collect import collect
from siirl.config.folders import shipped_folder
from siirl.config.keys import KEYS, SECTIONS
from siirl.config.overrides import misspelt_group, one_line, parse_overrides, selects_file, unknown_choices
from siirl.config.problems import ConfigError, problem
from siirl.config.reading import Reading
from siirl.config.schema import Config
from siirl.registry import did_you_mean

log = logging.getLogger(__name__)


TRAIN = "Train a Vision-Language-Action policy with reinforcement learning in simulation."
KEYS_THAT_MATTER = """\
The keys that matter most (every key: docs/config.md):
  actor_rollout_ref.model.path                  policy folder; model=start_policy takes the shipped small policy
  actor_rollout_ref.embodied.env.env_name       task suite, e.g. libero_spatial
  actor_rollout_ref.embodied.env.task_ids       tasks of the suite, e.g. [0,2]; null: all
  actor_rollout_ref.embodied.env.num_envs       simulators per rollout worker
  actor_rollout_ref.embodied.video_embedding_model_path   V-JEPA 2 weights for the SRPO reward
  data.train_batch_size, actor_rollout_ref.rollout.n      prompts per step, episodes per prompt
  algorithm.reward                              srpo or sparse
  trainer.total_training_steps                  when to stop
  trainer.nnodes, trainer.n_gpus_per_node       the cluster; 0 accelerators: the CPU
  cluster.component_placement                   which role lives on which slots, e.g. {env: 0-3, rollout: 4-7, actor: 8-15}
  trainer.default_local_dir                     run folder: checkpoints, metrics, config
  dry_run=true                                  as siirl plan: print what would be trained, where, in how much memory
"""


def load_config(
    config_name: str,
    overrides: Sequence[str] = (),
    config_dir: str | Path | None = None,
    more_checks: Sequence[Callable[[Config], list[str]]] = (),
) -> Config:
    """Compose, convert and check a config.

    Args:
        config_name: name of a YAML file, without folder; ``.yaml`` may be left out.
        overrides: ``key=value`` in Hydra's grammar, or ``group=choice``.
        config_dir: a folder of the user's own; its files come before the shipped ones.
        more_checks: functions from a config to problems, besides `check_config`.

    Raises:
        ConfigError: with every problem that was found.
    """
    reading = read_config(config_name, overrides, config_dir)
    for checker in (check_config, *more_checks):
        reading.check(checker)
    if reading.problems:
        raise ConfigError(reading.problems)
    if reading.without_effect:
        log.info(reading.ignored())
    return reading.config


def settings_parser(command: str, about: str) -> argparse.ArgumentParser:
    """The parser of a command line ``[--config-name N] [--config-dir D] key=value …``, for its ``parse_intermixed_args``.

    Args:
        command: the subcommand of ``siirl``.
        about: what it does, one line.
    """
    parser = argparse.ArgumentParser(
        f"siirl {command}",
        description=f"{about}\n\n{KEYS_THAT_MATTER}",
        epilog=f"example: siirl {command} --config-name=quickstart trainer.total_training_steps=10",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = "embodied_srpo_trainer"
    parser.add_argument("-cn", "--config-name", default=default, help=f"YAML file to start from (default: {default})")
    parser.add_argument("-cd", "--config-dir", help="folder of your own YAML files; they come before the shipped ones")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, in Hydra's override grammar")
    return parser


def parse_command_line(
    argv: Sequence[str], *more_checks: Callable[[Config], list[str]], command: str = "train", about: str = TRAIN
) -> Config:
    """The config that a command line asks for: see `settings_parser`.

    ``--help`` prints the usage and exits with 0; an unknown option exits with 2.

    Args:
        argv: the arguments, without the program's name.
        more_checks: functions such as `siirl.client.preflight.preflight` whose problems are reported with the others.
        command, about: of the help page.

    Raises:
        ConfigError: with every problem that was found.
    """
    given = settings_parser(command, about).parse_intermixed_args(argv)
    return load_config(given.config_name, given.overrides, given.config_dir, more_checks)


def read_config(config_name: str, overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Reading:
    """Like `load_config`, without checking combinations and without raising."""
    reading = Reading(Config())
    folders = [Path(config_dir).absolute()] if config_dir else []
    folders.append(shipped_folder("configs"))
    parsed, reading.problems = parse_overrides(overrides)
    selections = {text: override for text, override in parsed if selects_file(override, folders)}
    register_resolvers()
    files: list[tuple[str, Any]] = []
    try:
        files = list(_flatten(_compose(config_name.removesuffix(".yaml"), selections, folders)))
    except ConfigError as error:
        reading.problems += error.problems
        reading.bad_keys = set(KEYS)  # what the files set is unknown, so combinations cannot be judged
    settings = [o for text, o in parsed if text not in selections]
    misspelt = {o.key_or_group: wrong for o in settings if (wrong := misspelt_group(o, folders))}
    reading.problems += misspelt.values()
    collect(files, [(o.key_or_group, o.value()) for o in settings if o.key_or_group not in misspelt], reading)
    return reading


def register_resolvers() -> None:
    """What ``${name:…}`` may call: shipped assets, and the arithmetic of RLinf's earlier configs."""
    resolvers: dict[str, Callable[..., Any]] = {
        "asset": lambda name: str(shipped_folder("assets") / name),
        "multiply": lambda a, b: a * b,
        "int_div": lambda a, b: a // b,
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _compose(name: str, selections: dict[str, Override], folders: list[Path]) -> dict[str, Any]:
    """The YAML tree that Hydra composes; interpolations are still unresolved."""
    home = next((folder for folder in folders if (folder / f"{name}.yaml").is_file()), None)
    if home is None:
        known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
        searched = " and ".join(map(str, folders))
        fix = did_you_mean(name, known).strip() or "name one of these files, or give its folder with --config-dir"
        raise ConfigError([problem("--config-name", name, f"{', '.join(known)} (in {searched})", fix)])
    if unknown := list(unknown_choices(list(selections.values()), folders)):
        raise ConfigError(unknown)
    others = ",".join("'file://" + str(f).replace("'", "\\'") + "'" for f in folders if f != home)
    try:
        with warnings.catch_warnings(), initialize_config_dir(str(home), version_base="1.3"):
            warnings.filterwarnings("ignore", ".*Defaults list is missing `_self_`")  # it comes last, as in RLinf's
            composed = compose(name, [f"hydra.searchpath=[{others}]", *selections])
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        fix = f"repair the file in {home}, or the selection"
        raise ConfigError(
            [problem("--config-name", name, f"files that Hydra can compose ({one_line(error)})", fix)]
        ) from error
    return OmegaConf.to_container(composed, resolve=False)  # type: ignore[return-value]


def _flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a nested mapping; a mapping that is no section of ours counts as a value."""
    for name, value in tree.items():
        dotted = f"{prefix}.{name}".lstrip(".")
        is_section = dotted in SECTIONS or dotted not in KEYS or holds_names(dotted)
        if isinstance(value, dict) and is_section and (value or dotted in SECTIONS):
            yield from _flatten(value, dotted)
        else:
            yield dotted, value


def config_to_dict(config: Config) -> dict[str, Any]:
    """The nested dictionary of every key; holds only plain values."""
    return dataclasses.asdict(config)


def config_to_yaml(config: Config) -> str:
    """YAML of every key; a file with it loads back through `load_config`."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True, width=120)
