"""LIBERO's scripted expert at work, for `siirl.client.collect_demos`. Grippers are recorded in LIBERO's convention (+1 closes),
that of the published LIBERO datasets."""

from itertools import islice
from typing import Any

from siirl.config.schema import EnvConfig
from siirl.envs.base import EnvObs
from siirl.envs.demonstrations import Expertise, Recording, Settings, disturb, generator, policy_actions
from siirl.envs.libero import ACTION_DIM, to_libero_gripper
from siirl.envs.libero.expert import PickAndPlace
from siirl.envs.libero.simulator import Simulator
from siirl.envs.libero.suites import canonical_suite, default_max_steps, find_task, load_init_states

SOLVED = ("libero_spatial", "libero_object")
"""Suites whose tasks the expert solves; variants of them have longer names."""


def check(env: EnvConfig, task_id: int, trials: list[int]) -> str:
    """The task's instruction. Raises ValueError for an unknown suite, task or trial, or one that the expert cannot solve."""
    task = find_task(env.env_name, task_id)
    if not task.suite.startswith(SOLVED):
        raise ValueError(
            f"--suite {env.env_name}: the scripted expert cannot solve it; allowed: {' and '.join(SOLVED)}"
        )
    available = len(load_init_states(task))
    if max(trials) >= available:
        raise ValueError(
            f"--trials: task {task_id} of {env.env_name} has no trial {max(trials)}; allowed: 0 to {available - 1}"
        )
    return task.instruction


def describe(env: EnvConfig) -> dict[str, Any]:
    """Suite and rendering."""
    return {
        "suite": canonical_suite(env.env_name),
        "image_size": env.image_size,
        "antialiasing": env.antialiasing,
        "max_texture_size": env.max_texture_size,
    }


class LiberoDemonstrator:
    """The expert in a simulator of one task; a retry takes another grasp."""

    def __init__(self, env: EnvConfig, task_id: int) -> None:
        self._simulator = Simulator(
            find_task(env.env_name, task_id),
            env.image_size,
            env.antialiasing,
            env.max_texture_size,
            env.num_steps_wait,
        )

    def episode(self, settings: Settings, trial_id: int, noise: float, attempt: int) -> Recording:
        """See `siirl.envs.demonstrations.Demonstrator`; the settings' ``seed`` also places the furniture."""
        simulator = self._simulator
        task = simulator.task
        rng = generator(settings.seed, task.task_id, trial_id, noise, attempt)
        simulator.reset(trial_id, seed=int(rng.integers(2**31)))
        recording = Recording()
        actor = PickAndPlace(simulator, choice=attempt).actions()
        if settings.policy is not None:
            actor = policy_actions(settings.policy, self._observe, rng)
        for wanted, disturbed in islice(
            disturb(actor, noise, rng, settings.pushes), settings.env.max_steps or default_max_steps(task.suite)
        ):
            recording.look(self._observe())
            recording.actions.append(to_libero_gripper(wanted))
            recording.executed.append(to_libero_gripper(disturbed))
            recording.success = simulator.step(recording.executed[-1])
            if recording.success:
                break
        if settings.rollouts:
            recording.look(self._observe())
        return recording

    def _observe(self) -> EnvObs:
        simulator = self._simulator
        return EnvObs(simulator.render()[None], simulator.state()[None], [simulator.task.instruction])

    def close(self) -> None:
        """Free the simulator."""
        self._simulator.close()


EXPERTISE = Expertise(
    LiberoDemonstrator,
    check,
    describe,
    "libero_spatial",
    noises=(0.2, 0.1, 0.0),
    fps=20,
    state_dim=8,
    action_dim=ACTION_DIM,
)
