"""Teach a vision tower where PickCube's things are, as published policies start from towers that have seen the world.

``python examples/pickcube/vision.py --architecture FILE --out FILE`` draws scenes with cube, goal and gripper anywhere, and
trains the architecture's tower to say in which patch each of them is, and where in the room. What `siirl.client.sft --vision`
starts from is the tower alone.

From nothing, a small transformer takes tens of thousands of demonstrated steps to notice a cube of 8 pixels on a table of
nearly its colour; asked for the patch, it finds it in minutes.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from siirl.config.schema import EnvConfig
from siirl.envs.maniskill.conventions import to_maniskill
from siirl.envs.maniskill.expert import POSITION_UNIT
from siirl.envs.maniskill.simulator import Simulator
from siirl.envs.maniskill.suites import SUITES
from siirl.policies.images import CROP_AREA, openvla_image
from siirl.policies.prismatic.vision import VisionBackbone
from siirl.training.sft import augment

ENV = EnvConfig(env_type="maniskill", env_name="PickCube-v1", image_size=128, camera_fov=0.9)
LOW, HIGH = np.array([-0.1, -0.1, 0.02]), np.array([0.1, 0.1, 0.3])
"""Where things are put, metres in the world's frame: a little beyond where PickCube puts them."""
THINGS = 3
"""Cube, goal and gripper, in this order everywhere."""
BATCH, LR, WARMUP = 64, 1e-3, 200
PATCH_WEIGHT = 0.3
"""Of the question for the patch, beside that for the place."""


class Stage:
    """PickCube's scene, with its things moved about by hand."""

    def __init__(self, seed: int) -> None:
        self._simulator = Simulator(SUITES.get(ENV.env_name), ENV)
        self._rng = np.random.default_rng(seed)
        self._simulator.reset(0, 0, seed)
        self._env = self._simulator.env
        self._target = self._place()

    def scenes(self, count: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pictures uint8 [count, size, size, 3], places float64 [count, 3 things, 3] (m), and pixels of these in the pictures
        float64 [count, 3 things, 2] (x to the right, y down)."""
        pictures, places = [], []
        for _ in range(count):
            self._move_hand()
            self._scatter()
            pictures.append(openvla_image(self._simulator.render()[0][0], size))
            places.append([p[0].numpy() for p in (self._env.cube.pose.p, self._env.goal_site.pose.p, self._hand())])
        where = np.array(places, np.float64)
        return np.stack(pictures), where, self._pixels(where) * size

    def close(self) -> None:
        """Free the simulator."""
        self._simulator.close()

    def _place(self) -> np.ndarray:
        return self._rng.uniform(LOW, HIGH)

    def _hand(self) -> Tensor:
        return self._env.agent.tcp.pose.p

    def _move_hand(self) -> None:
        """One control step on the hand's way to one random place after another, the gripper open or closed."""
        way = self._target - self._hand()[0].numpy()
        if np.linalg.norm(way) < 0.02 or self._rng.random() < 0.1:
            self._target = self._place()
        action = np.zeros((1, 7), np.float32)
        action[0, :3] = np.clip(way / POSITION_UNIT, -1, 1)
        action[0, 6] = self._rng.random() < 0.7
        self._simulator.step(to_maniskill(action))

    def _scatter(self) -> None:
        """Cube and goal to random places; of seven cubes five lie on the table, one is in the hand and one in the air."""
        import sapien

        cube = self._place()
        kind = self._rng.integers(7)
        if kind < 5:
            cube[2] = LOW[2]
        elif kind == 5:
            cube = self._hand()[0].numpy()
        turn = self._rng.uniform(0, np.pi)
        self._env.cube.set_pose(sapien.Pose(cube, [np.cos(turn / 2), 0, 0, np.sin(turn / 2)]))
        self._env.goal_site.set_pose(sapien.Pose(self._place()))

    def _pixels(self, places: np.ndarray) -> np.ndarray:
        """World [..., 3] → picture [..., 2], in sides of what `openvla_image` leaves of it."""
        camera = self._env.scene.sensors[self._simulator.suite.camera].get_params()
        extrinsic, intrinsic = (camera[name][0].numpy() for name in ("extrinsic_cv", "intrinsic_cv"))
        seen = (places @ extrinsic[:, :3].T + extrinsic[:, 3]) @ intrinsic.T
        whole = seen[..., :2] / seen[..., 2:] / ENV.image_size
        return (whole - 0.5) / np.sqrt(CROP_AREA) + 0.5


def draw(seed: int, count: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `Stage.scenes`; for a process of its own."""
    stage = Stage(seed)
    scenes = stage.scenes(count, size)
    stage.close()
    return scenes


def new_tower(architecture: dict) -> VisionBackbone:
    """A tower that can tell positions from the first step on: sines and cosines for them, as large as what the patches hold, and
    weights that keep the size of what they are given."""
    # siirl has to be there first: it makes timm importable without CUDA
    from timm.layers import build_sincos2d_pos_embed

    tower = VisionBackbone(architecture)
    for module in tower.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    for featurizer in tower.featurizers:
        embedding = build_sincos2d_pos_embed(
            list(featurizer.patch_embed.grid_size), featurizer.embed_dim, temperature=100
        )
        featurizer.pos_embed.data.copy_(embedding[None])
    return tower


class Questions(nn.Module):
    """What is asked of the tower's features: the patch of each thing, and its place."""

    def __init__(self, tower: VisionBackbone, centre: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.tower, self.centre, self.spread = tower, centre, spread
        self.patch = nn.Linear(tower.embed_dim, THINGS)
        self.place = nn.Linear(tower.embed_dim, THINGS * 3)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [B, 1, S, S, 3] → scores [B, patches, things], standardised places [B, things · 3]; float32."""
        with torch.autocast("cpu", torch.bfloat16):
            features = self.tower(self.tower.normalise(pictures))
            return self.patch(features).float(), self.place(features.mean(1)).float()

    def loss(self, pictures: Tensor, patches: Tensor, places: Tensor) -> Tensor:
        """Of patches int64 [B, things] and places [B, things, 3] (m)."""
        scores, guesses = self(pictures)
        wanted = ((places - self.centre) / self.spread).flatten(1)
        patch_loss = F.cross_entropy(scores.transpose(1, 2).flatten(0, 1), patches.flatten())
        return F.smooth_l1_loss(guesses, wanted, beta=0.2) + PATCH_WEIGHT * patch_loss

    @torch.no_grad()
    def errors(self, pictures: Tensor, places: Tensor) -> Tensor:
        """Mean absolute error of each thing's place, [things, 3] in centimetres."""
        guesses = torch.cat([self(part)[1] for part in pictures.split(256)])
        found = guesses.unflatten(1, (THINGS, 3)) * self.spread + self.centre
        return 100 * (found - places).abs().mean(0)


def train(questions: Questions, pictures: Tensor, patches: Tensor, places: Tensor, steps: int, seed: int) -> None:
    """AdamW with a cosine schedule; a twentieth of the scenes only measures."""
    held = len(pictures) // 20
    optimizer = torch.optim.AdamW(questions.parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARMUP) * (0.5 + 0.5 * np.cos(np.pi * step / steps))
    )
    generator, started = torch.Generator().manual_seed(seed), time.monotonic()
    for step in range(1, steps + 1):
        rows = torch.randint(held, len(pictures), (BATCH,), generator=generator)
        loss = questions.loss(augment(pictures[rows], 0, generator), patches[rows], places[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(questions.parameters(), 1.0)
        optimizer.step()
        rate.step()
        if step % 200 == 0 or step == steps:
            cm = questions.errors(pictures[:held], places[:held]).mean(1)
            found = "  ".join(
                f"{name} {error:.1f} cm" for name, error in zip(("cube", "goal", "hand"), cm, strict=True)
            )
            print(f"step {step}  loss {loss:.3f}  {found}  {time.monotonic() - started:.0f} s", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Draw, train, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", type=Path, required=True, help="config.json of the policy, one view")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--scenes", type=int, default=16000)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2, help="processes that draw, and threads that train")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.workers)
    torch.manual_seed(given.seed)
    tower = new_tower(json.loads(given.architecture.read_text()))
    seeds, each = range(given.seed, given.seed + given.workers), -(-given.scenes // given.workers)
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(draw, seeds, [each] * given.workers, [tower.image_size] * given.workers))
    pictures, places, pixels = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
    order = torch.randperm(len(pictures))
    rows, columns = tower.featurizers[0].patch_embed.grid_size
    scale = torch.tensor([columns, rows]) / tower.image_size
    cell = (pixels * scale).long().clamp(torch.zeros(2), torch.tensor([columns - 1, rows - 1]))
    places = places.float()
    questions = Questions(tower, places.mean(0), places.std(0))
    patches = (cell[..., 1] * columns + cell[..., 0]).long()
    train(questions, pictures[order, None], patches[order], places[order], given.steps, given.seed)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tower.state_dict(), given.out)


if __name__ == "__main__":
    main()
