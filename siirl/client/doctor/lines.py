"""What a check sees and what it says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from siirl.config.schema import Config

Level = Literal["pass", "warn", "fail"]
"""``warn``: a run goes, but worse than it could, or something could not be found out."""


@dataclass(frozen=True)
class Line:
    """What one check found.

    Attributes:
        level: see `Level`.
        about: what was looked at, in a word or two.
        text: what there is.
        fix: what to do about it; empty where all is well.
    """

    level: Level
    about: str
    text: str
    fix: str = ""


@dataclass(frozen=True)
class Question:
    """What is asked of the machine.

    Attributes:
        config: what shall run here; the defaults where none was named.
        named: whether it was named: without a config, only the machine is looked at.
        problems: what is wrong with the config itself.
        deep: whether to start what takes long, too.
    """

    config: Config
    named: bool = True
    problems: tuple[str, ...] = ()
    deep: bool = False

    @property
    def trains(self) -> bool:
        """Whether a config was named that updates the policy and saves it."""
        return self.named and not self.config.trainer.val_only


Check = Callable[[Question], Iterator[Line]]
