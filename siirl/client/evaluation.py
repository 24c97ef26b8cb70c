"""What an evaluation runs: its suites, their statistics and episodes, and whether it can go on where its results go."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from siirl.client.preflight import component_problems
from siirl.client.prompts import find_prompts
from siirl.client.subject import POLICY, Subject, read_command_line
from siirl.config.evaluation import FOLDER, SUITES, meaning
from siirl.config.keys import refuse
from siirl.config.problems import ConfigError, problem, show
from siirl.config.schema import Config
from siirl.dag.compile import Plan, compile_plan
from siirl.dag.graph import Graph, Node
from siirl.data.manifest import Prompt
from siirl.data.sampler import repeated_specs
from siirl.data.trajectory import EpisodeSpec
from siirl.envs.base import ENVS
from siirl.observe.episodes import EpisodeRow, read_episodes
from siirl.observe.pairing import Key, key_of
from siirl.observe.results import RESULTS, read_results
from siirl.policies.prismatic.actions import NO_NOOPS

GRAPH = Graph((Node("rollout", "rollout", "run", per="episode"),))
"""An evaluation's whole workflow."""
RESUME = "set it back, name another evaluate.folder, or remove this one to begin anew"


@dataclass(frozen=True)
class Part:
    """Episodes that the same workers can run.

    Attributes:
        config: with the statistics of these episodes, and the suite of the first ones.
        plan: where its workers live.
        specs: the episodes.
    """

    config: Config
    plan: Plan
    specs: list[EpisodeSpec]


@dataclass(frozen=True)
class Evaluation:
    """What is to be done.

    Attributes:
        config: the whole config.
        subject: what is evaluated.
        statistics: of each suite, the key of the statistics that its actions are un-normalised with.
        parts: run one after the other.
    """

    config: Config
    subject: Subject
    statistics: dict[str, str]
    parts: list[Part]

    @property
    def folder(self) -> Path:
        """Where results go."""
        return Path(self.config.evaluate.folder).absolute()

    @property
    def specs(self) -> dict[Key, EpisodeSpec]:
        """Every episode."""
        return {key_of(spec): spec for part in self.parts for spec in part.specs}

    def header(self) -> dict[str, Any]:
        """What ``results.json`` says before there are results."""
        checkpoint = self.subject.checkpoint
        return {
            "policy": str(self.subject.path),
            "step": checkpoint.step if checkpoint else None,
            "weights": self.subject.digest(),
            "mode": "sampled" if self.config.evaluate.do_sample else "greedy",
            "settings": {SUITES: self.statistics} | meaning(self.config),
        }

    def finished(self) -> dict[Key, EpisodeRow]:
        """The episodes that have been run, in the order of `specs`.

        Raises:
            ValueError: there are others among them.
        """
        rows = [EpisodeRow(**values) for values in read_episodes(self.folder).to_pylist()]
        found, wanted = {key_of(row): row for row in rows}, self.specs
        if others := found.keys() - wanted.keys():
            raise ValueError(
                f"{FOLDER}={self.folder} holds episodes that are none of this evaluation's, e.g. {min(others)}: was it begun "
                "with another version of the simulator's tasks? Name another folder"
            )
        return {key: found[key] for key in wanted if key in found}


def prepare(argv: Sequence[str]) -> Evaluation:
    """What a command line asks for.

    Raises:
        ValueError: everything that is wrong with it, or with going on in its folder.
    """
    reading, subject = read_command_line(argv)
    config = reading.config
    suites = config.evaluate.suites or [config.actor_rollout_ref.embodied.env.env_name]
    configs = {suite: of_suite(config, suite) for suite in suites}

    def suite_problems(_: Config) -> list[str]:
        found = [component_problems(one, GRAPH, has_manifests=False) for one in configs.values()]
        return list(dict.fromkeys(line for problems in found for line in problems))

    reading.check(suite_problems)
    if reading.problems:
        raise ConfigError(reading.problems)
    statistics = {suite: one.actor_rollout_ref.embodied.unnorm_key for suite, one in configs.items()}
    evaluation = Evaluation(config, subject, statistics, split_parts(list(configs.values())))
    if len(evaluation.specs) < sum(len(part.specs) for part in evaluation.parts):
        reading.refuse(
            SUITES, refuse(config, SUITES, "each suite once, and two of these are one", "leave one of them out")
        )
    elif problems := resume_problems(evaluation):
        reading.problems += problems
    if reading.problems:
        raise ConfigError(reading.problems)
    return evaluation


def of_suite(config: Config, suite: str) -> Config:
    """``config`` for one suite. Actions are un-normalised with ``unnorm_key`` unless that names a suite that is neither this one
    nor the one that it perturbs: then with the statistics of the latter (docs/evaluation.md)."""
    embodied = config.actor_rollout_ref.embodied
    env, key = replace(embodied.env, env_name=suite), embodied.unnorm_key
    if env.env_type in ENVS.names():
        factory = ENVS.get(env.env_type)
        key = factory.base_suite(env) if factory.is_other_suite(env, key.removesuffix(NO_NOOPS)) else key
    own = replace(config.actor_rollout_ref, embodied=replace(embodied, env=env, unnorm_key=key))
    return replace(config, actor_rollout_ref=own)


def split_parts(configs: Sequence[Config]) -> list[Part]:
    """As few parts as can be: suites go together when they share the statistics, and the simulator takes any."""
    groups: dict[tuple[str, str], list[Config]] = {}
    for config in configs:
        env = config.actor_rollout_ref.embodied.env
        alone = "" if ENVS.get(env.env_type).any_suite else env.env_name
        groups.setdefault((config.actor_rollout_ref.embodied.unnorm_key, alone), []).append(config)
    parts = []
    for members in groups.values():
        first = members[0]
        prompts = [prompt for config in members for prompt in wanted_prompts(config)]
        specs = repeated_specs(prompts, first.evaluate.rollout_epoch, first.trainer.seed)
        parts.append(Part(first, compile_plan(GRAPH, first), specs))
    return parts


def wanted_prompts(config: Config) -> list[Prompt]:
    """The trials of the config's suite that ``evaluate.split`` names, task by task."""
    train, held_out = find_prompts(config)
    if config.evaluate.split == "holdout":
        return held_out
    every = {prompt.prompt_id: prompt for prompt in [*train, *held_out]}
    return sorted(every.values(), key=lambda prompt: (prompt.task_id, prompt.trial_id))


def resume_problems(evaluation: Evaluation) -> list[str]:
    """How an evaluation differs from the one that its folder was begun with, one line a setting."""
    folder = evaluation.folder
    if not (folder / RESULTS).is_file():
        others = sorted(file.name for file in folder.glob("[!.]*"))
        allowed = f"a folder that is empty, not there yet, or of an evaluation; this one has {', '.join(others[:3])}"
        return [problem(FOLDER, str(folder), allowed, "name another folder")] if others else []
    before, now = read_results(folder), evaluation.header()
    found = [
        problem(key, value, f"{show(before['settings'][key])}, as in the evaluation in {folder}", RESUME)
        for key, value in now["settings"].items()
        if before["settings"].get(key, value) != value  # an earlier version may not have known it
    ]
    if before["weights"] != now["weights"]:
        allowed = f"the weights that the evaluation in {folder} was begun with ({before['policy']}); these are others"
        found.append(problem(POLICY, now["policy"], allowed, RESUME))
    return found
