"""How the policy acts: settings of sampling that contradict each other or that nothing would read, and compiling."""

import os
import shutil
import sys
from collections.abc import Iterator

from siirl.config.keys import KEYS, get_value
from siirl.config.problems import problem, show
from siirl.config.schema import Config

ROLLOUT = "actor_rollout_ref.rollout"


def check_sampling(config: Config) -> Iterator[str]:
    """Greedy episodes of one prompt are all alike, and greedy acting draws nothing that could be truncated.

    The temperature of training counts even then: the update's log-probs are of the tempered distribution.
    """
    rollout = config.actor_rollout_ref.rollout
    unread = {ROLLOUT: ("top_k", "top_p"), f"{ROLLOUT}.val_kwargs": ("temperature", "top_k", "top_p")}
    for section, part in ((ROLLOUT, rollout), (f"{ROLLOUT}.val_kwargs", rollout.val_kwargs)):
        if part is rollout and config.trainer.val_only:
            continue
        if part.top_k == 0:
            yield problem(f"{section}.top_k", 0, "-1 for off, or at least 1", f"{section}.top_k=-1")
        if part.do_sample:
            continue
        greedy = f"with {section}.do_sample=false"
        if part.n > 1:
            allowed = f"1 {greedy}: greedy episodes of one prompt are all alike"
            yield problem(f"{section}.n", part.n, allowed, f"{section}.do_sample=true or {section}.n=1")
        for key in (f"{section}.{name}" for name in unread[section]):
            default = show(KEYS[key].default)
            if (value := get_value(config, key)) not in (KEYS[key].default, 0):
                allowed = f"{default} {greedy}, which draws nothing and would ignore it"
                yield problem(key, value, allowed, f"{section}.do_sample=true or {key}={default}")


def check_compiler(config: Config) -> Iterator[str]:
    """Compiling for the CPU goes through C++."""
    if not config.actor_rollout_ref.model.use_torch_compile or config.trainer.n_gpus_per_node or config.dry_run:
        return
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        key = "actor_rollout_ref.model.use_torch_compile"
        allowed = f"false without a C++ compiler: there is no {compiler!r} on the PATH"
        yield problem(key, True, allowed, f"install {compiler}, name another compiler with CXX, or {key}=false")
