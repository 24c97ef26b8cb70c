"""Evaluate: run a policy on every (task, trial) of some suites, once or a chosen number of times, and tell its success.

``siirl evaluate POLICY --config-name=libero_spatial_grpo_openvlaoft key=value …``
"""

import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any

from rich.console import Console

from siirl.client.evaluation import Evaluation, Part, prepare
from siirl.client.interrupts import INTERRUPTED, terminate_as_interrupt
from siirl.config.estimate import memory_estimate
from siirl.config.evaluation import FOLDER
from siirl.config.load import config_to_yaml
from siirl.data.trajectory import EpisodeSpec, EpisodeSummary
from siirl.observe.episodes import COMPACTED, EpisodeLog, EpisodeRow, compact
from siirl.observe.journal import Journal
from siirl.observe.pairing import key_of
from siirl.observe.progress import Progress
from siirl.observe.report import write_at_end
from siirl.observe.results import RESULTS, results, show_results, write_results
from siirl.observe.video.shelf import Shelf
from siirl.policies.base import Sampling
from siirl.training.checkpoint import CONFIG
from siirl.training.export import export
from siirl.training.run_folder import config_of, locked
from siirl.workers.base import Workers
from siirl.workers.launch import launch

WEIGHTS = "policy"
"""Folder, in the evaluation's, of a checkpoint's policy while it is evaluated."""


class Incomplete(Exception):  # noqa: N818  (says what happened)
    """Not every episode could be written."""


class CannotStart(Exception):  # noqa: N818  (says what happened)
    """The cluster cannot hold the workers, or a component cannot be built from what the config names."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 for episodes that could not be written, 2 for a setting that cannot
    work, `INTERRUPTED` after Ctrl-C or SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        terminate_as_interrupt()
        return run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the episodes that are missing", file=sys.stderr)
        return INTERRUPTED


def run(argv: list[str]) -> int:
    """As `main`, but an interrupt is the caller's."""
    console = Console(highlight=False)
    try:
        return evaluate(argv, console)
    except Incomplete as error:
        print(error, file=sys.stderr)
        return 1
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 2


def evaluate(argv: list[str], console: Console) -> int:
    """As `run`.

    Raises:
        CannotStart: the workers cannot be started.
        Incomplete: not every episode could be written.
    """
    with ExitStack() as stack:
        journal = stack.enter_context(Journal())
        try:
            evaluation = prepare(argv)
            console.print(describe(evaluation), soft_wrap=True)
            if evaluation.config.dry_run:
                for part in evaluation.parts:
                    console.print(part.plan.describe(), memory_estimate(part.config), sep="\n", soft_wrap=True)
                return 0
            parts = begin(evaluation, stack)
            journal.open(evaluation.folder, argv, step=0)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        measure(evaluation, parts)
        content = finish(evaluation)
    show_results(content, console)
    console.print(f"{RESULTS}, {COMPACTED}, {CONFIG}: {evaluation.folder}", soft_wrap=True)
    if evaluation.config.trainer.report:
        write_at_end(evaluation.folder)
    return 0


def describe(evaluation: Evaluation) -> str:
    """What will be run, in a few lines."""
    config, subject = evaluation.config, evaluation.subject
    ref, settings, done = config.actor_rollout_ref, config.evaluate, len(evaluation.finished())
    how = f"sampled at temperature {settings.temperature:g}" if settings.do_sample else "greedy"
    of = f", step {subject.checkpoint.step}" if subject.checkpoint else ""
    trials = f"{settings.split} trials, {settings.rollout_epoch} episode{'s' * (settings.rollout_epoch > 1)} each"
    rows = [("policy", f"{subject.path}{of} ({ref.embodied.embodied_type}, {ref.model.dtype}), {how}")]
    for suite, statistics in evaluation.statistics.items():
        rows.append(("suite", f"{suite}, actions by the statistics of {statistics}"))
    total = len(evaluation.specs)
    rows.append(("episodes", f"{total} ({trials})" + (f"; {done} of them are there already" if done else "")))
    rows.append(("folder", str(evaluation.folder)))
    return "\n".join(["evaluation", *(f"  {name:<12} {text}" for name, text in rows)])


def begin(evaluation: Evaluation, stack: ExitStack) -> list[Part]:
    """Take hold of the folder and bring a checkpoint's policy into a form that can act; closing ``stack`` undoes both.

    Returns:
        The parts, with the policy to load.

    Raises:
        ValueError: another process has the folder, or the checkpoint's policy cannot be written there.
    """
    folder, checkpoint = evaluation.folder, evaluation.subject.checkpoint
    stack.enter_context(locked(folder, FOLDER))
    parts, weights = evaluation.parts, folder / WEIGHTS
    if not (folder / RESULTS).is_file():  # first of all: by it, a start that was killed is known
        write_results(folder, {"complete": False} | evaluation.header())
    if weights.exists():
        shutil.rmtree(weights)  # of a start that was killed
    if checkpoint is not None and evaluation.finished().keys() != evaluation.specs.keys():
        stack.callback(shutil.rmtree, weights, ignore_errors=True)
        export(checkpoint.path, evaluation.subject.start, weights, config_of(checkpoint.state))
        parts = [replace(part, config=_acting_with(part, str(weights))) for part in parts]
    (folder / CONFIG).write_text(config_to_yaml(evaluation.config))
    return parts


def _acting_with(part: Part, weights: str) -> Any:
    """The part's config, with the policy in the folder ``weights``."""
    ref = part.config.actor_rollout_ref
    return replace(part.config, actor_rollout_ref=replace(ref, model=replace(ref.model, path=weights)))


def measure(evaluation: Evaluation, parts: list[Part]) -> None:
    """Run the episodes that are missing; each is written as it ends.

    Raises:
        CannotStart: the workers cannot be started.
    """
    done = evaluation.finished()
    ended = [_summary(row, evaluation.specs[key]) for key, row in done.items()]
    log = EpisodeLog(evaluation.folder, flush_every=1)
    with closing(log), Progress(0, enabled="console" in evaluation.config.trainer.logger) as progress:
        progress.stage("evaluation")
        progress.episodes(len(evaluation.specs), len(done), sum(row.success for row in done.values()))
        for part in parts:
            missing = [spec for spec in part.specs if key_of(spec) not in done]
            if not missing:
                continue
            videos = Shelf(part.config.actor_rollout_ref.embodied.env.val_video_cfg, evaluation.folder, "eval")
            with started(part) as workers, closing(videos):
                sampling, reel = Sampling.of(part.config.evaluate), videos.reel(0)
                for episode in workers.rollout(missing, sampling, keep=False, after=0, expected_steps={}, reel=reel):
                    ended.append(episode.summary)
                    with_video = videos.keep(0, ended, workers.videos)[-1]
                    log.add(EpisodeRow.of(with_video, 0, "eval", with_actions=True))
                    progress.episode_done(episode.summary)


def _summary(row: EpisodeRow, spec: EpisodeSpec) -> EpisodeSummary:
    """What is needed of an episode that ended before this start, to choose whose videos stay."""
    return EpisodeSummary(spec, row.success, row.steps, row.chunks, row.truncated, row.policy_version, row.drop_reason)


@contextmanager
def started(part: Part) -> Iterator[Workers]:
    """The workers of a part, ready to act.

    Raises:
        CannotStart: they cannot be.
    """
    try:
        workers = launch(part.config, part.plan)
    except ValueError as error:
        raise CannotStart(str(error)) from error
    with closing(workers):
        workers.sync(0)
        yield workers


def finish(evaluation: Evaluation) -> dict[str, Any]:
    """Write the results of an evaluation whose episodes have been run. Nothing in ``results.json`` tells how often it was
    interrupted.

    Raises:
        Incomplete: some episodes could not be written.
    """
    rows = evaluation.finished()
    if len(rows) < len(evaluation.specs):
        raise Incomplete(f"not every episode could be written to {evaluation.folder}; the same command runs the others")
    compact(evaluation.folder)
    content = {"complete": True} | evaluation.header() | results(list(rows.values()))
    write_results(evaluation.folder, content)
    return content


if __name__ == "__main__":
    sys.exit(main())
