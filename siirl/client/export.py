"""Take the trained policy out of a run, as a Hugging Face folder: ``siirl export RUN_DIR OUT_DIR``."""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from siirl.client.arguments import at_least
from siirl.config.folders import is_policy_folder
from siirl.config.schema import Config
from siirl.observe.card import Exported, card, is_hub_name
from siirl.observe.episodes import read_episodes
from siirl.observe.report.run import Run, read_run
from siirl.observe.results import RESULTS, read_results
from siirl.training.checkpoint import METRICS, Found, newest, open_verified, saved_steps, verify
from siirl.training.export import CARD, export, export_adapters
from siirl.training.parameters import AGAIN, BACK, reading
from siirl.training.run_folder import config_of, weights_digest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 for input that cannot work."""
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with reading(args.out_dir, "name another OUT_DIR"):
            check_out(args.out_dir)
        logging.info("verifying the checkpoint in %s", args.run_dir)
        with reading(args.run_dir, AGAIN):
            found = find_checkpoint(args.run_dir, args.step)
        config = config_of(found.state)
        start = args.policy or Path(config.actor_rollout_ref.model.path)
        with reading(start, BACK):
            check_start(start, found, "say with --policy where it is")
            about = describe(args, found, start, config)
        write = export_adapters if args.adapters else export
        weights = write(
            found.path, start, args.out_dir, config, lambda folder: checked_card(args, found, about, folder)
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(closing_lines(args, found, start, weights))
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="siirl export", description=__doc__)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="the run's trainer.default_local_dir")
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder to write, empty or not there yet")
    parser.add_argument("--step", type=at_least(1), help="the checkpoint's step (default: the newest that verifies)")
    parser.add_argument(
        "--policy", type=Path, help="where the policy that the run started from is now, if it was moved since"
    )
    parser.add_argument(
        "--adapters",
        action="store_true",
        help="write the LoRA adapters alone, in peft's layout (default: merged into the policy's weights)",
    )
    parser.add_argument(
        "--results", type=Path, metavar="FOLDER", help="evaluation of this policy, whose numbers the model card shows"
    )
    parser.add_argument(
        "--base-model",
        type=hub_model,
        metavar="OWNER/NAME",
        help="name of the policy that the run started from on the Hugging Face Hub, for the model card",
    )
    return parser.parse_args(arguments)


def hub_model(text: str) -> str:
    """A command-line value that names a model of the Hugging Face Hub."""
    if not is_hub_name(text):
        raise argparse.ArgumentTypeError(f"{text}: allowed: OWNER/NAME as on the Hugging Face Hub")
    return text


def check_out(folder: Path) -> None:
    """Raises ValueError when there is something that the export would mix with or overwrite."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise ValueError(f"OUT_DIR {folder} exists and is not an empty folder; remove it, or name another one")


def find_checkpoint(run: Path, step: int | None) -> Found:
    """The checkpoint of ``step``, or the newest that verifies.

    Raises:
        ValueError: there is no such checkpoint, or it is broken.
    """
    steps = saved_steps(run)
    if not steps:
        raise ValueError(
            f"RUN_DIR {run} has no checkpoint, no folder global_step_N; give the trainer.default_local_dir of a run that "
            "has saved one"
        )
    if step is None:
        found = newest(run, "restore one from a backup")
        assert found is not None, "there are steps"
        return found
    known = ", ".join(map(str, steps))
    if step not in steps:
        raise ValueError(f"--step {step}: {run} has no such checkpoint; it has those of step {known}")
    path = run / f"global_step_{step}"
    if (problem := verify(path)) is not None:
        raise ValueError(f"--step {step}: {path} is broken: {problem}; take another of the steps {known}")
    return open_verified(path)


def check_start(start: Path, found: Found, otherwise: str) -> None:
    """The files besides the weights must be those of the policy that the run started from.

    Args:
        otherwise: what to do where the folder is somewhere else now.

    Raises:
        ValueError: the folder is gone, or holds another policy.
    """
    if not is_policy_folder(start):
        raise ValueError(
            f"the policy folder {start}, which the run started from (its actor_rollout_ref.model.path), is gone: there is no "
            f"config.json. Config, statistics and tokenizer come from there: put it back, or {otherwise}"
        )
    digest = weights_digest(start)
    if found.state.get("start_weights", digest) != digest:
        raise ValueError(
            f"the policy folder {start} holds other weights than those that the run of {found.path} started from, so its "
            f"config, statistics and tokenizer may be others too: put the old ones back, or {otherwise}"
        )


def describe(args: argparse.Namespace, found: Found, start: Path, config: Config) -> Exported:
    """What the model card will be about.

    Raises:
        ValueError: ``--results`` names no finished evaluation.
    """
    return Exported(
        name=args.out_dir.absolute().name,
        start=start,
        start_digest=weights_digest(start),
        step=found.step,
        config=config,
        run=logged(args.run_dir),
        results=None if args.results is None else finished(args.results),
        base_model=args.base_model,
        adapters=args.adapters,
    )


def logged(run: Path) -> Run | None:
    """What a run logged; None where its checkpoints lie alone."""
    there = (run / METRICS).is_file() or read_episodes(run).num_rows
    return read_run(run) if there else None


def finished(folder: Path) -> dict[str, Any]:
    """The results of an evaluation.

    Raises:
        ValueError: it is none, or has not come to its end.
    """
    results = read_results(folder)
    if not results.get("complete"):
        raise ValueError(
            f"--results {folder}: the evaluation is not complete; the command that began it goes on with it"
        )
    return results


def checked_card(args: argparse.Namespace, found: Found, about: Exported, folder: Path) -> str:
    """The model card of the policy in ``folder``; an evaluation of its checkpoint is as good as one of the folder.

    Raises:
        ValueError: ``--results`` are those of other weights.
    """
    if about.results is not None and about.results["weights"] not in (found.digest(), weights_digest(folder)):
        raise ValueError(
            f"--results {args.results}: {RESULTS} is about other weights ({about.results['policy']}) than {found.path}; "
            "evaluate that, or name its step with --step"
        )
    return card(about)


def closing_lines(args: argparse.Namespace, found: Found, start: Path, weights: Sequence[Path]) -> str:
    """What was written, and what to do with it."""
    run, out = args.run_dir, args.out_dir
    names = sorted(file.name for file in out.iterdir() if file not in weights and file.name != CARD)
    shards = weights[0].name if len(weights) == 1 else f"{weights[0].name} … {weights[-1].name}"
    train_on = [
        *("siirl", "train", "--config-dir", str(run), "--config-name", "config"),
        *(f"actor_rollout_ref.model.path={out}", "trainer.default_local_dir=runs/next", "trainer.resume_mode=auto"),
    ]
    what = "the adapters" if args.adapters else "the policy"
    return "\n".join(
        (
            f"{out}: {what} after step {found.step} of {run}",
            f"  weights    {shards} ({sum(file.stat().st_size for file in weights) / 1e6:,.1f} MB)",
            f"  with       {', '.join(names)}",
            f"  card       {CARD}: read it, and add what you know, before you publish",
            f"  belong to  {start}" if args.adapters else f"  train on   {shlex.join(train_on)}",
            f"  publish    {shlex.join(['hf', 'upload', 'YOUR_NAME/YOUR_MODEL', str(out)])}",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
