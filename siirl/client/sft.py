"""Train a small OpenVLA-OFT, OpenVLA or StarVLA from nothing on demonstrations, as a start for RL: ``siirl sft``."""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from siirl.client.arguments import at_least
from siirl.data.lerobot import Columns, Demo, Demonstrations, read
from siirl.envs.libero import from_libero_gripper
from siirl.policies.base import Policy
from siirl.policies.prismatic.loading import check_config
from siirl.policies.prismatic.prompt import TEMPLATE
from siirl.training.lessons import BinLesson, Lesson, RegressionLesson
from siirl.training.samples import build_samples, dataset_statistics
from siirl.training.scratch import SPECIAL, load_vision, new_policy, word_tokenizer
from siirl.training.sft import SFTConfig, split, train

GRIPPERS = {"libero": "−1 opens and +1 closes", "open": "1 is open and 0 closed"}
GRIPPER_ENDS = {"libero": (-1.0, 1.0), "open": (0.0, 1.0)}
STARVLA = "starvla"
"""``embodied_type`` of an architecture whose policy regresses actions, and whose tokenizer knows any word."""
TOLERANCE = 0.1
"""How far the lowest and the highest gripper action of a dataset may be from the ends of its convention."""


def load_demos(root: Path, columns: Columns, gripper: str, architecture: dict[str, Any]) -> Demonstrations:
    """The dataset in ``root``, with its grippers in the policy's convention (1 is open).

    Args:
        root: LeRobotDataset v3.0 folder.
        columns: its features.
        gripper: a key of `GRIPPERS`.
        architecture: the policy's config, which says how long actions and states are.

    Raises:
        ValueError: as `siirl.data.lerobot.read`, vectors of another length, or grippers of another range.
    """
    data = read(root, columns)
    wanted = {columns.action: (data.info.action_dim, architecture.get("action_token_len", 7))}
    if architecture.get("use_proprio"):
        wanted[columns.state] = (data.info.state_dim, architecture["proprio_dim"])
    for name, (length, allowed) in wanted.items():
        if length != allowed:
            raise ValueError(f"{root}: {name} has {length} dimensions; the policy has {allowed}: name another feature")
    check_gripper(data, gripper)
    convert = from_libero_gripper if gripper == "libero" else clip_gripper
    return replace(data, demos=[replace(d, actions=convert(d.actions)) for d in data.demos])


def check_gripper(data: Demonstrations, gripper: str) -> None:
    """Raises ValueError when the gripper actions do not reach from one end of the convention to the other, or lie beyond
    them. Which end opens the gripper cannot be told from them."""
    found = [pick(float(pick(d.actions[:, -1])) for d in data.demos) for pick in (min, max)]
    fitting = [name for name, ends in GRIPPER_ENDS.items() if np.allclose(found, ends, rtol=0, atol=TOLERANCE)]
    if gripper in fitting:
        return
    low, high = GRIPPER_ENDS[gripper]
    fix = "".join(f"set --gripper {name} if {GRIPPERS[name]}, or " for name in fitting)
    raise ValueError(
        f"--gripper {gripper} says that {GRIPPERS[gripper]}, but the last dimension of {data.columns.action} in {data.root} lies "
        f"in [{found[0]:g}, {found[1]:g}]; allowed: from {low:g} to {high:g}, both reached within {TOLERANCE:g}: {fix}convert "
        "the gripper's actions, or name with --action a feature that ends with them"
    )


def clip_gripper(actions: np.ndarray) -> np.ndarray:
    """Grippers in the policy's convention, clipped to [0, 1]: float32 [L, A] → [L, A]."""
    return np.concatenate([actions[:, :-1], actions[:, -1:].clip(0, 1)], axis=1)


def check_words(words: Sequence[str], demos: Sequence[Demo]) -> None:
    """Raises ValueError when a prompt has words that the policy would not tell from each other."""
    tokenizer, unknown = word_tokenizer(words), set()
    for instruction in {demo.instruction.lower() for demo in demos}:
        prompt = TEMPLATE.format(instruction=instruction)
        encoded = tokenizer.encode(prompt)
        unknown |= {
            prompt[begin:end]
            for token, (begin, end) in zip(encoded.tokens, encoded.offsets, strict=True)
            if token == SPECIAL["unk_token"]
        }
    if unknown:
        raise ValueError(
            f"--vocabulary lacks words of the prompts: {' '.join(sorted(unknown))}; add them, one per line"
        )


def check_out(folder: Path) -> None:
    """Raises ValueError when there is something that the policy would mix with or overwrite."""
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise ValueError(f"--out {folder} exists and is not an empty folder; remove it, or name another one")


def make_out(folder: Path) -> None:
    """Make the folder to write. Raises ValueError when that cannot be done, or nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"--out {folder} cannot be written ({error}); name another folder") from error


def read_architecture(file: Path) -> dict[str, Any]:
    """The policy's ``config.json``. Raises ValueError when it is missing or none of a policy that can be made."""
    text = read_text(file)
    try:
        architecture = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"--architecture {file} is no JSON: {error}") from error
    if not isinstance(architecture, dict) or architecture.get("embodied_type") != STARVLA:
        check_config(architecture, file)
    return architecture


def begin(
    args: argparse.Namespace, architecture: dict[str, Any], words: Sequence[str], data: Demonstrations, sigma: float
) -> tuple[Policy, Lesson]:
    """A policy with random weights, and what it is to learn.

    Args:
        sigma: of the soft labels of action tokens.

    Raises:
        ValueError: the architecture has no room for the words, or is of another kind; prompts have words that the vocabulary
            lacks; or the vision tower's file is of another one.
    """
    statistics = dataset_statistics(data.demos)
    if architecture.get("embodied_type") == STARVLA:
        if args.vision:
            raise ValueError(
                f"--vision {args.vision} is a tower of OpenVLA's, which {STARVLA} has none of; leave it out"
            )
        from siirl.training.scratch_starvla import new_starvla  # imports transformers' Qwen-VLs

        regressing = new_starvla(architecture, words, args.suite, statistics)
        return regressing, RegressionLesson(regressing)
    check_words(words, data.demos)
    policy = new_policy(architecture, words, args.suite, statistics)
    if args.vision:
        load_vision(policy.model.vision_backbone, args.vision)
    return policy, BinLesson(policy, sigma)


def read_text(file: Path) -> str:
    """A file that the command line names. Raises ValueError when there is none."""
    if not file.is_file():
        raise ValueError(f"there is no file {file}; examples/start_policy has an architecture and a vocabulary")
    return file.read_text()


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; the defaults are the recipe of ``examples/start_policy``."""
    parser = argparse.ArgumentParser(
        "siirl sft", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--demos", type=Path, required=True, help="LeRobotDataset v3.0 folder")
    add("--suite", required=True, help="what it demonstrates, e.g. libero_spatial: key of the policy's statistics")
    add("--architecture", type=Path, required=True, help="the policy's config.json")
    add("--vocabulary", type=Path, required=True, help="words that the tokenizer makes one token of, one per line")
    add("--vision", type=Path, help="safetensors file of a vision tower to start from; default: from nothing")
    add("--out", type=Path, required=True, help="policy folder to write, empty or not there yet")
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
    add("--max-shift", type=at_least(0), default=SFTConfig.max_shift, help="largest random shift of a frame, pixels")
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
    check_out(args.out)
    architecture, words = read_architecture(args.architecture), read_text(args.vocabulary).split()
    columns = Columns(args.camera, args.state, args.action, args.rotated)
    data = load_demos(args.demos, columns, args.gripper, architecture)
    config = SFTConfig(
        args.steps,
        args.batch_size,
        args.lr,
        max_shift=args.max_shift,
        log_every=args.log_every,
        seed=args.seed,
        frame_every=args.frame_every,
    )
    split(np.array([demo.trial for demo in data.demos]), config.holdout)  # raises here, not after the frames
    policy, lesson = begin(args, architecture, words, data, config.label_sigma)
    make_out(args.out)
    train(lesson, build_samples(lesson, data, config.frame_every), config)
    policy.save(str(args.out))


if __name__ == "__main__":
    sys.exit(main())
