"""``python -m siirl.client.sft``: train a small OpenVLA-OFT from nothing on demonstrations, as a start for RL."""

import argparse
import json
import logging
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from siirl.client.arguments import at_least
from siirl.data.demos import Demo
from siirl.policies.prismatic.loading import check_config
from siirl.training.scratch import new_policy
from siirl.training.sft import SFTConfig, build_samples, dataset_statistics, train


def load_demos(folder: Path) -> list[Demo]:
    """Every ``.npz`` under ``folder``, in the order of the file names.

    Raises:
        ValueError: there are none, they are of several suites, or a file is no demonstration.
    """
    demos = [_load_demo(path) for path in sorted(folder.rglob("*.npz"))]
    if not demos:
        raise ValueError(f"no .npz demonstrations under {folder}; write some with python -m siirl.client.collect_demos")
    suites = sorted({d.suite for d in demos})
    if len(suites) > 1:
        raise ValueError(f"{folder} holds demonstrations of {', '.join(suites)}; give the folder of one suite")
    return demos


def _load_demo(path: Path) -> Demo:
    try:
        return Demo.load(path)
    except (zipfile.BadZipFile, EOFError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is no demonstration ({error}); remove it and collect it again") from error


def read_architecture(file: Path) -> dict[str, Any]:
    """The policy's ``config.json``. Raises ValueError when it is missing or none of an OpenVLA policy."""
    text = read_text(file)
    try:
        architecture = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"--architecture {file} is no JSON: {error}") from error
    check_config(architecture, file)
    return architecture


def read_text(file: Path) -> str:
    """A file that the command line names. Raises ValueError when there is none."""
    if not file.is_file():
        raise ValueError(f"there is no file {file}; examples/start_policy has an architecture and a vocabulary")
    return file.read_text()


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; the defaults are the recipe of ``examples/start_policy``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--demos", type=Path, required=True, help="folder of demonstrations (.npz), searched recursively"
    )
    parser.add_argument("--architecture", type=Path, required=True, help="the policy's config.json")
    parser.add_argument("--vocabulary", type=Path, required=True, help="words that the tokenizer knows, one per line")
    parser.add_argument("--out", type=Path, required=True, help="policy folder to write")
    parser.add_argument("--steps", type=at_least(1), default=SFTConfig.steps, help="optimizer steps")
    parser.add_argument("--batch-size", type=at_least(1), default=SFTConfig.batch_size, help="samples per step")
    parser.add_argument("--lr", type=float, default=SFTConfig.lr, help="peak learning rate")
    parser.add_argument(
        "--seed", type=at_least(0), default=SFTConfig.seed, help="seeds weights, batches and augmentation"
    )
    parser.add_argument("--log-every", type=at_least(1), default=SFTConfig.log_every, help="steps between measurements")
    parser.add_argument("--threads", type=at_least(1), default=2, help="PyTorch threads")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and write the policy folder; returns the exit code: 0 done, 2 for input that cannot work."""
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        run(args)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run(args: argparse.Namespace) -> None:
    """Train as the arguments say. Raises ValueError for input that cannot work."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    architecture, words = read_architecture(args.architecture), read_text(args.vocabulary).split()
    demos = load_demos(args.demos)
    policy = new_policy(architecture, words, demos[0].suite, dataset_statistics(demos))
    config = SFTConfig(args.steps, args.batch_size, args.lr, log_every=args.log_every, seed=args.seed)
    train(policy, build_samples(policy, demos), config)
    policy.save(str(args.out))


if __name__ == "__main__":
    sys.exit(main())
