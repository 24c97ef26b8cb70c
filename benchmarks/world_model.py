"""How fast a world model imagines, beside what the machine's matrix product allows, with and without reusing condition frames.

``python -m benchmarks.world_model`` takes a small model; with ``--device cuda``, random weights of the published XL/2 at 256
pixels (1.2 billion parameters, ten denoising steps, 8 frames after 4). It needs torch, but no Ray, Hydra or simulator.

The floor is the time that the counted operations take at this machine's own matrix product (`benchmarks.flops.matmul_rate`),
each way of sampling beside its own operations. Ways are measured in turns, because a machine's speed drifts; results are medians
over rounds.
"""

import argparse
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import RESULTS, peak_memory, print_table, release, write_result
from benchmarks.policy import DTYPES, in_turns
from siirl.envs.world_model.opensora import OpenSoraModel, OpenSoraSettings
from siirl.envs.world_model.reward_model import WIDTHS, RewardModel
from siirl.envs.world_model.sampler import sample, schedule
from siirl.envs.world_model.stdit3 import STDiT3
from siirl.envs.world_model.vae import AutoencoderKL
from siirl.envs.world_model.weights import ActionStatistics

CHUNK, KEPT, STEPS, ACTION_DIM = 8, 4, 10, 7
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A world model to measure, with random weights.

    Attributes:
        transformer, vae: their ``config.json``.
        widths: of the classifier.
        rows: slots that are imagined together.
        image_size: pixels.
        steps: denoising steps.
    """

    name: str
    dtype: str
    transformer: dict[str, Any]
    vae: dict[str, Any]
    widths: Sequence[int]
    rows: Sequence[int]
    image_size: int
    steps: int = STEPS

    def model(self, device: torch.device, compiled: bool = False) -> tuple[STDiT3, OpenSoraModel]:
        """Its transformer, and the whole."""
        dtype = DTYPES[self.dtype]
        with device:
            transformer, vae = STDiT3(self.transformer).to(dtype).eval(), AutoencoderKL(self.vae).to(dtype)
            reward_model = RewardModel(self.widths)
        ends = np.full(ACTION_DIM, 1, np.float32)
        settings = OpenSoraSettings(CHUNK, KEPT, self.image_size, self.steps, dtype=self.dtype, compile=compiled)
        return transformer, OpenSoraModel(transformer, vae, reward_model, ActionStatistics(-ends, ends), settings)

    def latents(self, transformer: STDiT3, rows: int, frames: int, device: torch.device) -> torch.Tensor:
        """Random latents [rows, C, frames, H', W']."""
        side = self.image_size // 2 ** (len(self.vae.get("block_out_channels", (1, 1, 1, 1))) - 1)
        shape = (rows, transformer.config.in_channels, frames, side, side)
        return torch.randn(shape, device=device, dtype=DTYPES[self.dtype])


SMALL = {"hidden_size": 128, "depth": 4, "num_heads": 4, "in_channels": 8, "caption_channels": 8, "model_max_length": 1}
SMALL_VAE = {
    "block_out_channels": [16, 32, 64, 64],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "latent_channels": 8,
}
"""What ``siirl train-world-model`` makes unless told otherwise."""
TINY = SMALL | {"hidden_size": 32, "depth": 2, "num_heads": 2}
TINY_VAE = SMALL_VAE | {"block_out_channels": [8, 16], "norm_num_groups": 4}
CASES = {
    "cpu": [
        Case("small, 128²", dtype, SMALL, SMALL_VAE, (16, 32, 64, 128), (1, 8), 128, 4) for dtype in ("fp32", "bf16")
    ],
    "cuda": [Case("XL/2, 256²", "bf16", {}, {}, WIDTHS, (1, 4, 8, 16, 32), 256)],
    "tiny": [Case("tiny", "fp32", TINY, TINY_VAE, (4, 8), (2,), 16, 2)],
}


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write ``results/world_model.json`` (or ``world_model_gpu.json``)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--cases", choices=tuple(CASES), help="the device's; tiny: the same path in seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="also with compiled blocks")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    given = parser.parse_args(arguments)
    device, rows = torch.device(given.device), []
    for case in CASES[given.cases or given.device]:
        for found in measure(case, device, given.rounds, given.compile):
            rows.append(found)
            print(found, flush=True)
        release(device)
    report(rows)
    load = round(os.getloadavg()[0], 2)
    settings = {"rounds": given.rounds, "threads": torch.get_num_threads(), "load_at_the_end": load}
    name = {"cpu": "world_model", "cuda": "world_model_gpu"}[given.device]
    print(write_result(name, settings | {"rows": rows}, given.out))


@torch.inference_mode()
def measure(case: Case, device: torch.device, rounds: int, compiled: bool) -> Iterator[Row]:
    """For each number of rows, the transformer's part of a chunk in every way, and all of it: decoded and judged."""
    transformer, model = case.model(device)
    ways: dict[str, tuple[STDiT3, bool]] = {"recomputed": (transformer, False), "reused": (transformer, True)}
    if compiled:
        ways["reused, compiled"] = (case.model(device, compiled=True)[0], True)
    operations = {way: chunk_flops(case, reuse) for way, (_, reuse) in ways.items()}
    timesteps = schedule(case.steps, case.image_size)
    for rows in case.rows:
        condition, noise = (case.latents(transformer, rows, frames, device) for frames in (KEPT, CHUNK))
        actions = torch.randn(rows, CHUNK, ACTION_DIM, device=device)

        def run(network: STDiT3, reuse: bool) -> torch.Tensor:
            return sample(network, condition, noise, actions, timesteps, case.image_size, reuse)  # noqa: B023

        def whole() -> torch.Tensor:
            imagined = model.imagine(condition, actions.cpu().numpy(), range(rows))  # noqa: B023
            return model.success(imagined.frames).cpu()

        runs: dict[str, Callable[[], object]] = {way: partial(run, *how) for way, how in ways.items()}
        with peak_memory(device) as peak:
            found = in_turns({**runs, "whole": whole}, device, DTYPES[case.dtype], rounds)
        about = {"model": case.name, "dtype": case.dtype, "rows": rows, "peak_gib": peak.gib}
        for way in [*ways, "whole"]:
            yield about | row(way, rows, operations.get(way), found)


def row(way: str, rows: int, operations: int | None, found: dict[str, list[float]]) -> Row:
    """Medians of one way; of the floor and beside recomputing where it is the transformer's part alone."""
    seconds = found[way]
    result: Row = {"way": way, "seconds": statistics.median(seconds)}
    result["frames_per_s"] = rows * CHUNK / result["seconds"]
    if operations is None:
        return result
    floors = [rows * operations / rate for rate in found["rate"]]
    return result | {
        "tflop_per_chunk": operations / 1e12,
        "matmul_tflops": statistics.median(found["rate"]) / 1e12,
        "of_floor": statistics.median(f / s for f, s in zip(floors, seconds, strict=True)),
        "speed_up": statistics.median(r / s for r, s in zip(found["recomputed"], seconds, strict=True)),
    }


def chunk_flops(case: Case, reuse: bool) -> int:
    """Operations of one row's chunk in the transformer, as PyTorch counts them on tensors without values."""
    with torch.device("meta"):
        transformer = STDiT3(case.transformer).to(DTYPES[case.dtype])
    condition, noise = (case.latents(transformer, 1, frames, torch.device("meta")) for frames in (KEPT, CHUNK))
    actions = torch.empty(1, CHUNK, ACTION_DIM, device="meta")

    def counted(steps: int) -> int:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            timesteps = schedule(steps, case.image_size)
            sample(transformer, condition, noise, actions, timesteps, case.image_size, reuse)
        return counter.get_total_flops()

    once, twice = counted(1), counted(2)
    return once + (case.steps - 1) * (twice - once)


def report(rows: list[Row]) -> None:
    """The rows as a table."""
    cells = [
        [
            *(r[key] for key in ("model", "dtype", "rows", "way")),
            f"{r['frames_per_s']:.2f}",
            f"{r['of_floor']:.0%}" if "of_floor" in r else "",
            f"{r['speed_up']:.2f}" if "speed_up" in r else "",
            f"{r['peak_gib']:.2f}",
        ]
        for r in rows
    ]
    columns = ["", "dtype", "slots", "condition frames", "frames/s", "of floor", "× recomputed", "peak GiB"]
    print_table("frames per second", columns, cells)


if __name__ == "__main__":
    main()
