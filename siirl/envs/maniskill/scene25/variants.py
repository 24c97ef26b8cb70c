"""The benchmark's environments: which of objects, plates, tables, textures, words, places and poses each draws from.

An environment is told by the axes that it holds out: with ``obj_set="test"`` they come from the held-out part, and everything
else comes from the training part. Defined by RL4VLA (https://arxiv.org/abs/2505.19789), whose numbering of episodes is kept.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from siirl.envs.maniskill.scene25 import layouts
from siirl.envs.maniskill.scene25.instructions import TEMPLATES, instruction
from siirl.envs.maniskill.scene25.layouts import Layouts
from siirl.envs.maniskill.scene25.objects import NUM_TABLES, OBJECTS, PLATES, spoken
from siirl.envs.maniskill.scene25.shuffle import shuffled

MAX_STEPS = 80
"""Control steps of an episode, a fifth of a second each."""
OBJ_SETS = ("train", "test", "all")
EXTRAS = ("textures", "templates", "arms")
"""Axes of which a variant has at most one; a distractor is another such."""


def _axis(num_train: int, total: int) -> dict[str, range]:
    return {"train": range(num_train), "test": range(num_train, total), "all": range(total)}


@dataclass(frozen=True)
class Texture:
    """A picture laid over the scene with an opacity: over the robot and the things on the table only, or over everything."""

    opacity: float
    whole: bool


@dataclass(frozen=True)
class Scenario:
    """How one episode starts; the numbers count in the asset folder's order and in `layouts`.

    Attributes:
        third: a distractor of the kind that the variant names, or None.
        moves: the object jumps to the third place during the episode.
    """

    object: int
    plate: int
    third: int | None
    texture: int
    template: int
    arm: int
    table: int
    place: int
    yaw: int
    moves: bool

    @property
    def instruction(self) -> str:
        """The goal in words."""
        return instruction(spoken(OBJECTS[self.object]), spoken(PLATES[self.plate]), self.template)


@dataclass(frozen=True)
class Variant:
    """One environment of the benchmark.

    Attributes:
        name: the id that it is known by.
        category: ``train``, ``vision``, ``semantic`` or ``position``.
        held_out: the axes that ``obj_set`` selects from.
        fixed: axes with a range of their own, whatever ``obj_set`` is.
        third: what else lies on the table, ``object`` or ``plate``.
        moves: with held-out settings, the object jumps during the episode.
        obj_set: what the published protocol evaluates.
    """

    name: str
    category: str
    held_out: tuple[str, ...] = ()
    fixed: Mapping[str, range] = field(default_factory=dict)
    texture: Texture | None = None
    third: str | None = None
    moves: bool = False
    obj_set: str = "test"

    @property
    def layouts(self) -> Layouts:
        """Where things may start."""
        if self.third is not None or self.moves:
            return layouts.of_three(self.third or "object")
        return layouts.with_surroundings() if "places" in self.held_out else layouts.usual()

    def split(self, obj_set: str | None = None) -> "Split":
        """The episodes of ``train``, ``test`` or ``all``; None: those that the published protocol evaluates."""
        obj_set = self.obj_set if obj_set is None else obj_set
        if obj_set not in OBJ_SETS:
            raise ValueError(f"obj_set is {obj_set!r}; allowed: {', '.join(OBJ_SETS)}")
        return Split(self, obj_set)


class Split:
    """The episodes of a variant for one ``obj_set``: numbered 0 … ``num_episodes`` − 1, and by task and trial.

    A task is one goal in words.
    """

    def __init__(self, variant: Variant, obj_set: str) -> None:
        self.variant, self.obj_set = variant, obj_set
        places, yaws = variant.layouts.places, variant.layouts.yaws
        train_places, train_yaws = variant.layouts.num_train
        axes = {
            "objects": _axis(16, len(OBJECTS)),
            "plates": _axis(1, len(PLATES)),
            "tables": _axis(16, NUM_TABLES),
            "textures": _axis(1, 17),
            "templates": _axis(1, len(TEMPLATES)),
            "arms": _axis(1, len(layouts.arm_offsets())),
            "places": _axis(train_places, len(places)),
            "yaws": _axis(train_yaws, len(yaws)),
        }
        held_out = (*variant.held_out, "yaws") if "places" in variant.held_out else variant.held_out
        selected = {name: axis[obj_set if name in held_out else "train"] for name, axis in axes.items()}
        self.axes: dict[str, range] = {**selected, **variant.fixed}
        self.thirds = range(0)
        """What a distractor is drawn from: a plate also where the plate itself is always the same."""
        if variant.third == "object":
            self.thirds = self.axes["objects"]
        elif variant.third == "plate":
            self.thirds = axes["plates"]["test" if obj_set == "test" else "all"]
        self._digits = {
            "objects": len(self.axes["objects"]),
            "plates": len(self.axes["plates"]),
            "extra": max([len(self.thirds) - 1, *(len(self.axes[name]) for name in EXTRAS)]),
            "tables": len(self.axes["tables"]),
            "places": len(self.axes["places"]),
            "yaws": len(self.axes["yaws"]),
        }

    @property
    def name(self) -> str:
        """The variant's id, followed by the ``obj_set`` where that is not the published protocol's: ``….train``."""
        usual = self.obj_set == self.variant.obj_set
        return self.variant.name if usual else f"{self.variant.name}.{self.obj_set}"

    @property
    def num_episodes(self) -> int:
        """Different episodes there are."""
        return math.prod(self._digits.values())

    @property
    def tasks(self) -> list[tuple[int, int, int]]:
        """(object, plate, template) of every task."""
        return [(o, p, t) for o in self.axes["objects"] for p in self.axes["plates"] for t in self.axes["templates"]]

    @property
    def instructions(self) -> tuple[str, ...]:
        """The goal of every task in words."""
        return tuple(instruction(spoken(OBJECTS[o]), spoken(PLATES[p]), t) for o, p, t in self.tasks)

    @property
    def num_trials(self) -> int:
        """Episodes of each task."""
        return self.num_episodes // len(self.tasks)

    def episode_id(self, task_id: int, trial_id: int) -> int:
        """The episode that a task's trial is; different trials of a task are different episodes.

        A task's trials are its episodes in a random order, so that a few of them already are a fair sample.
        """
        goal = self.tasks[task_id]
        rest = shuffled(trial_id, self.num_trials, key=task_id)
        digits = {"objects": self.axes["objects"].index(goal[0]), "plates": self.axes["plates"].index(goal[1])}
        for name in ("yaws", "places", "tables"):
            rest, digits[name] = divmod(rest, self._digits[name])
        digits["extra"] = rest if len(self.axes["templates"]) == 1 else self.axes["templates"].index(goal[2])
        number = 0
        for name, base in self._digits.items():
            number = number * base + digits[name]
        return number

    def scenario(self, episode_id: int) -> Scenario:
        """How an episode starts; numbers beyond the last begin anew."""
        rest = episode_id % self.num_episodes
        digits = {}
        for name, base in reversed(self._digits.items()):
            rest, digits[name] = divmod(rest, base)
        obj, plate = self.axes["objects"][digits["objects"]], self.axes["plates"][digits["plates"]]
        third = None
        if self.thirds:  # the one after the goal's own in the circle, the one after that, …: never the goal's own
            own = self.thirds.index(obj if self.variant.third == "object" else plate)
            third = self.thirds[(own + 1 + digits["extra"]) % len(self.thirds)]
        extra = {name: self.axes[name][digits["extra"] if len(self.axes[name]) > 1 else 0] for name in EXTRAS}
        return Scenario(
            object=obj,
            plate=plate,
            third=third,
            texture=extra["textures"],
            template=extra["templates"],
            arm=extra["arms"],
            table=self.axes["tables"][digits["tables"]],
            place=self.axes["places"][digits["places"]],
            yaw=self.axes["yaws"][digits["yaws"]],
            moves=self.variant.moves and self.obj_set != "train",
        )


_ONE = range(1)
VARIANTS = {
    v.name: v
    for v in (
        Variant("PutOnPlateInScene25Main-v3", "train", ("objects", "tables"), obj_set="train"),
        Variant("PutOnPlateInScene25MainCarrot-v3", "train", ("objects",), fixed={"tables": _ONE}, obj_set="train"),
        Variant("PutOnPlateInScene25MainImage-v3", "train", ("tables",), fixed={"objects": _ONE}, obj_set="train"),
        Variant("PutOnPlateInScene25Single-v1", "train", fixed={"objects": _ONE, "tables": _ONE}, obj_set="train"),
        Variant("PutOnPlateInScene25VisionImage-v1", "vision", ("tables",)),
        Variant("PutOnPlateInScene25VisionTexture03-v1", "vision", ("textures",), texture=Texture(0.3, whole=False)),
        Variant("PutOnPlateInScene25VisionTexture05-v1", "vision", ("textures",), texture=Texture(0.5, whole=False)),
        Variant("PutOnPlateInScene25VisionWhole03-v1", "vision", ("textures",), texture=Texture(0.3, whole=True)),
        Variant("PutOnPlateInScene25VisionWhole05-v1", "vision", ("textures",), texture=Texture(0.5, whole=True)),
        Variant("PutOnPlateInScene25Carrot-v1", "semantic", ("objects",)),
        Variant("PutOnPlateInScene25Plate-v1", "semantic", ("plates",)),
        Variant("PutOnPlateInScene25Instruct-v1", "semantic", ("templates",)),
        Variant("PutOnPlateInScene25MultiCarrot-v1", "semantic", ("objects",), third="object"),
        Variant(
            "PutOnPlateInScene25MultiPlate-v1",
            "semantic",
            ("plates",),
            fixed={"tables": range(NUM_TABLES)},
            third="plate",
        ),
        Variant("PutOnPlateInScene25Position-v1", "position", ("places",)),
        Variant("PutOnPlateInScene25EEPose-v1", "position", ("arms",)),
        Variant("PutOnPlateInScene25PositionChangeTo-v1", "position", moves=True),
    )
}
"""Every environment by its id."""


def all_splits() -> list[Split]:
    """Every environment with every ``obj_set``."""
    return [variant.split(obj_set) for variant in VARIANTS.values() for obj_set in OBJ_SETS]
