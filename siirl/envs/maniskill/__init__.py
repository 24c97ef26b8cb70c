"""ManiSkill3 (https://arxiv.org/abs/2410.00425): manipulation tasks simulated by PhysX, on the CPU or in batches on a GPU."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from siirl.config.schema import EnvConfig
from siirl.data.trajectory import EpisodeSpec
from siirl.envs.base import ENVS, EnvObs, StepResult, Task
from siirl.envs.maniskill.chunks import Look, look, play
from siirl.envs.maniskill.conventions import ACTION_DIM, to_maniskill
from siirl.envs.maniskill.package import check_installed, check_rendering
from siirl.envs.maniskill.simulator import Simulator
from siirl.envs.maniskill.suites import SUITES


@ENVS.register("maniskill")
class ManiSkillEnv:
    """Scenes of one ManiSkill environment: one on the CPU, ``num_envs`` that step together on a GPU.

    Actions follow OpenVLA's convention, float32 [S, N, 7]: position change (unit 10 cm), rotation change (unit 0.1 rad, in
    ManiSkill's sign: docs/maniskill.md), and the gripper in [0, 1] where 1 is open, binarised at 0.5. The scene is built at the
    first `reset`.

    Args:
        config: the environment's settings.
        wrist: also render the camera on the wrist.
    """

    lock_step = True
    any_suite = False
    imagined = False
    unused_keys = frozenset({"antialiasing", "max_texture_size", "num_steps_wait"})

    def __init__(self, config: EnvConfig, wrist: bool = False) -> None:
        self.num_slots = ManiSkillEnv.max_slots_per_process(config)
        self._config, self._wrist = config, wrist
        self._simulator: Simulator | None = None
        self._episodes: dict[int, EpisodeSpec] = {}
        self._steps = np.zeros(self.num_slots, np.int64)

    def reset(self, slots: Sequence[int], episodes: Sequence[EpisodeSpec]) -> EnvObs:
        """Start episodes in the initial states that their ``trial_id`` seeds; ``env_seed`` changes nothing.

        Raises:
            ValueError: no such task or trial; says what is allowed.
        """
        simulator = self._built()
        for slot, episode in zip(slots, episodes, strict=True):
            self._check(episode)
            self._episodes.pop(slot, None)
            simulator.reset(slot, episode.task_id, episode.trial_id)
            self._episodes[slot], self._steps[slot] = episode, 0
        return self._observation(slots, look(simulator, slots))

    def step(self, slots: Sequence[int], actions: np.ndarray) -> StepResult:
        """Execute a chunk in ``slots``, each until success, failure or ``max_steps``, then render.

        Slots that are not named take part in the physics all the same, so their episodes, if any, are over.

        Raises:
            ValueError: an action is NaN or infinite; nothing was executed.
        """
        assert actions.shape[0] == len(slots), f"actions of {len(slots)} slots, not {actions.shape}"
        assert actions.shape[2] == ACTION_DIM, f"{ACTION_DIM}-D actions, not {actions.shape}"
        assert set(slots) <= self._episodes.keys(), "the episode has ended; reset first"
        assert self._simulator is not None, "an episode has a simulator"
        episodes = [self._episodes[slot] for slot in slots]
        for episode, its in zip(episodes, actions, strict=True):
            if not np.isfinite(its).all():
                raise ValueError(f"NaN or infinite action in episode {episode.prompt_id}")
        self._episodes = dict(zip(slots, episodes, strict=True))
        rows, max_steps = list(slots), np.array([episode.max_steps for episode in episodes])
        played = play(self._simulator, slots, to_maniskill(actions), max_steps - self._steps[rows])
        self._steps[rows] += played.executed
        truncated = ~played.terminated & (self._steps[rows] == max_steps)
        obs = self._observation(slots, played.look)
        for slot, ended in zip(slots, played.terminated | truncated, strict=True):
            if ended:
                del self._episodes[slot]
        return StepResult(obs, played.rewards, played.success, played.terminated, truncated, played.executed)

    def rest(self) -> None:
        """Nothing: a scene is kept for the next episode."""

    def close(self) -> None:
        """Free the simulator."""
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None

    @staticmethod
    def max_slots_per_process(config: EnvConfig) -> int:
        """All of them on a GPU, one on the CPU."""
        return config.num_envs if config.sim_backend == "gpu" else 1

    @staticmethod
    def has_wrist_camera(config: EnvConfig) -> bool:
        """Whether ManiSkill lets the suite's robot have one."""
        return SUITES.get(config.env_name).wrist is not None

    @staticmethod
    def native_actions(actions: np.ndarray) -> np.ndarray:
        """See `to_maniskill`."""
        return to_maniskill(actions)

    @staticmethod
    def tasks(config: EnvConfig) -> list[Task]:
        """The suite's tasks, or those of ``task_ids``. A suite without a limit has as many trials as are asked for.

        Raises:
            ValueError: unknown suite or task, no ManiSkill, or a suite that a GPU cannot simulate; says what is allowed.
        """
        check_installed()
        suite = SUITES.get(config.env_name)
        if config.sim_backend == "gpu" and suite.rebuilds:
            raise ValueError(
                f"env.sim_backend=gpu cannot simulate {suite.name}: its shapes differ between trials, and scenes on a GPU keep "
                "theirs; use env.sim_backend=cpu"
            )
        if config.asset_dir is not None and not Path(config.asset_dir).is_dir():
            raise ValueError(f"env.asset_dir={config.asset_dir} is no folder; name the one with ManiSkill's assets")
        ids = range(len(suite.instructions)) if config.task_ids is None else config.task_ids
        if missing := [i for i in ids if not 0 <= i < len(suite.instructions)]:
            raise ValueError(f"{suite.name} has no task {missing[0]}; allowed: 0 to {len(suite.instructions) - 1}")
        trials = config.num_trials_per_task if suite.max_trials is None else suite.max_trials
        return [Task(suite.name, i, suite.instructions[i], trials) for i in ids]

    @staticmethod
    def check_machine(config: EnvConfig) -> None:
        """Raises ValueError when this machine cannot draw, or lacks the suite's assets; says the fix."""
        SUITES.get(config.env_name).check(config)
        check_rendering(config)

    @staticmethod
    def default_max_steps(config: EnvConfig) -> int:
        """Episode length that ManiSkill registers the environment with."""
        return SUITES.get(config.env_name).max_steps

    @staticmethod
    def base_suite(config: EnvConfig) -> str:
        """The suite itself."""
        return config.env_name

    @staticmethod
    def is_other_suite(config: EnvConfig, name: str) -> bool:
        """Whether ``name`` is another environment of ManiSkill."""
        return name in set(SUITES.names()) - {config.env_name}

    def _built(self) -> Simulator:
        if self._simulator is None:
            suite = SUITES.get(self._config.env_name)
            self._simulator = Simulator(suite, self._config, self.num_slots, self._wrist)
        return self._simulator

    def _check(self, episode: EpisodeSpec) -> None:
        suite = SUITES.get(self._config.env_name)
        assert episode.suite == suite.name, f"a simulator of {suite.name} has no {episode.suite}"
        for kind, given, count in (
            ("task", episode.task_id, len(suite.instructions)),
            ("trial", episode.trial_id, suite.max_trials),
        ):
            if given < 0 or (count is not None and given >= count):
                allowed = f"0 to {count - 1}" if count else "0 and above"
                raise ValueError(f"{suite.name} has no {kind} {given}; allowed: {allowed}")

    def _observation(self, slots: Sequence[int], seen: Look) -> EnvObs:
        instructions = SUITES.get(self._config.env_name).instructions
        return EnvObs(
            main_images=seen.pictures[0],
            states=seen.states,
            task_descriptions=[instructions[self._episodes[slot].task_id] for slot in slots],
            wrist_images=seen.pictures[1] if self._wrist else None,
        )
