"""A tiny asset folder in the published layout: boxes for objects, slabs for plates, plain pictures, and an arm of boxes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from PIL import Image
from trimesh.visual.material import PBRMaterial
from trimesh.visual.texture import TextureVisuals

from siirl.envs.maniskill.scene25 import assets
from siirl.envs.maniskill.scene25.objects import NUM_TABLES, OBJECTS, PLATES, spoken

TABLE_TOP = 0.87
PLATE_SIZE = (0.11, 0.11, 0.006)


def object_size(number: int) -> tuple[float, float, float]:
    """Extents of an object's box, metres: no two are alike."""
    return (0.06 + 0.001 * number, 0.02, 0.03)


def picture_colour(number: int) -> tuple[int, int, int]:
    """Colour of a table's picture."""
    return (10 * number, 255 - 10 * number, 40)


def texture_colour(number: int) -> tuple[int, int, int]:
    """Colour of a texture."""
    return (200, 10 * number, 255 - 10 * number)


def build(folder: Path) -> None:
    """Write everything that any variant needs."""
    _things(folder / assets.OBJECT_TABLE, OBJECTS, [object_size(i) for i in range(len(OBJECTS))], (255, 120, 0, 255))
    _things(folder / assets.PLATE_TABLE, PLATES, [PLATE_SIZE] * len(PLATES), (240, 240, 240, 255))
    _tables(folder / assets.TABLE_TABLE)
    stage = folder / assets.STAGE
    stage.parent.mkdir(parents=True)
    table = trimesh.creation.box((1.2, 0.05, 1.2))  # glTF's y points up
    table.apply_translation((-0.16 - 2.0634, TABLE_TOP - 0.025, 2.8313))
    table.export(stage)
    robot = folder / assets.ROBOT
    robot.parent.mkdir(parents=True)
    trimesh.creation.box((0.1, 0.1, 0.05)).export(robot.parent / "base.obj")
    robot.write_text(urdf())


def _things(
    table: Path, names: tuple[str, ...], sizes: list[tuple[float, float, float]], colour: tuple[int, ...]
) -> None:
    entries: dict[str, Any] = {}
    for name, size in zip(names, sizes, strict=True):
        home = table.parent / name
        home.mkdir(parents=True)
        box = trimesh.creation.box(size)
        box.export(home / "collision.obj", include_normals=True)
        box.visual = TextureVisuals(material=PBRMaterial(baseColorFactor=colour))
        box.export(home / "textured.glb")
        corner = np.array(size) / 2
        entries[name] = {
            "name": spoken(name),
            "bbox": {"min": (-corner).tolist(), "max": corner.tolist()},
            "scales": [1.0],
            "density": 1000,
        }
    table.write_text(json.dumps(entries))


def _tables(table: Path) -> None:
    entries = {}
    for part in ("imgs", "textures"):
        (table.parent / part).mkdir(parents=True)
    for i in range(NUM_TABLES):
        picture, texture = f"{i + 1:03}_table.png", f"{i + 1:03}.png"
        Image.new("RGB", (64, 48), picture_colour(i)).save(table.parent / "imgs" / picture)
        Image.new("RGB", (32, 32), texture_colour(i)).save(table.parent / "textures" / texture)
        entries[picture] = {"name": "table", "texture": texture, "mix": 0.0 if i == 0 else 1.0}
    table.write_text(json.dumps(entries))


JOINTS = (  # name, parent, child, origin, axis; the arm hangs together like the real one
    ("waist", "base_link", "shoulder_link", (0, 0, 0.072), (0, 0, 1)),
    ("shoulder", "shoulder_link", "upper_arm_link", (0, 0, 0.03865), (0, 1, 0)),
    ("elbow", "upper_arm_link", "upper_forearm_link", (0.04975, 0, 0.25), (0, 1, 0)),
    ("forearm_roll", "upper_forearm_link", "lower_forearm_link", (0.175, 0, 0), (1, 0, 0)),
    ("wrist_angle", "lower_forearm_link", "wrist_link", (0.075, 0, 0), (0, 1, 0)),
    ("wrist_rotate", "wrist_link", "gripper_link", (0.065, 0, 0), (1, 0, 0)),
)


def urdf() -> str:
    """An arm with the joints, links and lengths of the WidowX 250 S, and boxes for its shapes."""
    names = ["base_link", *(j[2] for j in JOINTS)]
    links = [_link(name, (0.04, 0.04, 0.04)) for name in names[1:]]
    links += [_link(f"{side}_finger_link", (0.04, 0.016, 0.02)) for side in ("left", "right")]
    joints = [_joint(*j, "revolute", (-3.1, 3.1)) for j in JOINTS]
    joints += [
        _joint("left_finger", "gripper_link", "left_finger_link", (0.075, 0, 0), (0, 1, 0), "prismatic", (0.0, 0.04)),
        _joint(
            "right_finger", "gripper_link", "right_finger_link", (0.075, 0, 0), (0, -1, 0), "prismatic", (0.0, 0.04)
        ),
        _joint("ee_gripper", "gripper_link", "ee_gripper_link", (0.0936, 0, 0), (1, 0, 0), "fixed", None),
    ]
    base = f'<link name="base_link"><visual><geometry><mesh filename="base.obj"/></geometry></visual>{_mass()}</link>'
    tip = f'<link name="ee_gripper_link">{_mass()}</link>'
    return "\n".join(['<robot name="wx250s">', base, *links, tip, *joints, "</robot>"])


def _mass() -> str:
    inertia = '<inertia ixx="0.001" ixy="0" ixz="0" iyy="0.001" iyz="0" izz="0.001"/>'
    return f'<inertial><mass value="0.1"/>{inertia}</inertial>'


def _link(name: str, size: tuple[float, float, float]) -> str:
    box = f'<geometry><box size="{size[0]} {size[1]} {size[2]}"/></geometry>'
    return f'<link name="{name}"><visual>{box}</visual><collision>{box}</collision>{_mass()}</link>'


def _joint(
    name: str,
    parent: str,
    child: str,
    origin: tuple[float, ...],
    axis: tuple[float, ...],
    kind: str,
    limits: tuple[float, float] | None,
) -> str:
    where, along = " ".join(map(str, origin)), " ".join(map(str, axis))
    limit = "" if limits is None else f'<limit effort="100" velocity="10" lower="{limits[0]}" upper="{limits[1]}"/>'
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        f'<origin xyz="{where}"/><axis xyz="{along}"/>{limit}</joint>'
    )
