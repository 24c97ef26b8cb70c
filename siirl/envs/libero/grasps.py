"""What the scripted expert sees of a LIBERO scene, and where it could grasp an object."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

HAND_OPENING = 0.072
"""Widest object that fits between the fingers, metres."""
BOWL_PREFERENCE = {120: 0.5, 60: 0.4, 90: 0.3, 150: 0.3, 30: 0.2}
"""Score of grasping a bowl's rim at an angle (degrees), where the arm reaches most easily."""
BOWL_ANGLES = (90, -90, 60, 120, -60, -120, 0, 180, 30, 150, -30, -150)


def yaw_error(wanted: float, actual: float) -> float:
    """Smallest turn from one finger direction to another, in [−π/2, π/2): two fingers look the same from both sides."""
    return (wanted - actual + math.pi / 2) % math.pi - math.pi / 2


class Scene:
    """Privileged reading of a LIBERO scene; all positions in metres in the world's frame.

    Args:
        domain: LIBERO's robosuite environment.
    """

    def __init__(self, domain: Any) -> None:
        self._domain = domain
        self._model = domain.sim.model._model
        self._data = domain.sim.data._data
        self._site = domain.sim.model.site_name2id("gripper0_grip_site")
        self._fingers = [domain.sim.model.body_name2id(f"gripper0_finger_joint{i}_tip") for i in (1, 2)]
        self._geoms: dict[str, np.ndarray] = {}

    def objects(self) -> list[str]:
        """Names of the objects and furniture that one could collide with."""
        return [name for name in self._domain.obj_body_id if len(self._collision_geoms(name))]

    def points(self, name: str) -> np.ndarray:
        """Corners of the boxes around the object's collision geometry, [8 · geoms, 3]."""
        geoms = self._collision_geoms(name)
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
        rotations = self._data.geom_xmat[geoms].reshape(-1, 3, 3)
        corners = np.einsum("gij,gcj->gci", rotations, signs * self._half_sizes(geoms)[:, None])
        return (corners + self._data.geom_xpos[geoms][:, None]).reshape(-1, 3)

    def centre(self, name: str) -> np.ndarray:
        """Centre of the object's bounding box, [3]."""
        points = self.points(name)
        return (points.min(0) + points.max(0)) / 2

    def top(self, name: str) -> float:
        """Height of the object's highest point."""
        return float(self.points(name)[:, 2].max())

    def bottom(self, name: str) -> float:
        """Height of the object's lowest point."""
        return float(self.points(name)[:, 2].min())

    def inside(self, name: str) -> np.ndarray:
        """Centre of a container's inner region, [3]."""
        sites = self._domain.sim.model.site_names
        region = next(site for site in sites if site.startswith(name) and "contain" in site)
        return np.array(self._domain.sim.data.get_site_xpos(region))

    def hand(self) -> np.ndarray:
        """Position between the fingertips, [3]."""
        return np.array(self._data.site_xpos[self._site])

    def hand_direction(self) -> np.ndarray:
        """Unit vector [3] along which the hand points."""
        return np.array(self._data.site_xmat[self._site].reshape(3, 3)[:, 2])

    def finger_yaw(self) -> float:
        """Angle of the line through both fingertips, seen from above."""
        line = self._data.xpos[self._fingers[1]] - self._data.xpos[self._fingers[0]]
        return math.atan2(line[1], line[0])

    def _collision_geoms(self, name: str) -> np.ndarray:
        if name not in self._geoms:
            model = self._model
            root = model.body_rootid[self._domain.obj_body_id[name]]
            collides = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
            self._geoms[name] = np.flatnonzero((model.body_rootid[model.geom_bodyid] == root) & collides)
        return self._geoms[name]

    def _half_sizes(self, geoms: np.ndarray) -> np.ndarray:
        """Half the sides of a box around each geom, [geoms, 3]; round ones give (radius, radius, half length or radius)."""
        import mujoco

        size = self._model.geom_size[geoms]
        length = np.where(size[:, 1] > 0, size[:, 1], size[:, 0])
        round_ones = np.stack([size[:, 0], size[:, 0], length], axis=1)
        is_box = self._model.geom_type[geoms] == mujoco.mjtGeom.mjGEOM_BOX
        return np.where(is_box[:, None], size, round_ones)


@dataclass(frozen=True)
class Grasp:
    """A place to grasp: the point between the fingertips and the direction of the fingers' line.

    Attributes:
        xy: position [2], metres.
        z: height, metres.
        yaw: angle of the line through both fingers, radians.
        score: larger is better.
    """

    xy: np.ndarray
    z: float
    yaw: float
    score: float


def rank_grasps(scene: Scene, name: str) -> list[Grasp]:
    """Grasps of an object from above, the best first: away from neighbours, and with little turning of the hand."""
    obstacles = _neighbours(scene, name)
    grasps = _rim_grasps(scene, name, obstacles) if "bowl" in name else _body_grasps(scene, name, obstacles)
    return sorted(grasps, key=lambda grasp: -grasp.score)


def _rim_grasps(scene: Scene, name: str, obstacles: np.ndarray) -> list[Grasp]:
    """One finger inside the bowl and one outside, at angles around the rim."""
    points = scene.points(name)
    top = points[:, 2].max()
    rim = points[points[:, 2] > top - 0.012]
    centre = (rim.min(0) + rim.max(0))[:2] / 2
    radius = np.percentile(np.linalg.norm(rim[:, :2] - centre, axis=1), 60)
    grasps = []
    for degrees in BOWL_ANGLES:
        yaw = math.radians(degrees)
        outwards = np.array([math.cos(yaw), math.sin(yaw)])
        room = _room([centre + outwards * (radius + d) for d in (0.045, 0.03)], obstacles)
        turn = abs(yaw_error(yaw, scene.finger_yaw()))
        score = 20 * min(room, 0.05) - 0.2 * turn + BOWL_PREFERENCE.get(degrees, 0.0)
        grasps.append(Grasp(centre + outwards * (radius - 0.004), float(top) - 0.018, yaw, score))
    return grasps


def _body_grasps(scene: Scene, name: str, obstacles: np.ndarray) -> list[Grasp]:
    """Fingers on both sides of the object, at every angle at which it is narrow enough."""
    points = scene.points(name)
    low, high = points.min(0), points.max(0)
    centre = (low + high) / 2
    z = max(low[2] + 0.012, high[2] - 0.035 if high[2] - low[2] > 0.05 else centre[2])
    grasps = []
    for degrees in range(0, 180, 15):
        yaw = math.radians(degrees)
        across = np.array([math.cos(yaw), math.sin(yaw)])
        width = np.ptp(points[:, :2] @ across)
        if width > HAND_OPENING:
            continue
        room = _room([centre[:2] + across * 0.05, centre[:2] - across * 0.05], obstacles)
        turn = abs(yaw_error(yaw, scene.finger_yaw()))
        grasps.append(Grasp(centre[:2], float(z), yaw, 20 * min(room, 0.04) - 0.3 * turn - 6 * width))
    return grasps


def _neighbours(scene: Scene, name: str) -> np.ndarray:
    """Horizontal points [P, 2] of other objects that reach up to the fingers, with some between a box's corners."""
    fingers_at = scene.top(name) - 0.045
    others = [points[points[:, 2] > fingers_at] for points in (scene.points(n) for n in scene.objects() if n != name)]
    points = np.concatenate([*others, np.empty((0, 3))])
    between = [(points[:-gap] + points[gap:]) / 2 for gap in (1, 3, 7) if len(points) > gap]
    return np.concatenate([points, *between])[:, :2]


def _room(fingers: list[np.ndarray], obstacles: np.ndarray) -> float:
    """Distance from the fingers' positions [2] to the nearest obstacle; 10 cm when there is none."""
    if not len(obstacles):
        return 0.1
    return min(float(np.linalg.norm(obstacles - finger, axis=1).min()) for finger in fingers)
