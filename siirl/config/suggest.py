"""What a user may have meant by a key that does not exist."""

import difflib
from typing import Any

from siirl.config.aliases import ALIASES, CHOICES
from siirl.config.computed import NAMES
from siirl.config.keys import KEYS
from siirl.config.problems import problem


def suggest(name: str) -> str:
    """A did-you-mean for an unknown dotted name, or an empty string.

    The last part of the name counts most, and a part of it is enough: ``embodied.img_size`` finds
    ``actor_rollout_ref.embodied.embedding_img_size``.
    """
    parent, _, leaf = name.rpartition(".")

    def ratio(a: str, b: str) -> float:
        return difflib.SequenceMatcher(None, a, b).ratio()

    def likeness(candidate: str) -> tuple[float, float]:
        candidate_parent, _, candidate_leaf = candidate.rpartition(".")
        shorter, longer = leaf and candidate_leaf.endswith(f"_{leaf}"), leaf.endswith(f"_{candidate_leaf}")
        # a word too many is less likely than one wrong letter: avae_path is vae_path rather than path
        alike = max(ratio(leaf, candidate_leaf), 0.95 if shorter else 0.9 if longer else 0.0)
        inside = parent and candidate_parent.endswith(f".{parent}")
        return 2 * alike + (0.9 if inside else ratio(parent, candidate_parent)), alike

    for key in KEYS.values():
        if key.is_mapping and ratio(parent, key.name) >= 0.7:
            return f"did you mean {key.name}.{leaf}?"
    best = max([*KEYS, *ALIASES, *CHOICES, *sorted(NAMES)], key=likeness)
    return f"did you mean {best}?" if likeness(best)[1] >= 0.7 else ""


def unknown_key(name: str, value: Any) -> str:
    """The problem of a key that does not exist."""
    listed = "a key that `python -m siirl.config.reference` lists (docs/config.md); there is none of this name"
    return problem(name, value, listed, suggest(name) or "remove it")
