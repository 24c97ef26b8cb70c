"""How much memory of the host loading a policy takes beside the weights themselves.

``python -m benchmarks.loading`` writes policies of the published architecture (fewer Llama layers, random weights,
three shards) to a temporary folder, in bf16 and in float32, 4 to 5 GB each, and loads them through
`siirl.policies.load_policy` in a fresh process, as float32 weights. With ``--acting`` it is one folder of half the size,
stored in bf16 and loaded to act in bf16. The high-water mark of resident memory (VmHWM) counts private memory
(RssAnon) and pages of mapped files (RssFile), and what the process held before, after its imports.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.common import memory_status, print_table, write_result
from benchmarks.published import checkpoint_of, scaled
from siirl.policies import load_policy
from siirl.policies.openvla import OpenVLA

SHARDS = 3
Case = tuple[str, torch.dtype, int, str]
"""Name and type of the stored weights, Llama layers, and `load_policy`'s ``dtype``."""
TRAINABLE: list[Case] = [("bf16", torch.bfloat16, 5, "fp32"), ("float32", torch.float32, 1, "fp32")]
ACTING: list[Case] = [("bf16", torch.bfloat16, 1, "bf16")]


def main() -> None:
    """Write, load, print and write ``results/loading.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made; needs 5 GB")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: what the host needs meanwhile")
    parser.add_argument(
        "--acting", action="store_true", help="a folder in bf16, loaded to act; needs 3 GB of disk and memory"
    )
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32", help=argparse.SUPPRESS)
    parser.add_argument("--hidden", type=int, default=4096, help="width of the Llama; the published one is 4096")
    given = parser.parse_args()
    if given.load is not None:
        print(json.dumps(load(given.load, given.device, given.dtype)))
        return
    rows = []
    for stored, dtype, layers, acts_in in ACTING if given.acting else TRAINABLE:
        with TemporaryDirectory(dir=given.folder) as folder:
            on_disk = write_folder(Path(folder), given.hidden, layers, dtype)
            command = [sys.executable, "-m", "benchmarks.loading", "--load", folder, "--device", given.device]
            command += ["--dtype", acts_in]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        rows.append({"stored": stored, "on_disk_gib": on_disk / 2**30, **json.loads(printed[-1])})
    report(rows, given.device, "loading_acting" if given.acting else "loading")


def write_folder(folder: Path, hidden: int, layers: int, dtype: torch.dtype) -> int:
    """A policy folder in the published layout with random weights, one tensor in memory at a time and shard; bytes of weights."""
    config = scaled(hidden, hidden * 43 // 16, layers, hidden // 128)
    checkpoint_of(config).write(folder, nn.Module())
    (folder / "model.safetensors").unlink()  # holds no parameter
    with torch.device("meta"):
        parameters = list(OpenVLA.network(config, 7).state_dict().items())
    weight_map, size = {}, 0
    for shard in range(SHARDS):
        name = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        part = parameters[shard * len(parameters) // SHARDS : (shard + 1) * len(parameters) // SHARDS]
        tensors = {key: torch.empty(meta.shape, dtype=dtype).normal_(std=0.02) for key, meta in part}
        save_file(tensors, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
        size += sum(tensor.nbytes for tensor in tensors.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return size


def load(folder: Path, device: str, dtype: str) -> dict[str, Any]:
    """Load in this process, which has done nothing else; GiB of resident memory of the host by kind, sampled every 5 ms."""
    before, kinds, done = memory_status(), {"RssAnon": 0.0, "RssFile": 0.0}, threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            now = memory_status()
            kinds.update({kind: max(most, now[kind]) for kind, most in kinds.items()})

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    policy = load_policy(folder, "openvla", device=device, dtype=dtype)
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    weights = sum(parameter.nbytes for parameter in policy.model.parameters()) / 2**30
    peak = memory_status()["VmHWM"]
    return {
        "weights_gib": weights,
        "base_gib": before["VmRSS"],
        "peak_gib": peak,
        "peak_private_gib": kinds["RssAnon"],
        "peak_mapped_files_gib": kinds["RssFile"],
        "beside_weights_gib": peak - (weights if device == "cpu" else 0),
        "seconds": seconds,
    }


def report(rows: list[dict[str, Any]], device: str, name: str) -> None:
    """The rows as a table and as JSON."""
    columns = {
        "stored": "stored as",
        "on_disk_gib": "on disk",
        "weights_gib": "weights",
        "base_gib": "process before",
        "peak_gib": "peak",
        "peak_private_gib": "private",
        "peak_mapped_files_gib": "mapped files",
        "beside_weights_gib": "peak − weights",
        "seconds": "s",
    }
    cells = [[r[key] if isinstance(r[key], str) else f"{r[key]:.2f}" for key in columns] for r in rows]
    print_table("loading a policy, GiB", list(columns.values()), cells)
    print(write_result(name if device == "cpu" else f"{name}_gpu", {"device": device, "rows": rows}))


if __name__ == "__main__":
    main()
