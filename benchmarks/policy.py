"""How fast the policy acts and is updated, and a video is embedded, beside what the machine's matrix products allow.

``python -m benchmarks.policy`` takes the shipped start policy and a larger one with random weights; with ``--device cuda``,
random weights of the published OpenVLA-7B and of V-JEPA 2's ViT-g. It needs torch, transformers and timm, but no Ray and no
simulator.

The floor is the time that the counted operations take at this machine's own matrix product (`benchmarks.flops`), and beside `act`
runs the forward as one would first write it (`benchmarks.plain`). They are measured in turns, because a machine's speed drifts,
and results are medians over rounds of ratios within one.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.common import RESULTS, peak_memory, print_table, release, write_result
from benchmarks.flops import forward_flops, matmul_rate, synchronise, video_flops
from benchmarks.plain import plain, plain_clip
from benchmarks.published import INSTRUCTION, OPENVLA_7B, VIT_G, random_policy, random_video_encoder, scaled
from benchmarks.starvla import QWEN2_5_VL_3B, PlainStarVLA, random_starvla, starvla_flops
from benchmarks.starvla import TINY as TINY_STARVLA
from siirl.config.schema import Config
from siirl.data.trajectory import EpisodeSpec, EpisodeSummary, Target, Trajectory
from siirl.embeddings.vjepa2 import VJEPA2
from siirl.envs.base import EnvObs
from siirl.policies import load_policy
from siirl.policies.base import Sampling
from siirl.policies.prismatic.policy import PrismaticPolicy
from siirl.policies.starvla import StarVLA
from siirl.roles.trainer import Trainer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
START_POLICY = Path(__file__).parents[1] / "assets" / "start_policy"
FORWARD_AND_BACKWARD = 3
"""Operations of an update in those of a forward: the backward pass has two products for each of the forward's. What gradient
checkpointing computes again does not count as useful."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A policy to measure.

    Attributes:
        config: ``config.json`` of random weights, or None for the start policy.
        act: batch sizes of `act`.
        update: micro-batch sizes of the update, each without and with gradient checkpointing where ``checkpointing`` says so.
    """

    name: str
    embodied_type: str
    dtype: str
    config: dict[str, Any] | None
    act: Sequence[int]
    update: Sequence[int] = ()
    checkpointing: Sequence[bool] = (False,)
    micro_batches: int = 4

    def policy(self, device: torch.device, checkpointing: bool = False) -> PrismaticPolicy | StarVLA:
        """It, with random weights or the start policy's."""
        if self.embodied_type == "starvla":
            assert self.config is not None
            return random_starvla(self.config, self.dtype, device, checkpointing)
        if self.config is not None:
            return random_policy(self.config, self.embodied_type, self.dtype, device, checkpointing)
        policy: Any = load_policy(START_POLICY, device=device)
        policy.dtype = self.dtype  # with weights that rest in float32, since it also trains
        if checkpointing:
            policy.model.enable_gradient_checkpointing()
        return policy


@dataclass(frozen=True)
class Video:
    """A V-JEPA 2 encoder to measure, in half precision."""

    name: str
    img_size: int
    num_frames: int
    shape: dict[str, Any]


SMALL_TOWERS = ["vit_small_patch14_reg4_dinov2.lvd142m", "vit_small_patch14_dinov2.lvd142m"]
MEDIUM = scaled(1024, 2752, 6, 8, timm_model_ids=SMALL_TOWERS)
TINY_TOWER = {"img_size": 112, "embed_dim": 48, "depth": 3, "num_heads": 2, "class_token": False, "global_pool": ""}
TINY = scaled(64, 128, 2, 2, image_sizes=[112, 112], timm_model_args=[TINY_TOWER, TINY_TOWER])
VIT_SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "mlp_ratio": 4}
CASES: dict[str, list[Case | Video]] = {
    "cpu": [
        Case("start policy, 3 M", "openvla-oft", "bf16", None, (1, 2, 4, 8, 16), (8, 32)),
        Case("start policy, 3 M", "openvla-oft", "fp32", None, (1, 4, 16), (32,)),
        Case("random, 191 M", "openvla-oft", "bf16", MEDIUM, (1, 4), (4,), micro_batches=2),
        Case("random, 191 M", "openvla", "bf16", MEDIUM, (1, 4)),
        Video("V-JEPA 2, ViT-S width, 16 × 224²", 224, 16, VIT_SMALL),
    ],
    "cuda": [
        Case("7B", "openvla-oft", "bf16", OPENVLA_7B, (1, 4, 8, 16, 32, 64)),
        Case("7B", "openvla", "bf16", OPENVLA_7B, (1, 8, 32, 64)),
        Case("7B", "openvla-oft", "bf16", OPENVLA_7B, (), (2,), (False,), 8),
        Case("7B", "openvla-oft", "bf16", OPENVLA_7B, (), (8, 16, 24), (True,), 8),
        Case("3B", "starvla", "bf16", QWEN2_5_VL_3B, (1, 4, 8, 16, 32, 64)),
        Case("3B", "starvla", "bf16", QWEN2_5_VL_3B, (), (2,), (False,), 8),
        Case("3B", "starvla", "bf16", QWEN2_5_VL_3B, (), (8, 16, 32), (True,), 8),
        Video("V-JEPA 2, ViT-g, 64 × 384²", 384, 64, VIT_G),
    ],
    "tiny": [
        Case("random, tiny", "openvla-oft", "bf16", TINY, (1, 2), (2,), (False, True), 2),
        Case("random, tiny", "openvla", "fp32", TINY, (1,)),
        Case("random, tiny", "starvla", "bf16", TINY_STARVLA, (2,), (2,), (True,), 2),
        Video("V-JEPA 2, tiny", 32, 4, {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}),
    ],
}


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write ``results/policy.json`` (or ``policy_gpu.json``)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--cases", choices=tuple(CASES), help="the device's; tiny: the same path in seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    given = parser.parse_args(arguments)
    device, rows = torch.device(given.device), []
    for case in CASES[given.cases or given.device]:
        for row in measure(case, device, given.rounds):
            rows.append(row)
            print(row, flush=True)
        release(device)
    report(rows)
    load = round(os.getloadavg()[0], 2)
    name = {"cpu": "policy", "cuda": "policy_gpu"}[given.device]
    print(
        write_result(
            name,
            {"rounds": given.rounds, "threads": torch.get_num_threads(), "load_at_the_end": load, "rows": rows},
            given.out,
        )
    )


def measure(case: Case | Video, device: torch.device, rounds: int) -> Iterator[Row]:
    """Every row of a case. As in a run, a CPU acts and embeds with one thread, and updates with all."""
    every = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if isinstance(case, Video):
            yield measure_video(case, device, rounds)
            return
        if case.act:
            yield from measure_act(case, device, rounds)
    finally:
        torch.set_num_threads(every)
    for checkpointing in case.checkpointing:
        for size in case.update:
            release(device)
            yield measure_update(case, size, checkpointing, device, rounds)


def measure_act(case: Case, device: torch.device, rounds: int) -> Iterator[Row]:
    """Rows per second of `act` when sampling, for every batch size."""
    policy, dtype = case.policy(device), DTYPES[case.dtype]
    other = PlainStarVLA(policy, dtype) if isinstance(policy, StarVLA) else plain(policy.model, dtype)
    for batch in case.act:
        inputs = policy.prepare(observation(batch))
        sampling = Sampling(True, 1.0, range(batch))
        flops = batch * row_flops(policy)
        runs = {"ours": lambda: policy.act(inputs, sampling), "plain": lambda: other.act(inputs)}  # noqa: B023
        with peak_memory(device) as peak:
            found = in_turns(runs, device, dtype, rounds)
        yield row("act", case, batch, flops, found, batch) | {"peak_gib": peak.gib}


def measure_update(case: Case, size: int, checkpointing: bool, device: torch.device, rounds: int) -> Row:
    """Chunks per second of one mini-batch through the trainer: images prepared, forward, backward, clipping and AdamW."""
    config = Config()
    config.actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu = size
    config.actor_rollout_ref.actor.ppo_mini_batch_size = 1
    config.actor_rollout_ref.rollout.n = case.micro_batches
    policy = case.policy(device, checkpointing)
    trainer: Trainer[Trajectory] = Trainer(policy, config, device)
    episodes = [episode(policy, size, seed) for seed in range(case.micro_batches)]
    targets = [Target(np.float32(i % 2 * 2 - 1) * np.ones((), np.float32)) for i in range(len(episodes))]
    flops = FORWARD_AND_BACKWARD * size * len(episodes) * row_flops(policy)
    run = lambda: trainer.update(episodes, [size] * len(episodes), targets, list)  # noqa: E731
    name = "update, checkpointing" if checkpointing else "update"
    try:
        with peak_memory(device) as peak:
            found = in_turns({"ours": run}, device, DTYPES[case.dtype], rounds)
    except torch.OutOfMemoryError:
        return {"what": name, "policy": case.name, "dtype": case.dtype, "batch": size, "out_of_memory": True}
    return row(name, case, size, flops, found, size * len(episodes)) | {"peak_gib": peak.gib}


def row_flops(policy: PrismaticPolicy | StarVLA) -> int:
    """Operations of a forward for one row of `INSTRUCTION`."""
    prompt = policy.prompt_length(INSTRUCTION)
    if isinstance(policy, StarVLA):
        return starvla_flops(policy.model, prompt)
    return forward_flops(policy.model, prompt)


def measure_video(case: Video, device: torch.device, rounds: int) -> Row:
    """Videos per second, and the plain encoder beside it."""
    dtype = "bf16" if device.type == "cpu" else "fp16"
    encoder = random_video_encoder(case.img_size, case.num_frames, device, case.shape)
    ours = VJEPA2(encoder, case.img_size, case.num_frames, device, half=True, offload=False)
    other = random_video_encoder(case.img_size, case.num_frames, device, case.shape).to(DTYPES[dtype])
    size = (1, case.num_frames, case.img_size, case.img_size, 3)
    video = torch.randint(0, 256, size, dtype=torch.uint8)

    @torch.inference_mode()
    def as_it_is() -> torch.Tensor:
        return plain_clip(other, video[0].to(device), DTYPES[dtype]).cpu()

    def with_cudnn() -> torch.Tensor:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return ours.encode(video)

    runs: dict[str, Callable[[], object]] = {"ours": lambda: ours.encode(video), "plain": as_it_is}
    if device.type == "cuda":  # whether PyTorch's own choice of the attention kernel is the best
        runs["cudnn_attention"] = with_cudnn
    with peak_memory(device) as peak:
        found = in_turns(runs, device, DTYPES[dtype], rounds)
    described = Case(case.name, "", dtype, None, ())
    return row("embed", described, 1, video_flops(encoder), found, 1) | {"peak_gib": peak.gib}


def in_turns(
    runs: dict[str, Callable[[], object]], device: torch.device, dtype: torch.dtype, rounds: int
) -> dict[str, list[float]]:
    """Seconds of every run, and ``rate``, operations per second of the machine's matrix product, once a round."""
    for run in runs.values():
        run()  # warms up
    found: dict[str, list[float]] = {"rate": [], **{name: [] for name in runs}}
    for _ in range(rounds):
        found["rate"].append(matmul_rate(device, dtype))
        for name, run in runs.items():
            synchronise(device)
            began = time.perf_counter()
            run()
            synchronise(device)
            found[name].append(time.perf_counter() - began)
    return found


def row(what: str, case: Case, batch: int, flops: int, found: dict[str, list[float]], samples: int) -> Row:
    """Medians of what was measured: samples per second, of the floor, and of the plain forward."""
    seconds, rates = found["ours"], found["rate"]
    floors = [flops / rate for rate in rates]
    result = {
        "what": what,
        "policy": case.name,
        "type": case.embodied_type,
        "dtype": case.dtype,
        "batch": batch,
        "gflop_per_sample": flops / samples / 1e9,
        "matmul_gflops_per_s": statistics.median(rates) / 1e9,
        "samples_per_s": samples / statistics.median(seconds),
        "of_floor": statistics.median(f / s for f, s in zip(floors, seconds, strict=True)),
    }
    for other in found.keys() - {"ours", "rate"}:
        result[f"{other}_samples_per_s"] = samples / statistics.median(found[other])
    if "plain" in found:
        result["of_plain"] = statistics.median(p / s for p, s in zip(found["plain"], seconds, strict=True))
    return result


def report(rows: list[Row]) -> None:
    """The rows as a table."""
    cells = []
    for r in rows:
        if r.get("out_of_memory"):
            cells.append([r["what"], r["policy"], r["dtype"], r["batch"], "does not fit", "", "", ""])
            continue
        speed, beside = f"{r['samples_per_s']:.2f}", f"{r['of_plain']:.2f}" if "of_plain" in r else ""
        name = f"{r['policy']} {r['type']}"
        cells.append(
            [r["what"], name, r["dtype"], r["batch"], speed, f"{r['of_floor']:.0%}", beside, f"{r['peak_gib']:.2f}"]
        )
    print_table("samples per second", ["", "", "dtype", "batch", "samples/s", "of floor", "× plain", "peak GiB"], cells)


def observation(rows: int) -> EnvObs:
    """Random camera images under one instruction."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows, 224, 224, 3), dtype=np.uint8)
    return EnvObs(images, np.zeros((rows, 8), np.float32), [INSTRUCTION] * rows)


def episode(policy: PrismaticPolicy | StarVLA, chunks: int, seed: int) -> Trajectory:
    """An episode of random images and tokens or numbers, all of whose actions were executed."""
    rng = np.random.default_rng(seed)
    tokens = policy.chunk_len * policy.action_dim
    if isinstance(policy, StarVLA):
        sampled, log_prob = rng.normal(0, 0.1, (chunks, tokens)).astype(np.float32), 0.0
    else:
        bins = policy.model.num_bins
        sampled, log_prob = rng.integers(0, bins, (chunks, tokens)).astype(np.int16), -np.log(bins)
    spec = EpisodeSpec("libero_spatial", 0, 0, INSTRUCTION, 512, 0, seed, 0, seed)
    return Trajectory(
        EpisodeSummary(spec, bool(seed % 2), chunks * policy.chunk_len, chunks, False, 0),
        rng.integers(0, 256, (chunks + 1, 1, 256, 256, 3), dtype=np.uint8),
        np.zeros((chunks + 1, 8), np.float32),
        sampled,
        np.full((chunks, tokens), log_prob, np.float32),
        np.full(chunks, policy.chunk_len, np.int16),
        np.zeros((chunks, policy.chunk_len), np.float32),
    )


if __name__ == "__main__":
    main()
