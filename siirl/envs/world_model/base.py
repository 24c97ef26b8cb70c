"""The environment around a video model: slots, what each remembers, rewards, time limits. A backend adds the model."""

import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from siirl.config.schema import EnvConfig
from siirl.data.trajectory import EpisodeSpec
from siirl.envs.base import ENVS, EnvFactory, EnvObs, StepResult, Task
from siirl.envs.world_model.initial_states import InitialStates, open_initial_states
from siirl.envs.world_model.outcomes import Outcome, settle
from siirl.envs.world_model.video_model import VideoModel

ACTION_DIM = 7
STATE_DIM = 8
"""Of the states, which are zeros: a world model knows no proprioception."""


@dataclass
class _Running:
    """An episode in a slot.

    Attributes:
        spec: the episode.
        start: its first frame, uint8 [H, W, 3].
        memory: what the model remembers of it, [1, …]; None until the first chunk.
        steps, chunks: imagined so far.
        probability: of success in the last frame.
    """

    spec: EpisodeSpec
    start: np.ndarray
    memory: Tensor | None = None
    steps: int = 0
    chunks: int = 0
    probability: float = 0.0

    def seed(self) -> int:
        """Of the next chunk's noise: the same whenever the episode is run, and whatever it is imagined together with."""
        sequence = np.random.SeedSequence(self.spec.env_seed, spawn_key=(self.chunks,))
        return int(sequence.generate_state(1, np.uint64)[0]) >> 1


class WorldModelEnv:
    """``num_envs`` imagined episodes in one process, any of which step together. The model is loaded at the first `step`.

    Its tasks are those of the simulator that it imagines (`env.world_model.wm_env_type`) for which there are initial states. An
    episode starts with a recorded frame and ends with the first one in which the classifier sees success, or after ``max_steps``.
    Its rewards add up to the classifier's last probability. States are zeros.

    Actions follow OpenVLA's convention, float32 [S, chunk, 7], whose last number is the gripper in [0, 1] where 1 is open.

    Args:
        config: the environment's settings.
        wrist: must be False: there is one camera.
    """

    lock_step = False
    any_suite = False
    imagined = True
    unused_keys = frozenset({"asset_dir", "camera_fov", "antialiasing", "max_texture_size", "num_steps_wait"})

    def __init__(self, config: EnvConfig, wrist: bool = False) -> None:
        assert not wrist, "a world model imagines the main camera alone"
        self.num_slots = config.num_envs
        self._config = config
        self._starts: InitialStates | None = None
        self._tasks: dict[int, Task] = {}
        self._model: VideoModel | None = None
        self._running: dict[int, _Running] = {}

    @staticmethod
    @abstractmethod
    def load(config: EnvConfig, device: torch.device) -> VideoModel:
        """The model that the config names. Raises ValueError for files that are missing or broken; says which."""

    @staticmethod
    @abstractmethod
    def check_files(config: EnvConfig) -> None:
        """Raises ValueError when a file of the model is missing; says which, and where it is expected. Reads no weights."""

    def reset(self, slots: Sequence[int], episodes: Sequence[EpisodeSpec]) -> EnvObs:
        """Start episodes with the recorded first frames of their trials.

        Raises:
            ValueError: no such task or trial; says what is allowed.
        """
        if self._starts is None:
            self._starts = open_initial_states(self._config.world_model)
            self._tasks = {task.task_id: task for task in self.tasks(replace(self._config, task_ids=None))}
        for slot, episode in zip(slots, episodes, strict=True):
            self._running.pop(slot, None)
            self._running[slot] = _Running(
                episode, self._starts.frame(self._task(episode).instruction, episode.trial_id)
            )
        return self._observation([(self._running[slot], self._running[slot].start) for slot in slots])

    def step(self, slots: Sequence[int], actions: np.ndarray) -> StepResult:
        """Imagine a chunk in ``slots``, each until success or ``max_steps``; what was imagined after that is not looked at.

        A slot where the model comes to NaN gets rewards of NaN, by which the rollout drops its episode.

        Raises:
            ValueError: an action is NaN or infinite; nothing was imagined.
        """
        assert set(slots) <= self._running.keys(), "the episode has ended; reset first"
        assert actions.shape[0] == len(slots), f"actions of {len(slots)} slots, not {actions.shape}"
        assert actions.shape[2] == ACTION_DIM, f"{ACTION_DIM}-D actions, not {actions.shape}"
        rows = [self._running[slot] for slot in slots]
        for row, its in zip(rows, actions, strict=True):
            if not np.isfinite(its).all():
                raise ValueError(f"NaN or infinite action in episode {row.spec.prompt_id}")
        size = self._config.world_model.batch_size or len(rows)
        with computing_on(self._config.world_model.cpu_threads or len(os.sched_getaffinity(0))):
            parts = [self._imagine(rows[i : i + size], actions[i : i + size]) for i in range(0, len(rows), size)]
        frames, probabilities = (np.concatenate(values) for values in zip(*parts, strict=True))
        outcome = self._settle(rows, probabilities)
        obs = self._observation(
            [(row, frames[i, last - 1]) for i, (row, last) in enumerate(zip(rows, outcome.executed, strict=True))]
        )
        for slot, ended in zip(slots, outcome.success | outcome.truncated, strict=True):
            if ended:
                del self._running[slot]
        return StepResult(
            obs, outcome.rewards, outcome.success, outcome.success.copy(), outcome.truncated, outcome.executed
        )

    def rest(self) -> None:
        """With `env.world_model.offload` the model, and what it remembers, wait in the host's memory for the next step."""
        if self._config.world_model.offload and self._model is not None:
            for row in self._running.values():
                row.memory = None if row.memory is None else row.memory.cpu()
            self._model.to(torch.device("cpu"))
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Free the model."""
        self._model = None
        self._running = {}

    @torch.inference_mode()
    def _imagine(self, rows: Sequence[_Running], actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The next frames uint8 [S, T, H, W, 3] of episodes, which go on to remember them, and the probability of success in
        each, float32 [S, T]."""
        model = self._built()
        assert actions.shape[1] == model.chunk, f"{model.chunk} actions per chunk, not {actions.shape[1]}"
        new = [row for row in rows if row.memory is None]
        if new:
            starts = torch.from_numpy(np.stack([row.start for row in new])).to(model.device)
            for row, memory in zip(new, model.begin(starts).split(1), strict=True):
                row.memory = memory
        memories = torch.cat([row.memory.to(model.device) for row in rows if row.memory is not None])
        imitated, _ = imitated_by(self._config)
        imagined = model.imagine(memories, imitated.native_actions(actions), [row.seed() for row in rows])
        for row, memory in zip(rows, imagined.memory.split(1), strict=True):
            row.memory = memory
            row.chunks += 1
        probabilities = model.success(imagined.frames)
        probabilities = torch.where(imagined.finite[:, None], probabilities, torch.nan)
        return imagined.frames.cpu().numpy(), probabilities.float().cpu().numpy()

    def _settle(self, rows: Sequence[_Running], probabilities: np.ndarray) -> Outcome:
        """What counts of a chunk; the episodes note it."""
        before = np.array([row.probability for row in rows], np.float32)
        steps_left = np.array([row.spec.max_steps - row.steps for row in rows])
        outcome = settle(probabilities, before, steps_left, self._config.world_model.success_threshold)
        for i, row in enumerate(rows):
            row.steps += int(outcome.executed[i])
            row.probability = float(outcome.probabilities[i])
        return outcome

    def _built(self) -> VideoModel:
        device = torch.device("cuda" if self._config.sim_backend == "gpu" else "cpu")
        if self._model is None:
            self._model = self.load(self._config, device)
            assert self._model.image_size == self._config.image_size, "`tasks` compares the sizes"
        if self._model.device.type != device.type:
            self._model.to(device)
        return self._model

    def _task(self, episode: EpisodeSpec) -> Task:
        if episode.task_id not in self._tasks:
            allowed = ", ".join(map(str, self._tasks))
            raise ValueError(f"{episode.suite} has no task {episode.task_id} with initial states; allowed: {allowed}")
        task = self._tasks[episode.task_id]
        assert episode.suite == task.suite, f"a world model of {task.suite} imagines no {episode.suite}"
        return task

    def _observation(self, shown: Sequence[tuple[_Running, np.ndarray]]) -> EnvObs:
        return EnvObs(
            main_images=np.stack([frame for _, frame in shown]),
            states=np.zeros((len(shown), STATE_DIM), np.float32),
            task_descriptions=[self._tasks[row.spec.task_id].instruction for row, _ in shown],
        )

    @staticmethod
    def max_slots_per_process(config: EnvConfig) -> int:
        """All of them: they share one model."""
        return config.num_envs

    @staticmethod
    def has_wrist_camera(config: EnvConfig) -> bool:
        """It has none."""
        return False

    @classmethod
    def tasks(cls, config: EnvConfig) -> list[Task]:
        """The tasks of the imagined simulator's suite that have initial states, or those of ``task_ids``. Where no folder of the
        model is named they are all of its tasks, with as many trials as there.

        Raises:
            ValueError: unknown suite or task, a file of the model or of the initial states is missing, frames of another size, or
                a task without initial states; says what is allowed and the fix.
        """
        imitated, settings = imitated_by(config)
        found = imitated.tasks(settings)
        if config.world_model.path is None:
            return found
        cls.check_files(config)
        starts = open_initial_states(config.world_model)
        starts.check_size(config.image_size)
        known = [replace(task, num_trials=starts.count(task.instruction)) for task in found]
        if config.task_ids is None:
            known = [task for task in known if task.num_trials]
        missing = [task for task in known if not task.num_trials]
        if missing or not known:
            which = f"task {missing[0].task_id} ({missing[0].instruction})" if missing else f"any of {config.env_name}"
            raise ValueError(f"{starts.folder} has no initial state of {which}; it has: {starts.described()}")
        return known

    @staticmethod
    def check_machine(config: EnvConfig) -> None:
        """Raises ValueError when this machine lacks the accelerator that the model is to run on; says the fix."""
        if config.sim_backend == "gpu" and not torch.cuda.is_available():
            raise ValueError("PyTorch finds no accelerator here; use actor_rollout_ref.embodied.env.sim_backend=cpu")

    @staticmethod
    def native_actions(actions: np.ndarray) -> np.ndarray:
        """They are the policy's; which simulator's they become, the settings say."""
        return actions

    @staticmethod
    def default_max_steps(config: EnvConfig) -> int:
        """That of the imagined simulator."""
        imitated, settings = imitated_by(config)
        return imitated.default_max_steps(settings)

    @staticmethod
    def base_suite(config: EnvConfig) -> str:
        """That of the imagined simulator."""
        imitated, settings = imitated_by(config)
        return imitated.base_suite(settings)

    @staticmethod
    def is_other_suite(config: EnvConfig, name: str) -> bool:
        """As the imagined simulator says."""
        imitated, settings = imitated_by(config)
        return imitated.is_other_suite(settings, name)


@contextmanager
def computing_on(threads: int) -> Iterator[None]:
    """Let PyTorch compute on so many CPU threads inside: a simulator's process has one, and so has a policy that acts."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def imitated_by(config: EnvConfig) -> tuple[EnvFactory, EnvConfig]:
    """The simulator that a world model imagines, and its settings.

    Raises:
        ValueError: `env.world_model.wm_env_type` names none, or a world model.
    """
    kind = config.world_model.wm_env_type
    factory = ENVS.get(kind)
    if factory.imagined:
        raise ValueError(
            f"env.world_model.wm_env_type={kind} is a world model itself; name the simulator that it imagines"
        )
    return factory, replace(config, env_type=kind)
