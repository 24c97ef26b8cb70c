"""Train a small world model on recorded rollouts, so that a policy can train inside it: ``siirl train-world-model``.

Writes a folder in the published layout, which ``env.world_model.path`` takes, with the rollouts' first frames in ``dataset/``.
A training that was interrupted goes on when the same command is given again, from at most five minutes before.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from siirl.client.arguments import at_least, probability
from siirl.client.dataset_folder import only_writer
from siirl.client.sft import check_out, make_out
from siirl.config.schema import WorldModelConfig
from siirl.data.files import write_atomically
from siirl.data.lerobot import Columns, read
from siirl.envs.world_model.initial_states import InitialState, write_initial_states
from siirl.envs.world_model.opensora import OpenSoraModel, OpenSoraSettings
from siirl.envs.world_model.reward_model import RewardModel
from siirl.envs.world_model.stdit3 import STDiT3
from siirl.envs.world_model.vae import AutoencoderKL
from siirl.envs.world_model.weights import STATISTICS, ActionStatistics, read_statistics, save_world_model
from siirl.training.world_model.evaluate import measure
from siirl.training.world_model.fitting import Recipe
from siirl.training.world_model.networks import (
    check_labels,
    encode_all,
    fit_autoencoder,
    fit_classifier,
    fit_transformer,
)
from siirl.training.world_model.rollouts import Rollouts, action_statistics, read_rollouts
from siirl.training.world_model.unfinished import Unfinished

RESULT = "training.json"
"""What the training came to; nothing reads it but people."""
OF_A_NETWORK = ("steps", "batch", "lr")
"""Options that each network has of its own."""
MAY_CHANGE = (
    *("out", "rollouts", "device", "threads", "dtype", "sampling_steps", "threshold"),
    *(f"{network}_{name}" for network in ("autoencoder", "transformer", "classifier") for name in OF_A_NETWORK),
)
"""Options of which a training's folder does not tell whether it can go on: they do not decide on what it makes, or are those of
one network, with whose state they are kept, or, in the case of rollouts, their content decides."""
LATENT_PATCH = 2
"""Latents per token along a side."""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; the defaults are the recipe of ``docs/world_model.md``."""
    usual = WorldModelConfig()
    parser = argparse.ArgumentParser(
        "siirl train-world-model", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--rollouts", type=Path, nargs="+", required=True, help="folders of siirl collect-demos --rollouts")
    add(
        "--out",
        type=Path,
        required=True,
        help="model folder to write: empty, not there yet, or an unfinished training to go on with",
    )
    add("--holdout", type=probability, default=0.1, help="part of the trials, the last ones, that only measure")
    add("--chunk", type=at_least(1), default=usual.chunk, help="frames imagined at once")
    add("--condition-frames", type=at_least(1), default=usual.condition_frame_length, help="frames that it remembers")
    add("--autoencoder-widths", type=widths, default=[16, 32, 64, 64], help="channels; each level but one halves sides")
    add("--latent-channels", type=at_least(1), default=8, help="channels of the latents")
    add("--width", type=at_least(8), default=128, help="of the transformer")
    add("--depth", type=at_least(1), default=4, help="of the transformer, pairs of blocks")
    add("--heads", type=at_least(1), default=4, help="of the transformer")
    add("--classifier-widths", type=widths, default=[16, 32, 64, 128], help="channels at each resolution")
    add("--autoencoder-steps", type=at_least(1), default=4000, help="optimizer steps of the autoencoder")
    add("--autoencoder-batch", type=at_least(2), default=16, help="its examples per step")
    add("--autoencoder-lr", type=float, default=1e-3, help="its peak learning rate")
    add("--transformer-steps", type=at_least(1), default=6000, help="optimizer steps of the transformer")
    add("--transformer-batch", type=at_least(2), default=16, help="its examples per step")
    add("--transformer-lr", type=float, default=1e-3, help="its peak learning rate")
    add("--classifier-steps", type=at_least(1), default=1000, help="optimizer steps of the classifier")
    add("--classifier-batch", type=at_least(2), default=32, help="its examples per step")
    add("--classifier-lr", type=float, default=1e-3, help="its peak learning rate")
    add("--sampling-steps", type=at_least(1), default=usual.num_sampling_steps, help="denoising steps when measured")
    add("--threshold", type=probability, default=usual.success_threshold, help="of the classifier when measured")
    add(
        "--dtype",
        choices=("bf16", "fp32"),
        default="bf16",
        help="to compute in; fp32 where a CPU has no bf16 of its own",
    )
    add("--device", default="cpu", help="torch device, e.g. cuda")
    add("--seed", type=at_least(0), default=0, help="seeds weights, batches and noise")
    add("--threads", type=at_least(1), default=2, help="PyTorch threads")
    return parser.parse_args(arguments)


def widths(text: str) -> list[int]:
    """Channels with commas between them, each a multiple of 8: ``16,32,64`` → [16, 32, 64].

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) and int(part) % 8 == 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: multiples of 8 such as 16,32,64")
    return list(map(int, parts))


def check_sizes(args: argparse.Namespace, image_size: int) -> None:
    """Raises ValueError for sizes of networks that do not go together, or with the frames."""
    if args.width % (4 * args.heads):
        raise ValueError(f"--width {args.width} with --heads {args.heads}: allowed: a multiple of {4 * args.heads}")
    factor = 2 ** (len(args.autoencoder_widths) - 1) * LATENT_PATCH
    if image_size % factor:
        raise ValueError(
            f"--autoencoder-widths {','.join(map(str, args.autoencoder_widths))} needs frames whose side is a multiple of "
            f"{factor}; those of {args.rollouts[0]} have {image_size}: name fewer widths, or collect others (--image-size)"
        )


def run(args: argparse.Namespace) -> dict[str, float]:
    """Train as the arguments say, and write the folder; returns what was measured.

    Raises:
        ValueError: input that cannot work.
    """
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    unfinished = Unfinished(args.out)
    if not unfinished.exists:
        check_out(args.out)
    datasets = [read(folder, Columns()) for folder in args.rollouts]
    check_sizes(args, datasets[0].info.image_size[0])
    data = read_rollouts(datasets)
    train, _ = data.split(args.holdout)
    check_labels(train)
    make_out(args.out)
    with only_writer(args.out):
        unfinished.begin(made_of(args, data))
        result = fit_and_write(args, data, unfinished)
        unfinished.remove()
    return result


def made_of(args: argparse.Namespace, data: Rollouts) -> dict[str, Any]:
    """What decides on all networks: the content of the rollouts, and most of the command line."""
    options = {f"--{name.replace('_', '-')}": value for name, value in vars(args).items() if name not in MAY_CHANGE}
    return {"content of --rollouts": data.fingerprint(), **options}


def fit_and_write(args: argparse.Namespace, data: Rollouts, unfinished: Unfinished) -> dict[str, float]:
    """Train all networks, write the folder and measure."""
    train, held = data.split(args.holdout)
    statistics = action_statistics(train)
    write_atomically(args.out / STATISTICS, lambda stream: stream.write(json.dumps(statistics).encode()))
    normal = read_statistics(args.out / STATISTICS)
    transformer, vae, classifier, latents = fit_all(args, data, normal, unfinished)
    save_world_model(args.out, transformer, vae, classifier, statistics)
    write_initial_states(args.out / "dataset", initial_states(data))
    settings = OpenSoraSettings(args.chunk, args.condition_frames, data.size, args.sampling_steps, dtype="fp32")
    model = OpenSoraModel(transformer, vae, classifier, normal, settings)
    result = {"rollouts": float(len(data.episodes)), "held_out": float(len(held))}
    result |= measure(model, vae, data, latents, held, args.threshold)
    write_atomically(args.out / RESULT, lambda stream: stream.write(json.dumps(result, indent=1).encode()))
    return result


def fit_all(
    args: argparse.Namespace, data: Rollouts, statistics: ActionStatistics, unfinished: Unfinished
) -> tuple[STDiT3, AutoencoderKL, RewardModel, torch.Tensor]:
    """Build and fit autoencoder, transformer and classifier; and the latents of all frames."""
    generator = torch.Generator().manual_seed(args.seed)
    train, _ = data.split(args.holdout)
    vae = AutoencoderKL(
        {
            "block_out_channels": args.autoencoder_widths,
            "layers_per_block": 1,
            "latent_channels": args.latent_channels,
            "norm_num_groups": 8,
            "scaling_factor": 1.0,
        }
    ).to(args.device)
    fit_autoencoder(vae, data, train, recipe(args, "autoencoder"), generator, unfinished)
    latents = encode_all(vae, data)
    transformer = STDiT3(
        {
            "hidden_size": args.width,
            "depth": args.depth,
            "num_heads": args.heads,
            "in_channels": args.latent_channels,
            "patch_size": [1, LATENT_PATCH, LATENT_PATCH],
            "pred_sigma": False,
            "caption_channels": 8,
            "model_max_length": 1,
            "pad_action_num": args.condition_frames,
            "use_timestep_transform": False,  # made for 256 pixels and more: see `siirl.envs.world_model.sampler.shift`
        }
    ).to(args.device)
    fit_transformer(
        transformer,
        latents,
        train,
        statistics,
        (args.chunk, data.size),
        recipe(args, "transformer"),
        generator,
        unfinished,
    )
    classifier = RewardModel(args.classifier_widths).to(args.device)
    fit_classifier(classifier, vae, data, latents, train, recipe(args, "classifier"), generator, unfinished)
    return transformer, vae, classifier, latents


def recipe(args: argparse.Namespace, network: str) -> Recipe:
    """What the command line says of one network's training."""
    steps, batch, lr = (getattr(args, f"{network}_{name}") for name in OF_A_NETWORK)
    return Recipe(steps, batch, lr, args.dtype)


def initial_states(data: Rollouts) -> list[InitialState]:
    """The first frame of every trial of every goal, once."""
    first = {(one.instruction, one.trial): one for one in reversed(data.episodes)}
    return [
        InitialState(data.frames[one.first], goal, trial, f"trial {trial}")
        for (goal, trial), one in sorted(first.items())
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and write the model folder; returns the exit code: 0 done, 2 for input that cannot work, such as a learning rate by
    which a loss ends in infinity."""
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        result = run(args)
    except (ValueError, FloatingPointError) as error:
        print(error, file=sys.stderr)
        return 2
    for name, value in result.items():
        print(f"{name:<20}{value:.4g}")
    print(f"world model written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
