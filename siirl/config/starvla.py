"""Settings of StarVLA that contradict each other, or that nothing would read."""

from collections.abc import Iterator

from siirl.config.keys import KEYS, get_value, given, refuse
from siirl.config.problems import show
from siirl.config.schema import Config

STARVLA = "actor_rollout_ref.model.starvla"
OWN = tuple(key for key in KEYS if key.startswith(f"{STARVLA}."))
EMBODIED = "actor_rollout_ref.embodied"
KIND = f"{EMBODIED}.embodied_type"
EXPECTED = {
    f"{STARVLA}.expected_action_dim": f"{EMBODIED}.action_token_len",
    f"{STARVLA}.expected_num_action_chunks": f"{EMBODIED}.action_chunks_len",
}
"""What the checkpoint must have, and the key by which the run is made; the policy holds the latter to the checkpoint."""


def check_starvla(config: Config) -> Iterator[str]:
    """What is expected of the checkpoint must be what the run is made for; other policies have no use for any of it."""
    if config.actor_rollout_ref.embodied.embodied_type != "starvla":
        for key in OWN:
            if get_value(config, key) != (default := KEYS[key].default):
                allowed = f"{show(default)} with {given(config, KIND)}, which would ignore it"
                yield refuse(config, key, allowed, f"{key}={show(default)}, or {KIND}=starvla")
        return
    for key, made_for in EXPECTED.items():
        if get_value(config, key) not in (None, wanted := get_value(config, made_for)):
            yield refuse(config, key, f"{given(config, made_for)}, or null", f"{key}={wanted}, or another {made_for}")
