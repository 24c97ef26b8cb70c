"""A simulator that costs next to nothing, and fails on demand, to test what surrounds the simulators.

A point moves along a line by the first number of each action; it succeeds when it has gone far enough. Whether it does is
chance under a policy that knows nothing, so groups have successes and failures to learn from.
"""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from siirl.config.schema import EnvConfig
from siirl.data.trajectory import EpisodeSpec
from siirl.envs.base import ENVS, EnvObs, StepResult, Task

FAULTS = "SIIRL_TOY_FAULTS"
"""Environment variable: a folder whose files ``<trial>-<step>-<kind>`` each make one episode fail once."""

GOAL = 1.5
TRIALS = 12
INSTRUCTION = "pick up the alphabet soup and place it in the basket"


def register() -> None:
    """Importing this module registers the env; Ray calls this in each of its workers."""


def plan_fault(trial: int, step: int, kind: str) -> Path:
    """Let the next episode of ``trial`` that has done ``step`` steps fail: nan, hang, exit or error."""
    fault = Path(os.environ[FAULTS]) / f"{trial}-{step}-{kind}"
    fault.touch()
    return fault


@ENVS.register("toy")
class ToyEnv:
    """One slot in one process, as LIBERO; the suite ``toy_slow`` takes 50 ms for each chunk."""

    num_slots = 1
    lock_step = False
    any_suite = True
    imagined = False
    unused_keys: frozenset[str] = frozenset()

    def __init__(self, config: EnvConfig, wrist: bool = False) -> None:
        self._size, self._wrist = config.image_size, wrist
        self._delay = 0.05 if config.env_name == "toy_slow" else 0.0
        self._place = 0.0
        self._steps = 0
        self._episode: EpisodeSpec | None = None

    def reset(self, slots: Sequence[int], episodes: Sequence[EpisodeSpec]) -> EnvObs:
        self._episode = episodes[0]
        self._place = np.random.default_rng(episodes[0].env_seed).uniform(-0.5, 0.5)
        self._steps = 0
        return self._observe()

    def step(self, slots: Sequence[int], actions: np.ndarray) -> StepResult:
        assert self._episode is not None, "the episode has ended; reset first"
        time.sleep(self._delay)
        fault = self._fault()
        executed, success = 0, False
        for action in actions[0]:
            self._place += float(action[0])
            executed += 1
            success = self._place > GOAL
            if success or self._steps + executed == self._episode.max_steps:
                break
        self._steps += executed
        truncated = not success and self._steps == self._episode.max_steps
        obs = self._observe()
        if fault == "nan":
            obs.states[0, 0] = np.nan
        if success or truncated:
            self._episode = None
        rewards = np.zeros(actions.shape[:2], np.float32)
        flags = (np.array([flag]) for flag in (success, success, truncated))
        return StepResult(obs, rewards, *flags, np.array([executed]))

    def rest(self) -> None:
        """Nothing to give back."""

    def close(self) -> None:
        """Nothing to free."""

    @staticmethod
    def max_slots_per_process(config: EnvConfig) -> int:
        return 1

    @staticmethod
    def has_wrist_camera(config: EnvConfig) -> bool:
        return True

    @staticmethod
    def native_actions(actions: np.ndarray) -> np.ndarray:
        return actions

    @staticmethod
    def check_machine(config: EnvConfig) -> None:
        """Nothing is needed."""

    @staticmethod
    def tasks(config: EnvConfig) -> list[Task]:
        return [Task(config.env_name, i, INSTRUCTION, TRIALS) for i in config.task_ids or [0]]

    @staticmethod
    def default_max_steps(config: EnvConfig) -> int:
        return 24

    @staticmethod
    def base_suite(config: EnvConfig) -> str:
        return config.env_name

    @staticmethod
    def is_other_suite(config: EnvConfig, name: str) -> bool:
        return False

    def _observe(self) -> EnvObs:
        image = np.zeros((1, self._size, self._size, 3), np.uint8)
        image[0, :, int(np.clip(self._place + 2, 0, 3.9) / 4 * self._size) :] = 200
        states = np.full((1, 8), self._place, np.float32)
        return EnvObs(image, states, [INSTRUCTION], 255 - image if self._wrist else None)

    def _fault(self) -> str | None:
        """The kind of the fault that is planned for now; exit, error and hang happen here."""
        assert self._episode is not None
        planned = Path(os.environ[FAULTS]).glob(f"{self._episode.trial_id}-{self._steps}-*")
        fault = next(planned, None)
        if fault is None:
            return None
        try:
            fault.unlink()
        except FileNotFoundError:  # another simulator was quicker
            return None
        kind = fault.name.rpartition("-")[2]
        if kind == "exit":
            os._exit(1)
        if kind == "error":
            raise ArithmeticError("the toy broke")
        if kind == "hang":
            os.kill(os.getpid(), signal.SIGSTOP)
        return kind


@ENVS.register("toy_pair")
class ToyPair(ToyEnv):
    """Up to two slots in one process, which step together and die together."""

    @staticmethod
    def max_slots_per_process(config: EnvConfig) -> int:
        return 2

    def __init__(self, config: EnvConfig, wrist: bool = False) -> None:
        self.num_slots = config.num_envs
        self._toys = [ToyEnv(config, wrist) for _ in range(self.num_slots)]

    def reset(self, slots: Sequence[int], episodes: Sequence[EpisodeSpec]) -> EnvObs:
        rows = [self._toys[slot].reset([0], [episode]) for slot, episode in zip(slots, episodes, strict=True)]
        return _stacked(rows)

    def step(self, slots: Sequence[int], actions: np.ndarray) -> StepResult:
        rows = [self._toys[slot].step([0], action[None]) for slot, action in zip(slots, actions, strict=True)]
        names = ("rewards", "success", "terminated", "truncated", "executed")
        return StepResult(
            _stacked([row.obs for row in rows]),
            *(np.concatenate([getattr(row, name) for row in rows]) for name in names),
        )


def _stacked(rows: Sequence[EnvObs]) -> EnvObs:
    images, states = (np.concatenate([getattr(row, name) for row in rows]) for name in ("main_images", "states"))
    wrist = [row.wrist_images for row in rows if row.wrist_images is not None]
    return EnvObs(images, states, [INSTRUCTION] * len(rows), np.concatenate(wrist) if wrist else None)
