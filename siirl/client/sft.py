"""``python -m siirl.client.sft``: train a small OpenVLA-OFT from nothing on demonstrations, as a start for RL."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from siirl.client.arguments import at_least
from siirl.data.lerobot import Columns, Demonstrations, read
from siirl.envs.libero import from_libero_gripper
from siirl.policies.prismatic.loading import check_config
from siirl.training.samples import build_samples, dataset_statistics
from siirl.training.scratch import new_policy
from siirl.training.sft import SFTConfig, train

GRIPPERS = {"libero": "−1 opens and +1 closes", "open": "1 is open and 0 closed"}


def load_demos(root: Path, columns: Columns, gripper: str, architecture: dict[str, Any]) -> Demonstrations:
    """The dataset in ``root``, with its grippers in the policy's convention (1 is open).

    Args:
        root: LeRobotDataset v3.0 folder.
        columns: its features.
        gripper: a key of `GRIPPERS`.
        architecture: the policy's config, which says how long actions and states are.

    Raises:
        ValueError: as `siirl.data.lerobot.read`, vectors of another length, or grippers of the other convention.
    """
    data = read(root, columns)
    wanted = {columns.action: (data.info.action_dim, architecture.get("action_token_len", 7))}
    if architecture.get("use_proprio"):
        wanted[columns.state] = (data.info.state_dim, architecture["proprio_dim"])
    for name, (length, allowed) in wanted.items():
        if length != allowed:
            raise ValueError(f"{root}: {name} has {length} dimensions; the policy has {allowed}: name another feature")
    lowest = min(float(d.actions[:, -1].min()) for d in data.demos)
    found = "libero" if lowest < 0 else "open"
    if found != gripper:
        raise ValueError(
            f"--gripper {gripper} says that {GRIPPERS[gripper]}, but the lowest gripper action in {root} is {lowest:g}; "
            f"set --gripper {found} ({GRIPPERS[found]})"
        )
    if gripper == "libero":
        data = replace(data, demos=[replace(d, actions=from_libero_gripper(d.actions)) for d in data.demos])
    return data


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
    add = parser.add_argument
    add("--demos", type=Path, required=True, help="LeRobotDataset v3.0 folder")
    add("--suite", required=True, help="what it demonstrates, e.g. libero_spatial: key of the policy's statistics")
    add("--architecture", type=Path, required=True, help="the policy's config.json")
    add("--vocabulary", type=Path, required=True, help="words that the tokenizer knows, one per line")
    add("--out", type=Path, required=True, help="policy folder to write")
    add("--camera", default=Columns.camera, help="feature of the frames")
    add("--state", default=Columns.state, help="feature of the proprioception")
    add("--action", default=Columns.action, help="feature of the actions")
    add(
        "--gripper",
        choices=sorted(GRIPPERS),
        default="libero",
        help="; ".join(f"{k}: {v}" for k, v in GRIPPERS.items()),
    )
    add("--rotated", action="store_true", help="frames are upside down, as LIBERO renders them; turn them by 180°")
    add("--frame-every", type=at_least(1), default=SFTConfig.frame_every, help="steps between frames to learn from")
    add("--steps", type=at_least(1), default=SFTConfig.steps, help="optimizer steps")
    add("--batch-size", type=at_least(1), default=SFTConfig.batch_size, help="samples per step")
    add("--lr", type=float, default=SFTConfig.lr, help="peak learning rate")
    add("--seed", type=at_least(0), default=SFTConfig.seed, help="seeds weights, batches and augmentation")
    add("--log-every", type=at_least(1), default=SFTConfig.log_every, help="steps between measurements")
    add("--threads", type=at_least(1), default=2, help="PyTorch threads")
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
    columns = Columns(args.camera, args.state, args.action, args.rotated)
    data = load_demos(args.demos, columns, args.gripper, architecture)
    policy = new_policy(architecture, words, args.suite, dataset_statistics(data.demos))
    config = SFTConfig(
        args.steps, args.batch_size, args.lr, log_every=args.log_every, seed=args.seed, frame_every=args.frame_every
    )
    train(policy, build_samples(policy, data, config.frame_every), config)
    policy.save(str(args.out))


if __name__ == "__main__":
    sys.exit(main())
