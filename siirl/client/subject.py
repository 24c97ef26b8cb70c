"""What an evaluation is of: a policy folder, or a checkpoint with the config of its run."""

import argparse
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from siirl.client.env_checks import without_unused
from siirl.client.export import check_start
from siirl.config.environments import validation_env
from siirl.config.evaluation import check_evaluation
from siirl.config.folders import is_policy_folder
from siirl.config.keys import refuse
from siirl.config.load import config_to_yaml, read_config
from siirl.config.overrides import parse_overrides
from siirl.config.problems import ConfigError
from siirl.config.reading import Reading
from siirl.config.schema import Config, ModelConfig, ValEnvConfig
from siirl.training.checkpoint import METRICS, STATE, Found, newest, open_verified, saved_steps, verify
from siirl.training.run_folder import config_of, weights_digest

log = logging.getLogger(__name__)

POLICY = "evaluate.policy"
MODEL_PATH = "actor_rollout_ref.model.path"
DEFAULT = "embodied_srpo_trainer"
USAGE = """\
Measure a policy: success per task and suite, with intervals. docs/evaluation.md has examples.

POLICY is a policy folder, a checkpoint global_step_N of a run, or a run folder, which stands for its newest checkpoint. With a
checkpoint every setting is that of its run unless --config-name or key=value say otherwise. The keys that matter most:
  evaluate.folder            where results go; a command that was interrupted goes on there
  evaluate.suites            e.g. [libero_spatial,libero_spatial_swap]: several suites in one table
  evaluate.split             all (default), or holdout: the trials that training did not see
  evaluate.rollout_epoch     episodes per trial, each with seeds of its own
  evaluate.do_sample         false (default): greedy; true: sampled, with evaluate.temperature
  actor_rollout_ref.embodied.env.{task_ids,num_trials_per_task,num_envs}    which tasks and trials, and how many simulators
  dry_run=true               print what would be run, and start nothing
"""
EXAMPLE = "example: siirl evaluate runs/quickstart evaluate.folder=runs/quickstart_evaluated"


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
        start: the policy folder; of a checkpoint the one that its run started from, where all but the weights comes from.
        checkpoint: None for a policy folder.
    """

    start: Path
    checkpoint: Found | None

    @property
    def path(self) -> Path:
        """What to call it by."""
        return (self.checkpoint.path if self.checkpoint else self.start).absolute()

    def digest(self) -> str:
        """A SHA-256 sum that tells its weights from others: `Found.digest` of a checkpoint, else `weights_digest`."""
        return self.checkpoint.digest() if self.checkpoint else weights_digest(self.start)


def read_command_line(argv: Sequence[str]) -> tuple[Reading, Subject]:
    """The config that a command line asks for, checked as far as `siirl.config` can, and what it is to evaluate.

    Raises:
        ConfigError: POLICY is given twice.
        ValueError: the checkpoint that it names is broken, or the policy that its run started from is gone.
    """
    given, overrides = _parse(argv)
    found = _checkpoint(_named(overrides))
    with ExitStack() as stack:
        name, folder = given.config_name or DEFAULT, given.config_dir
        if found is not None and given.config_name is None:
            name, folder = "run", stack.enter_context(TemporaryDirectory())
            (Path(folder) / f"{name}.yaml").write_text(config_to_yaml(_only_acting(config_of(found.state))))
        reading = read_config(name, overrides, folder)
    config = _only_acting(reading.config)
    return reading, _check_subject(reading, _subject(config, found))


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Options, and settings with POLICY among them."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("siirl evaluate", description=USAGE, epilog=EXAMPLE, formatter_class=raw)
    help_name = f"YAML file to start from (default: the config of the checkpoint's run, else {DEFAULT})"
    parser.add_argument("-cn", "--config-name", help=help_name)
    parser.add_argument("-cd", "--config-dir", help="folder of your own YAML files; they come before the shipped ones")
    parser.add_argument("settings", nargs="*", metavar="[POLICY] key=value")
    given = parser.parse_intermixed_args(argv)
    policies = [text for text in given.settings if "=" not in text or Path(text).is_dir()]
    if len(policies) > 1:
        raise ConfigError([f"{' '.join(policies)}: allowed: one POLICY, and key=value. Fix: evaluate them one by one."])
    quoted = [f"{POLICY}='" + policy.replace("'", "\\'") + "'" for policy in policies]
    return given, [*(text for text in given.settings if text not in policies), *quoted]


def _named(overrides: Sequence[str]) -> str | None:
    """The policy that the command line names, if it can be read."""
    values = [o.value() for _, o in parse_overrides(overrides)[0] if o.key_or_group == POLICY]
    return str(values[-1]) if values and values[-1] else None


def _checkpoint(path: str | None) -> Found | None:
    """The checkpoint that ``path`` is or holds; None where it is anything else.

    Raises:
        ValueError: it is broken, or a run that has saved none.
    """
    if path is None:
        return None
    folder = Path(path)
    if not (folder / STATE).exists() and not saved_steps(folder):
        if (folder / METRICS).exists():
            raise ValueError(
                f"{POLICY}={path} is the folder of a run that has saved no checkpoint; run its command again with another "
                "trainer.default_local_dir and trainer.save_freq=1 or more, or name another policy"
            )
        return None
    log.info("verifying the checkpoint in %s", folder)
    if not (folder / STATE).exists():
        return newest(folder, "restore one from a backup")
    if (problem := verify(folder)) is not None:
        raise ValueError(f"{POLICY}={path} is a broken checkpoint: {problem}; name another one of its run")
    return open_verified(folder)


def _only_acting(config: Config) -> Config:
    """``config``, changed in place, without what only training reads: an evaluation takes a config of any training as it is."""
    config.trainer.val_only = True
    config.critic.use_critic_model = False
    config.dag.custom_pipeline_fn = None
    config.actor_rollout_ref.ref.path = None
    embodied = config.actor_rollout_ref.embodied  # what is imagined in training is evaluated where it is validated
    if embodied.val_env.env_type is not None:
        embodied.env, embodied.val_env = without_unused(validation_env(embodied)), ValEnvConfig()
    embodied.real_fraction = 0.0
    model, default = config.actor_rollout_ref.model, ModelConfig()
    model.lora_rank, model.lora_alpha, model.target_modules = 0, default.lora_alpha, default.target_modules
    return config


def _subject(config: Config, found: Found | None) -> Subject:
    """What ``config`` names; ``found`` is the checkpoint that the command line named."""
    named, model = config.evaluate.policy, config.actor_rollout_ref.model
    found = found or _checkpoint(named)
    if found is None and named is not None:
        model.path = named
    elif found is not None and not model.path:
        model.path = config_of(found.state).actor_rollout_ref.model.path
    return Subject(Path(model.path), found)


def _check_subject(reading: Reading, subject: Subject) -> Subject:
    """Add what is wrong with the config to ``reading``; ``subject`` itself must be there.

    Raises:
        ValueError: the policy that a checkpoint's run started from is gone.
    """
    named = reading.config.evaluate.policy
    if subject.checkpoint is None and named is not None and not is_policy_folder(Path(named)):
        allowed = "a policy folder, which has a config.json, a checkpoint global_step_N, or a run folder with one"
        reading.refuse(MODEL_PATH, refuse(reading.config, POLICY, allowed, "name one of these"))
    if subject.checkpoint is not None:
        check_start(subject.start, subject.checkpoint, f"say with {MODEL_PATH}=<folder> where it is now")
    reading.check(check_evaluation)
    return subject
