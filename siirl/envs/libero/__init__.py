"""LIBERO (https://arxiv.org/abs/2306.03310): manipulation tasks with a Franka arm, simulated by MuJoCo."""

from collections.abc import Sequence

import numpy as np

from siirl.config.schema import EnvConfig
from siirl.data.trajectory import EpisodeSpec
from siirl.envs.base import ENVS, EnvObs, StepResult, Task
from siirl.envs.libero import suites
from siirl.envs.libero.package import prepare_rendering
from siirl.envs.libero.simulator import WRIST_CAMERA, Simulator

ACTION_DIM = 7


def to_libero_gripper(actions: np.ndarray) -> np.ndarray:
    """Turn actions from the policy's convention into LIBERO's: float32 [..., 7] → [..., 7].

    OpenVLA's data holds 0 for a closed and 1 for an open gripper, and LIBERO wants −1 to open and +1 to close. As in
    OpenVLA's evaluation, the gripper is binarised at 0.5 first.
    """
    converted = np.array(actions, dtype=np.float32)
    converted[..., -1] = -np.sign(2 * converted[..., -1] - 1)
    return converted


def from_libero_gripper(actions: np.ndarray) -> np.ndarray:
    """The inverse of `to_libero_gripper`, float32 [..., 7] → [..., 7]; what lies between −1 and +1 is kept as OpenVLA's data
    pipeline keeps it, 1 − clip(a, 0, 1)."""
    converted = np.array(actions, dtype=np.float32)
    converted[..., -1] = 1 - np.clip(converted[..., -1], 0, 1)
    return converted


@ENVS.register("libero")
class LiberoEnv:
    """One LIBERO simulator, with one slot. It is built at the first `reset` and kept while episodes stay with its task.

    Actions follow OpenVLA's convention, float32 [1, N, 7]: position change (unit 5 cm), rotation change (unit 0.5 rad), both
    clipped to [−1, 1] by the controller, and the gripper in [0, 1] where 1 is open. Images are upright.

    Args:
        config: the environment's settings.
        wrist: also render the camera on the wrist.
    """

    num_slots = 1
    lock_step = False
    any_suite = True
    imagined = False
    unused_keys = frozenset({"sim_backend", "asset_dir", "camera_fov"})

    def __init__(self, config: EnvConfig, wrist: bool = False) -> None:
        self._config = config
        self._wrist = wrist
        self._simulator: Simulator | None = None
        self._episode: EpisodeSpec | None = None
        self._steps = 0

    def reset(self, slots: Sequence[int], episodes: Sequence[EpisodeSpec]) -> EnvObs:
        """Start an episode: the trial's initial state, with everything random seeded by ``env_seed``, after settling.

        Raises:
            ValueError: no such suite, task or trial, or LIBERO cannot run here; says what is allowed.
        """
        assert list(slots) == [0], f"LIBERO has the one slot 0, not {list(slots)}"
        assert len(episodes) == 1, "one episode per slot"
        self._episode = None
        self._simulator_of(episodes[0]).reset(episodes[0].trial_id, episodes[0].env_seed)
        self._episode = episodes[0]
        self._steps = 0
        return self._observe()

    def step(self, slots: Sequence[int], actions: np.ndarray) -> StepResult:
        """Execute a chunk until success or ``max_steps``, then render once.

        Raises:
            ValueError: an action is NaN or infinite; nothing was executed.
        """
        assert list(slots) == [0], f"LIBERO has the one slot 0, not {list(slots)}"
        assert actions.shape[0] == 1, f"actions of one slot, not {actions.shape}"
        assert actions.shape[2] == ACTION_DIM, f"{ACTION_DIM}-D actions, not {actions.shape}"
        assert self._episode is not None, "the episode has ended; reset first"
        assert self._simulator is not None, "an episode has a simulator"
        if not np.isfinite(actions).all():
            raise ValueError(f"NaN or infinite action in episode {self._episode.prompt_id}")
        max_steps = self._episode.max_steps
        success, executed = False, 0
        for action in to_libero_gripper(actions[0]):
            success = self._simulator.step(action)
            executed += 1
            if success or self._steps + executed == max_steps:
                break
        self._steps += executed
        truncated = not success and self._steps == max_steps
        rewards = np.zeros(actions.shape[:2], dtype=np.float32)
        rewards[0, executed - 1] = success
        obs = self._observe()
        if success or truncated:
            self._episode = None
        return StepResult(
            obs=obs,
            rewards=rewards,
            success=np.array([success]),
            terminated=np.array([success]),
            truncated=np.array([truncated]),
            executed=np.array([executed]),
        )

    def rest(self) -> None:
        """Nothing: a scene is kept for the next episode."""

    def close(self) -> None:
        """Free the simulator."""
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None

    @staticmethod
    def max_slots_per_process(config: EnvConfig) -> int:
        """One simulator."""
        return 1

    @staticmethod
    def has_wrist_camera(config: EnvConfig) -> bool:
        """Every suite's robot has one."""
        return True

    @staticmethod
    def native_actions(actions: np.ndarray) -> np.ndarray:
        """See `to_libero_gripper`."""
        return to_libero_gripper(actions)

    @staticmethod
    def check_machine(config: EnvConfig) -> None:
        """Raises ValueError when there is no off-screen OpenGL here; says what to install."""
        prepare_rendering()

    @staticmethod
    def tasks(config: EnvConfig) -> list[Task]:
        """The suite's tasks, or those of ``task_ids``.

        Raises:
            ValueError: unknown suite or task, or LIBERO cannot run here; says what is allowed and the fix.
        """
        tasks = suites.suite_tasks(config.env_name)
        if config.task_ids is not None:
            tasks = [suites.find_task(config.env_name, i) for i in config.task_ids]
        return [Task(t.suite, t.task_id, t.instruction, len(suites.load_init_states(t))) for t in tasks]

    @staticmethod
    def default_max_steps(config: EnvConfig) -> int:
        """Episode length of OpenVLA's evaluation on the suite."""
        return suites.default_max_steps(config.env_name)

    @staticmethod
    def base_suite(config: EnvConfig) -> str:
        """``libero_goal`` for ``libero_goal_swap``; the suite itself where it is no variant of a usual one."""
        return suites.base_suite(config.env_name) or suites.canonical_suite(config.env_name)

    @staticmethod
    def is_other_suite(config: EnvConfig, name: str) -> bool:
        """Whether ``name`` is a usual suite, but neither that of the config nor its base: see `suites.base_suite`."""
        return suites.canonical_suite(name) in suites.DEFAULT_MAX_STEPS.keys() - {suites.base_suite(config.env_name)}

    def _simulator_of(self, episode: EpisodeSpec) -> Simulator:
        wanted = (suites.canonical_suite(episode.suite), episode.task_id)
        if self._simulator is None or (self._simulator.task.suite, self._simulator.task.task_id) != wanted:
            self.close()  # before the next one is built: see Simulator.close
            self._simulator = Simulator(
                suites.find_task(*wanted),
                self._config.image_size,
                self._config.antialiasing,
                self._config.max_texture_size,
                self._config.num_steps_wait,
            )
        return self._simulator

    def _observe(self) -> EnvObs:
        assert self._simulator is not None, "observed after reset"
        simulator = self._simulator
        return EnvObs(
            main_images=simulator.render()[None],
            states=simulator.state()[None],
            task_descriptions=[simulator.task.instruction],
            wrist_images=simulator.render(WRIST_CAMERA)[None] if self._wrist else None,
        )
