"""The folder that the scene is built from: what lies where, what is missing, and where it is published. Nothing is downloaded.

::

    <asset folder>/
      carrot/more_carrot/model_db.json, <object>/collision.obj, <object>/textured.{obj,dae,glb}
      carrot/more_plate/…                                        likewise
      carrot/more_table/model_db.json, imgs/*.png, textures/*.png
      data/tasks/bridge_v2_real2sim_dataset/stages/bridge_table_1_v1.glb
      data/robots/widowx/wx250s.urdf and its meshes
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np

from siirl.envs.maniskill.scene25.objects import NUM_TABLES, OBJECTS, PLATES
from siirl.envs.maniskill.scene25.variants import Split

STAGE = Path("data/tasks/bridge_v2_real2sim_dataset/stages/bridge_table_1_v1.glb")
ROBOT = Path("data/robots/widowx/wx250s.urdf")
OBJECT_TABLE = Path("carrot/more_carrot/model_db.json")
PLATE_TABLE = Path("carrot/more_plate/model_db.json")
TABLE_TABLE = Path("carrot/more_table/model_db.json")

SOURCES = {
    "carrot": "hf download --repo-type dataset RLinf/maniskill_assets --local-dir 'FOLDER'\n"
    "    (or copy ManiSkill/mani_skill/assets/carrot of https://github.com/gen-robot/RL4VLA to 'FOLDER/carrot')",
    "data/tasks": "MS_ASSET_DIR='FOLDER' python -m mani_skill.utils.download_asset bridge_v2_real2sim",
    "data/robots": "MS_ASSET_DIR='FOLDER' python -m mani_skill.utils.download_asset widowx250s",
}
"""Part of the folder → how to get it."""

SHOWN = 20
"""Missing files that a message names before it only counts them."""


@dataclass(frozen=True)
class Thing:
    """An object or a plate.

    Attributes:
        name: its folder, which is unique.
        collision, visual: files of its shape, the latter with colours.
        scale: factor of both.
        size: float64 [3], extents of its bounding box in its own frame, metres, scaled.
        density: kg/m³.
    """

    name: str
    collision: Path
    visual: Path
    scale: float
    size: np.ndarray
    density: float


@dataclass(frozen=True)
class Table:
    """A picture that replaces the background, and a texture with the weight that it has in this benchmark."""

    picture: Path
    texture: Path
    mix: float


def check(folder: Path, split: Split) -> None:
    """Whether the folder has every file that the split's scenes are built from.

    Raises:
        ValueError: files are missing; names them and where to get them.
    """
    if "{" in str(folder):
        raise ValueError(f"the asset folder {folder} has a brace in its path, where ManiSkill would put names; move it")
    missing = [f for f in _needed(folder, split) if not (folder / f).is_file()]
    if not missing:
        return
    names = [f.as_posix() for f in missing[:SHOWN]]
    if len(missing) > SHOWN:
        names.append(f"… and {len(missing) - SHOWN} more")
    sources = [
        how.replace("FOLDER", str(folder))
        for part, how in SOURCES.items()
        if any(file.is_relative_to(part) for file in missing)
    ]
    raise ValueError(
        "\n  ".join([f"{split.name} needs {len(missing)} files that are not in the asset folder {folder}:", *names])
        + "\n  ".join(["\nNothing is downloaded for you. To get them:", *sources])
    )


def read_things(folder: Path, split: Split) -> tuple[dict[int, Thing], dict[int, Thing]]:
    """The objects and the plates of a split, by number.

    Raises:
        ValueError: a table of the folder is not the published one.
    """
    objects, plates = _numbers(split)
    return _read(folder, OBJECT_TABLE, OBJECTS, objects), _read(folder, PLATE_TABLE, PLATES, plates)


def read_tables(folder: Path) -> list[Table]:
    """All tables, in order; raises ValueError if there are not as many as were published."""
    entries = _load(folder / TABLE_TABLE)
    if len(entries) != NUM_TABLES:
        raise ValueError(f"{folder / TABLE_TABLE} lists {len(entries)} tables; the published one has {NUM_TABLES}")
    home = (folder / TABLE_TABLE).parent
    return [
        Table(home / "imgs" / name, home / "textures" / e["texture"], float(e["mix"])) for name, e in entries.items()
    ]


def _numbers(split: Split) -> tuple[list[int], list[int]]:
    objects, plates = set(split.axes["objects"]), set(split.axes["plates"])
    (objects if split.variant.third == "object" else plates).update(split.thirds)
    return sorted(objects), sorted(plates)


def _read(folder: Path, table: Path, names: tuple[str, ...], numbers: list[int]) -> dict[int, Thing]:
    entries = _load(folder / table)
    if tuple(entries) != names:
        raise ValueError(
            f"{folder / table} names other things, or in another order, than the published list, which numbers the "
            f"episodes: {', '.join(entries)}; published: {', '.join(names)}"
        )
    return {i: _thing(folder / table.parent / names[i], entries[names[i]]) for i in numbers}


def _thing(home: Path, entry: dict[str, Any]) -> Thing:
    (scale,) = entry["scales"]
    box = entry["bbox"]
    return Thing(
        name=home.name,
        collision=home / "collision.obj",
        visual=_visual(home),
        scale=float(scale),
        size=(np.array(box["max"]) - np.array(box["min"])) * scale,
        density=float(entry["density"]),
    )


def _visual(home: Path) -> Path:
    """The first there is of the formats that a shape may have; the last of them if there is none."""
    kinds = [home / f"textured.{kind}" for kind in ("obj", "dae", "glb")]
    return next((f for f in kinds if f.is_file()), kinds[-1])


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no table of names")
    return content


def _needed(folder: Path, split: Split) -> list[Path]:
    """Files relative to the folder; those that a missing file would have named are left out."""
    files = [STAGE, ROBOT, *_references(folder, ROBOT, "mesh", "filename")]
    for table, names, numbers in zip((OBJECT_TABLE, PLATE_TABLE), (OBJECTS, PLATES), _numbers(split), strict=True):
        files.append(table)
        for i in numbers:
            home = table.parent / names[i]
            visual = _visual(folder / home).relative_to(folder)
            files += [home / "collision.obj", visual]
            if visual.suffix == ".dae":
                files += _references(folder, visual, "init_from", None)
    files.append(TABLE_TABLE)
    if (folder / TABLE_TABLE).is_file():
        tables = read_tables(folder)
        files += [tables[i].picture.relative_to(folder) for i in split.axes["tables"]]
        if split.variant.texture is not None:
            files += [tables[i].texture.relative_to(folder) for i in split.axes["textures"]]
    return files


def _references(folder: Path, file: Path, element: str, attribute: str | None) -> list[Path]:
    """Files that an XML file names in an element's text or attribute."""
    if not (folder / file).is_file():
        return []
    try:
        tree = ElementTree.parse(folder / file)
    except ElementTree.ParseError as error:
        raise ValueError(f"{folder / file} is not XML: {error}") from error
    found = []
    for e in tree.iter():
        if e.tag.rpartition("}")[2] == element:
            name = unquote((e.text if attribute is None else e.get(attribute)) or "").strip()
            if Path(name).suffix and (path := file.parent / name) not in found:
                found.append(path)
    return found
