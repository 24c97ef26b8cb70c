"""``python -m siirl.client.sft``: train a small OpenVLA-OFT from nothing on demonstrations, as a start for RL."""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from siirl.data.demos import Demo
from siirl.training.scratch import new_policy
from siirl.training.sft import SFTConfig, build_samples, dataset_statistics, train


def load_demos(folder: Path) -> list[Demo]:
    """Every ``.npz`` under ``folder``, in the order of the file names.

    Raises:
        ValueError: there are none, or they are of several suites.
    """
    demos = [Demo.load(path) for path in sorted(folder.rglob("*.npz"))]
    if not demos:
        raise ValueError(f"no .npz demonstrations under {folder}; write some with python -m siirl.client.collect_demos")
    suites = sorted({d.suite for d in demos})
    if len(suites) > 1:
        raise ValueError(f"{folder} holds demonstrations of {', '.join(suites)}; give the folder of one suite")
    return demos


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; the defaults are the recipe of ``examples/start_policy``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--demos", type=Path, required=True, help="folder of demonstrations (.npz), searched recursively"
    )
    parser.add_argument("--architecture", type=Path, required=True, help="the policy's config.json")
    parser.add_argument("--vocabulary", type=Path, required=True, help="words that the tokenizer knows, one per line")
    parser.add_argument("--out", type=Path, required=True, help="policy folder to write")
    parser.add_argument("--steps", type=int, default=SFTConfig.steps, help="optimizer steps")
    parser.add_argument("--batch-size", type=int, default=SFTConfig.batch_size, help="samples per step")
    parser.add_argument("--lr", type=float, default=SFTConfig.lr, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=SFTConfig.seed, help="seeds weights, batches and augmentation")
    parser.add_argument("--log-every", type=int, default=SFTConfig.log_every, help="steps between measurements")
    parser.add_argument("--threads", type=int, default=2, help="PyTorch threads")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write the policy folder."""
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    demos = load_demos(args.demos)
    architecture = json.loads(args.architecture.read_text())
    words = args.vocabulary.read_text().split()
    policy = new_policy(architecture, words, demos[0].suite, dataset_statistics(demos))
    config = SFTConfig(args.steps, args.batch_size, args.lr, log_every=args.log_every, seed=args.seed)
    train(policy, build_samples(policy, demos), config)
    policy.save(str(args.out))


if __name__ == "__main__":
    main()
