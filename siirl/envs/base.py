"""The contract of an environment. One env = one file in this package, registered by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from siirl.config.schema import EnvConfig
from siirl.data.trajectory import EpisodeSpec
from siirl.registry import Registry


@dataclass
class EnvObs:
    """Observations of B slots, batch first.

    Attributes:
        main_images: uint8 [B, H, W, 3], upright.
        states: float32 [B, D]; for LIBERO D = 8: end-effector position 3 (m), axis-angle 3 (rad), gripper joints 2 (m).
        task_descriptions: the language goal of each slot.
        wrist_images: uint8 [B, H, W, 3], or None when the env was not asked for them.
        extra_view_images: uint8 [B, V, H, W, 3] ([B, H, W, 3] means V = 1), or None.
    """

    main_images: np.ndarray
    states: np.ndarray
    task_descriptions: list[str]
    wrist_images: np.ndarray | None = None
    extra_view_images: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.task_descriptions)

    def extra_views(self) -> np.ndarray:
        """``extra_view_images``, which there must be, as [B, V, H, W, 3]."""
        assert self.extra_view_images is not None
        return self.extra_view_images if self.extra_view_images.ndim == 5 else self.extra_view_images[:, None]

    def views(self) -> np.ndarray:
        """All images as trajectories store them, uint8 [B, V, H, W, 3]: main, wrist, extra views.

        Raises:
            ValueError: there are extra views but no wrist images; or images of several sizes.
        """
        stacks = [self.main_images[:, None]]
        if self.wrist_images is not None:
            stacks.append(self.wrist_images[:, None])
        if self.extra_view_images is not None:
            if self.wrist_images is None:
                raise ValueError(
                    "the environment gives extra_view_images but no wrist_images, and the second of stored images is the "
                    "wrist's; give wrist_images, or leave the extra views out where there are none."
                )
            stacks.append(self.extra_views())
        if len(sizes := {stack.shape[2:] for stack in stacks}) > 1:
            raise ValueError(f"images of one observation have the shapes {sorted(sizes)}; give all views one size.")
        return np.concatenate(stacks, axis=1)

    def row(self, i: int) -> "EnvObs":
        """The observation of the i-th slot alone, as a batch of one."""
        return EnvObs(
            main_images=self.main_images[i : i + 1],
            states=self.states[i : i + 1],
            task_descriptions=self.task_descriptions[i : i + 1],
            wrist_images=None if self.wrist_images is None else self.wrist_images[i : i + 1],
            extra_view_images=None if self.extra_view_images is None else self.extra_view_images[i : i + 1],
        )


@dataclass
class StepResult:
    """What S slots return after executing a chunk of up to N actions each.

    Attributes:
        obs: the observation after each slot's last executed action.
        rewards: float32 [S, N]; 0 for actions that were not executed.
        success: bool [S], the goal was reached during this chunk.
        terminated: bool [S], the episode ended by itself (success or failure state).
        truncated: bool [S], ``max_steps`` was reached without termination.
        executed: int [S], actions executed; the rest of the chunk was not, because the episode ended.
        frames: per slot, the uint8 [F, H, W, 3] intermediate frames, or None unless the env was asked to render them.
    """

    obs: EnvObs
    rewards: np.ndarray
    success: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    executed: np.ndarray
    frames: list[np.ndarray] | None = None

    def row(self, i: int) -> "StepResult":
        """The result of the i-th slot alone, as a batch of one."""
        one = slice(i, i + 1)
        return StepResult(
            obs=self.obs.row(i),
            rewards=self.rewards[one],
            success=self.success[one],
            terminated=self.terminated[one],
            truncated=self.truncated[one],
            executed=self.executed[one],
            frames=None if self.frames is None else self.frames[one],
        )


@dataclass(frozen=True)
class Task:
    """One language goal of a suite and the number of initial states it has."""

    suite: str
    task_id: int
    instruction: str
    num_trials: int


@runtime_checkable
class Env(Protocol):
    """A simulator with one or many slots; a slot runs one episode at a time.

    Slots that step together (`EnvFactory.lock_step`) are all named in each `step`: one that is left out while its episode runs
    has given it up, and is reset before it is named again.

    The constructor takes an `EnvConfig`, whose ``num_envs`` is the number of slots of this process, and whether to render the
    wrist camera as well, and is cheap: building a simulator may wait for the first `reset`.
    """

    num_slots: int

    def reset(self, slots: Sequence[int], episodes: Sequence[EpisodeSpec]) -> EnvObs:
        """Start ``episodes[i]`` in ``slots[i]``; other slots are untouched. Returns their first observations, in order."""
        ...

    def step(self, slots: Sequence[int], actions: np.ndarray) -> StepResult:
        """Execute ``actions`` float32 [S, N, D] (un-normalised) in ``slots``, each until its episode ends."""
        ...

    def rest(self) -> None:
        """Give back what only steps need, such as an accelerator's memory: for a while there will be none. Episodes stay."""
        ...

    def close(self) -> None:
        """Free the simulator; the env cannot be used afterwards."""
        ...


class EnvFactory(Protocol):
    """What is registered: builds an env, and lists and sizes its tasks without building a simulator."""

    lock_step: bool
    """Whether the slots of a process can only step together; whoever drives them then waits until each whose episode runs has its
    actions. Means nothing where a process holds one slot."""

    any_suite: bool
    """Whether a process can run episodes of any suite; else only of the ``env_name`` that it was built for."""

    imagined: bool
    """Whether it is a world model: one camera, states of zeros, and chunks of exactly `env.world_model.chunk` actions."""

    unused_keys: frozenset[str]
    """Keys of `EnvConfig` that mean nothing here: values other than the default are refused."""

    def __call__(self, config: EnvConfig, wrist: bool = False) -> Env: ...

    @staticmethod
    def max_slots_per_process(config: EnvConfig) -> int:
        """Slots that one process can hold (1: one simulator per process)."""
        ...

    @staticmethod
    def has_wrist_camera(config: EnvConfig) -> bool:
        """Whether a camera on the wrist can be rendered."""
        ...

    @staticmethod
    def native_actions(actions: np.ndarray) -> np.ndarray:
        """The policy's actions, float32 [..., D], as the simulator itself takes them: what world models of it learn from."""
        ...

    @staticmethod
    def tasks(config: EnvConfig) -> list[Task]:
        """The tasks of ``config.env_name`` that ``config.task_ids`` names, all of them if that is None.

        Raises ValueError for an unknown suite or task, or a missing simulator.
        """
        ...

    @staticmethod
    def check_machine(config: EnvConfig) -> None:
        """Raises ValueError when this machine lacks what a simulator of ``config.env_name`` needs, with the fix: drivers, assets.

        Only asked where simulators will run; a plan for other machines is made without.
        """
        ...

    @staticmethod
    def default_max_steps(config: EnvConfig) -> int:
        """Environment steps after which an episode of this suite is truncated when the config names no number."""
        ...

    @staticmethod
    def base_suite(config: EnvConfig) -> str:
        """The suite whose demonstrations a policy for ``config.env_name`` learns from: that one or, for a perturbation of a suite
        that is there to test what was learned, that suite."""
        ...

    @staticmethod
    def is_other_suite(config: EnvConfig, name: str) -> bool:
        """Whether ``name`` is a suite, but neither ``config.env_name`` nor the one that it is a variant of."""
        ...


ENVS: Registry[EnvFactory] = Registry("env_type", "siirl.envs")
