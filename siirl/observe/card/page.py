"""The text of a model card: what was trained from what, how well it does, and how to use it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from siirl import __version__
from siirl.config.schema import Config
from siirl.observe.card.metadata import hub_name, metadata
from siirl.observe.card.settings import excerpt, to_evaluate
from siirl.observe.card.success import (
    Measurement,
    evaluated,
    evaluation_table,
    training_table,
    validated,
    validation_mode,
    validation_table,
)
from siirl.observe.report.run import Run

INTERVALS = (
    "Intervals are Wilson 95 % intervals of the episodes. Episodes of one trial start alike, so that the truth may lie outside "
    "more often than they say. An episode that could not be brought to its end counts as a failure, in training not at all."
)
LIMITS = (
    "Trained and measured in simulation, on the tasks above. Nothing is known about other tasks, or about a real robot; "
    "there, have somebody stand by who can stop it."
)


@dataclass(frozen=True)
class Exported:
    """What a card is about.

    Attributes:
        name: of the policy.
        start: the policy folder that the run started from; only its last name is told.
        start_digest: SHA-256 of its weights, as `siirl.training.run_folder.weights_digest` has it.
        step: training steps behind the weights.
        config: of the run.
        run: what the run logged; None where nothing of it is left.
        results: of an evaluation of this policy; None without one.
        base_model: name of the start policy on the Hugging Face Hub; None: what its folder tells.
        adapters: whether the weights are LoRA adapters alone.
    """

    name: str
    start: Path
    start_digest: str
    step: int
    config: Config
    run: Run | None
    results: Mapping[str, Any] | None
    base_model: str | None
    adapters: bool

    @property
    def origin(self) -> str | None:
        """Name of the start policy on the Hub; None where it is not known."""
        return self.base_model or hub_name(self.start)

    @property
    def measured(self) -> list[Measurement]:
        """Success of this very policy: in the evaluation, else in the run's validation at its step."""
        if self.results is not None:
            return evaluated(self.results)
        return validated(self.run, self.config, self.step) if self.run is not None else []


def card(of: Exported) -> str:
    """The content of ``README.md``."""
    fields = metadata(of.name, of.start, of.config, of.measured, base_model=of.origin, adapters=of.adapters)
    front = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=1000)
    sections = [f"---\n{front}---", f"# {of.name}", _summary(of), _training(of), *_success(of), _usage(of)]
    settings = "\n".join(excerpt(of.config)) or "none"
    shown = f"What differs from `configs/embodied_srpo_trainer.yaml` of siirl {__version__}:\n\n```\n{settings}\n```"
    return "\n\n".join([*sections, f"## Limits\n\n{LIMITS}", f"## Settings\n\n{shown}"]) + "\n"


def _summary(of: Exported) -> str:
    embodied = of.config.actor_rollout_ref.embodied
    what = "LoRA adapters for a" if of.adapters else "A"
    kind = f"{what} Vision-Language-Action policy ({embodied.embodied_type})"
    best = [f"{one.rate.successes} of {one.rate.n} episodes of {one.suite} ({one.how})" for one in of.measured]
    done = f" It solves {'; '.join(best)}." if best else ""
    return f"{kind}, trained by reinforcement learning in simulation with siirl.{done}"


def _training(of: Exported) -> str:
    """The table of what was trained, and how."""
    config, ref = of.config, of.config.actor_rollout_ref
    env, model = ref.embodied.env, ref.model
    tasks = "all tasks" if env.task_ids is None else "tasks " + ", ".join(map(str, env.task_ids))
    held = f", the last {env.num_holdout_trials} of them held out" if env.num_holdout_trials else ""
    batch = f"{config.data.train_batch_size} prompts × {ref.rollout.n} episodes each"
    rows = {
        "start policy": of.origin or f"`{of.start.absolute().name}`",
        "its weights": f"SHA-256 `{of.start_digest}` (siirl's, over samples of the files)",
        "tasks": f"{env.env_type}, {env.env_name}: {tasks}, {env.num_trials_per_task} trials each{held}",
        "reward": f"`{config.algorithm.reward}`",
        "advantages": f"`{config.algorithm.adv_estimator}`",
        "workflow": f"`{config.dag.custom_pipeline_fn}`" if config.dag.custom_pipeline_fn else "siirl's own",
        "trained": f"adapters of rank {model.lora_rank}" if model.lora_rank else "all weights",
        "steps": f"{of.step}, of {batch}",
        "sampling": f"temperature {ref.rollout.temperature:g}",
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["## Training", "", "| | |", "|---|---|", *lines])


def _success(of: Exported) -> list[str]:
    """The numbers: of the evaluation, the validations and the training."""
    found = []
    if of.results is not None:
        how = evaluated(of.results)[0].how
        found.append(f"### Evaluation\n\nOf this policy: {how}.\n\n" + "\n".join(evaluation_table(of.results)))
    if of.run is not None and (lines := validation_table(of.run, of.step)):
        how = f"During the run, {validation_mode(of.config)}; step 0 is the start policy."
        found.append(f"### Validation\n\n{how}\n\n" + "\n".join(lines))
    if of.run is not None and (lines := training_table(of.run, of.step)):
        how = "Episodes that the policy learned from, sampled, each with the weights of its time."
        found.append(f"### Training episodes\n\n{how}\n\n" + "\n".join(lines))
    return ["## Success", *found, INTERVALS] if found else ["## Success\n\nNot measured."]


def _usage(of: Exported) -> str:
    embodied = of.config.actor_rollout_ref.embodied
    options = (
        f'"{embodied.embodied_type}", unnorm_key="{embodied.unnorm_key}", num_images={embodied.num_images_in_input}'
    )
    options += "" if embodied.center_crop else ", center_crop=False"
    folder = "START_POLICY" if of.adapters else "FOLDER"
    code = ["from siirl.policies import load_policy", "", f'policy = load_policy("{folder}", {options})']
    if of.adapters:
        code[1:1] = ["from peft import PeftModel"]
        code.append('PeftModel.from_pretrained(policy.model, "FOLDER")  # changes policy.model in place')
    blocks = ["`FOLDER` is where this repository was downloaded to.", "```python\n" + "\n".join(code) + "\n```"]
    if not of.adapters:
        command = ["siirl evaluate FOLDER", *(shlex.quote(setting) for setting in to_evaluate(of.config))]
        blocks += ["Measure it, seeing what it saw in training:", "```bash\n" + " \\\n  ".join(command) + "\n```"]
    return "\n\n".join(["## How to use it", *blocks])
