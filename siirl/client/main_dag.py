"""``siirl train``: compose the config → check it → compile the workflow → run it.

``siirl train --config-name=embodied_srpo_trainer key=value …``, or ``python -m siirl.client.main_dag …``
"""

import json
import logging
import sys
from contextlib import ExitStack
from pathlib import Path

from siirl.client.interrupts import INTERRUPTED, terminate_as_interrupt
from siirl.client.plan import plan_text
from siirl.client.preflight import preflight
from siirl.client.prompts import Prompts, find_prompts
from siirl.config.load import config_to_yaml, parse_command_line
from siirl.config.schema import Config
from siirl.dag.compile import Plan, compile_plan
from siirl.dag.executor import Executor
from siirl.dag.pipelines import build_graph
from siirl.dag.run import Outcome, train
from siirl.dag.session import Session, total_steps
from siirl.data.manifest import ensure_manifests
from siirl.observe.journal import Journal
from siirl.observe.progress import Progress
from siirl.observe.report import write_at_end
from siirl.training.checkpoint import CONFIG, PLAN, saved_steps
from siirl.training.run_folder import locked
from siirl.workers.launch import launch


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 for a setting that cannot work, `INTERRUPTED` after Ctrl-C or
    SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        terminate_as_interrupt()
        return run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        print(
            "interrupted; the same command goes on from the newest checkpoint, or anew where there is none",
            file=sys.stderr,
        )
        return INTERRUPTED


def run(argv: list[str]) -> int:
    """As `main`, but an interrupt is the caller's."""
    with ExitStack() as stack:
        journal = stack.enter_context(Journal())
        try:
            config = parse_command_line(argv, preflight)
            plan = compile_plan(build_graph(config), config)
            if config.dry_run:
                print(plan_text(config, plan))
                return 0
            session, executor = start(config, plan, stack)
            journal.open(Path(config.trainer.default_local_dir), argv, session.step)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        outcome = train(config, session, executor)
    print(closing_lines(config, outcome))
    if config.trainer.report:
        write_at_end(Path(config.trainer.default_local_dir))
    return 0


def manifests(config: Config) -> Prompts:
    """Training and validation prompts of the config, which its manifests then hold."""
    prompts = find_prompts(config)
    ensure_manifests(config, *prompts)
    return prompts


def start(config: Config, plan: Plan, stack: ExitStack) -> tuple[Session, Executor]:
    """Start the workers and resume; closing ``stack`` stops everything, whatever happens.

    Raises:
        ValueError: another process has the run folder, the cluster cannot hold the plan, a component cannot be built
            from what the config names, or no checkpoint can be used.
    """
    run_folder = Path(config.trainer.default_local_dir)
    stack.enter_context(locked(run_folder))
    prompts = manifests(config)
    workers = launch(config, plan)
    stack.callback(workers.close)
    shown, every = "console" in config.trainer.logger, config.trainer.test_freq
    progress = Progress(total_steps(config, len(prompts[0])), enabled=shown, test_freq=every)
    stack.enter_context(progress)
    session = Session(config, workers, prompts, progress)
    stack.callback(session.close)
    (run_folder / CONFIG).write_text(config_to_yaml(config))
    executor = Executor(plan, config, workers, progress.episode_done)
    stack.callback(executor.videos.close)
    (run_folder / PLAN).write_text(json.dumps(plan.as_dict(), indent=1) + "\n")
    return session, executor


def closing_lines(config: Config, outcome: Outcome) -> str:
    """What a user wants to know at the end of a run."""
    folder = config.trainer.default_local_dir
    if config.trainer.val_only:
        assert outcome.success_before is not None, "it has validated"
        return f"validation success {outcome.success_before:.1%}\nmetrics.jsonl, config.yaml: {folder}"
    lines = [f"steps {outcome.first_step} → {outcome.last_step}"]
    if outcome.first_step == outcome.last_step:
        lines.append("nothing was left to do: raise trainer.total_training_steps or trainer.total_epochs to go on")
    if outcome.success_before is not None:
        after = "" if outcome.success_after is None else f" → {outcome.success_after:.1%}"
        earlier = " (measured before this start)" if outcome.first_step == outcome.last_step else ""
        lines.append(f"validation success {outcome.success_before:.1%}{after}{earlier}")
    saved = "checkpoints, " if saved_steps(Path(folder)) else ""
    lines.append(f"{saved}metrics.jsonl, config.yaml: {folder}")
    if not saved:
        lines.append("no checkpoint was saved; trainer.save_freq says every how many steps one is")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
