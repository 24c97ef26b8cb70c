"""How the policy acts: how many actions are executed, settings of sampling that contradict each other or that nothing would
read, and compiling."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence

from siirl.config.keys import KEYS, get_value
from siirl.config.problems import problem, show
from siirl.config.schema import Config, EmbodiedConfig

ROLLOUT = "actor_rollout_ref.rollout"
WORLD_MODEL = "actor_rollout_ref.embodied.env.world_model"


def executed_actions(embodied: EmbodiedConfig) -> int:
    """N, the actions of a chunk that are executed before the policy decides anew; all T of them unless the config says less."""
    return embodied.num_executed_actions or embodied.action_chunks_len


def check_sampling(config: Config) -> Iterator[str]:
    """Greedy episodes of one prompt are all alike, and greedy acting draws nothing that could be truncated.

    The temperature of training counts even then: the update's log-probs are of the tempered distribution.
    """
    parts = {} if config.trainer.val_only else {ROLLOUT: ("top_k", "top_p")}
    for section, unread in (parts | {f"{ROLLOUT}.val_kwargs": ("temperature", "top_k", "top_p")}).items():
        yield from _check_part(config, section, unread)
        n = get_value(config, f"{section}.n")
        if n > 1 and not get_value(config, f"{section}.do_sample"):
            allowed = f"1 with {section}.do_sample=false: greedy episodes of one prompt are all alike"
            yield problem(f"{section}.n", n, allowed, f"{section}.do_sample=true or {section}.n=1")


def check_evaluated_sampling(config: Config) -> Iterator[str]:
    """As `check_sampling`, of ``evaluate``."""
    yield from _check_part(config, "evaluate", ("temperature", "top_k", "top_p"))


def _check_part(config: Config, section: str, unread: Sequence[str]) -> Iterator[str]:
    """One section's settings of sampling; ``unread`` are those that greedy acting ignores."""
    if get_value(config, f"{section}.top_k") == 0:
        yield problem(f"{section}.top_k", 0, "-1 for off, or at least 1", f"{section}.top_k=-1")
    if get_value(config, f"{section}.do_sample"):
        return
    for key in (f"{section}.{name}" for name in unread):
        default = show(KEYS[key].default)
        if (value := get_value(config, key)) not in (KEYS[key].default, 0):
            allowed = f"{default} with {section}.do_sample=false, which draws nothing and would ignore it"
            yield problem(key, value, allowed, f"{section}.do_sample=true or {key}={default}")


def check_compiler(config: Config) -> Iterator[str]:
    """Compiling for the CPU goes through C++."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if config.dry_run or shutil.which(compiler) is not None:
        return
    env = config.actor_rollout_ref.embodied.env
    on_cpu = {"actor_rollout_ref.model": not config.trainer.n_gpus_per_node, WORLD_MODEL: env.sim_backend == "cpu"}
    for key in (f"{section}.use_torch_compile" for section, there in on_cpu.items() if there):
        if get_value(config, key):
            allowed = f"false without a C++ compiler: there is no {compiler!r} on the PATH"
            yield problem(key, True, allowed, f"install {compiler}, name another compiler with CXX, or {key}=false")
