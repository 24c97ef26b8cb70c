"""What machines, backend and placement allow: settings that need accelerators, several slots, or slots of their own."""

from collections.abc import Iterator

from siirl.config.keys import KEYS, get_value, given, refuse
from siirl.config.placement import read_placement, show_slots
from siirl.config.problems import show
from siirl.config.schema import Config

NODES, GPUS, CPU_SLOTS = "trainer.nnodes", "trainer.n_gpus_per_node", "cluster.num_cpu_slots_per_node"
FSDP = "actor_rollout_ref.actor.fsdp_config"


def check_machines(config: Config) -> Iterator[str]:
    """Kinds of slots, and the backend."""
    gpus = given(config, GPUS)
    if config.trainer.n_gpus_per_node > 0:
        if config.cluster.num_cpu_slots_per_node > 1:
            allowed = f"1 with {gpus}: accelerators are the slots, and it would be ignored"
            yield refuse(config, CPU_SLOTS, allowed, f"{CPU_SLOTS}=1 or {GPUS}=0")
        if config.trainer.deterministic:
            key = "trainer.deterministic"
            allowed = f"false with {gpus}: bit-reproducibility is only kept on the CPU"
            yield refuse(config, key, allowed, f"{key}=false or {GPUS}=0")
    for key in (NODES, GPUS, CPU_SLOTS):
        if get_value(config, key) > 1 and config.trainer.backend == "inline":
            allowed = "at most 1 with trainer.backend=inline, which is one process on one slot"
            yield refuse(config, key, allowed, f"{key}=1 or trainer.backend=ray")


def check_offload(config: Config) -> Iterator[str]:
    """Offloading needs an accelerator, and that of parameters ones that only the update uses."""
    if config.trainer.n_gpus_per_node == 0:
        offloads = [f"{FSDP}.{part}_offload" for part in ("param", "grad", "optimizer")]
        for key in (*offloads, "actor_rollout_ref.embodied.embedding_model_offload"):
            if get_value(config, key):
                allowed = f"false with {given(config, GPUS)}: there is no accelerator to offload from"
                yield refuse(config, key, allowed, f"{key}=false")
        return
    key = f"{FSDP}.param_offload"
    placed, _ = read_placement(config)
    if get_value(config, key) and len(actors := placed.get("actor", ())) == 1:
        shared = actors[0] in placed.get("rollout", ())
        why = "where the rollout acts with the very same parameters" if shared else "whose parameters are not sharded"
        allowed = f"false with 1 actor slot ({actors[0]}), {why}; true takes at least 2"
        yield refuse(config, key, allowed, f"{key}=false, or place actor on more slots")


def check_staleness(config: Config) -> Iterator[str]:
    """Acting during the update needs weights of its own to act with, and timing decides which those are."""
    key, cap = "trainer.max_staleness", "actor_rollout_ref.actor.behavior_weight_cap"
    if config.trainer.max_staleness == 0:
        if get_value(config, cap) != (default := KEYS[cap].default):
            on_policy = given(config, key)
            allowed = (
                f"{show(default)} with {on_policy}: the weights that act are the update's, and it would be ignored"
            )
            yield refuse(config, cap, allowed, f"{cap}={show(default)} or {key}=1")
        return
    reasons = [f"with {given(config, 'trainer.backend')}"] if config.trainer.backend == "inline" else []
    if config.trainer.deterministic:
        reasons.append(f"with {given(config, 'trainer.deterministic')}")
    placed, _ = read_placement(config)
    if shared := sorted({*placed.get("rollout", ())} & {*placed.get("actor", ())}):
        reasons.append(
            f"while rollout and actor share slots ({show_slots(shared)}): the update would change weights that act"
        )
    if reasons:
        fix = f"{key}=0, or trainer.backend=ray, trainer.deterministic=false and a placement that keeps rollout and actor apart"
        yield refuse(config, key, f"0 {', and '.join(reasons)}", fix)
