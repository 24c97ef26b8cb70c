"""``python -m siirl.workers.probe``: joins or starts Ray as a run does, lets it compute and leaves it."""

import os
import sys
import time

os.environ.setdefault("RAY_AUTH_MODE", "token")  # as `siirl.workers.launch`; Ray reads it when it is imported

import ray


def add(a: int, b: int) -> int:
    """What Ray computes."""
    return a + b


def main() -> int:
    """Print what was found; returns the exit code."""
    begin = time.perf_counter()
    address = os.environ.get("RAY_ADDRESS", "local")
    shares = 1 if address == "local" else None
    ray.init(address=address, num_cpus=shares, include_dashboard=False, log_to_driver=False, configure_logging=False)
    started = time.perf_counter() - begin
    assert ray.get(ray.remote(add).remote(20, 22)) == 42, "Ray adds up"
    resources = ray.cluster_resources()
    machines = sum(node["Alive"] for node in ray.nodes())
    ray.shutdown()
    what = f"{machines} machines, {resources.get('CPU', 0):.0f} CPUs, {resources.get('GPU', 0):.0f} GPUs"
    whose = "started one of its own" if address == "local" else f"joined {address} ({what})"
    print(
        f"{ray.__version__}, {whose} in {started:.1f} s, computed and left it after {time.perf_counter() - begin:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
