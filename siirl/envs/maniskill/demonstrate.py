"""ManiSkill's scripted expert at work, for `siirl.client.collect_demos`. Actions are recorded in the policy's convention
(gripper 1 open, 0 closed), which `siirl.client.sft` calls ``--gripper open``."""

from itertools import islice
from typing import Any

from siirl.config.schema import EnvConfig
from siirl.envs.base import EnvObs
from siirl.envs.demonstrations import Expertise, Recording, Settings, disturb, generator, policy_actions
from siirl.envs.maniskill import ManiSkillEnv
from siirl.envs.maniskill.conventions import ACTION_DIM, STATE_DIM, to_maniskill
from siirl.envs.maniskill.expert import SPEED, PickCube
from siirl.envs.maniskill.package import check_rendering
from siirl.envs.maniskill.simulator import Simulator
from siirl.envs.maniskill.suites import SUITES

EXPERTS = {"PickCube-v1": PickCube}
PUSHED_LONGER = 2
"""How many times longer an episode may take whose expert is pushed about."""


def check(env: EnvConfig, task_id: int, trials: list[int]) -> str:
    """The task's instruction.

    Raises:
        ValueError: an unknown suite or task, a suite without an expert, or a machine that cannot draw.
    """
    del trials  # any seed is one
    ManiSkillEnv.tasks(env)
    suite = SUITES.get(env.env_name)
    if suite.name not in EXPERTS:
        raise ValueError(f"--suite {env.env_name}: no scripted expert solves it; allowed: {', '.join(EXPERTS)}")
    if task_id >= len(suite.instructions):
        raise ValueError(f"--tasks: {suite.name} has no task {task_id}; allowed: 0 to {len(suite.instructions) - 1}")
    check_rendering(env)
    return suite.instructions[task_id]


def describe(env: EnvConfig) -> dict[str, Any]:
    """Suite, and size and angle of the pictures."""
    names = {"env": env.env_type, "suite": env.env_name, "image_size": env.image_size}
    return names if env.camera_fov is None else {**names, "camera_fov": env.camera_fov}


class ManiSkillDemonstrator:
    """The suite's expert in a simulator; a retry is disturbed otherwise."""

    def __init__(self, env: EnvConfig, task_id: int) -> None:
        self._simulator = Simulator(SUITES.get(env.env_name), env)
        self._task_id = task_id

    def episode(self, settings: Settings, trial_id: int, noise: float, attempt: int) -> Recording:
        """See `siirl.envs.demonstrations.Demonstrator`."""
        simulator, task_id = self._simulator, self._task_id
        simulator.reset(0, task_id, trial_id)
        recording = Recording()
        actor = EXPERTS[simulator.suite.name](simulator.env).actions()
        rng = generator(settings.seed, task_id, trial_id, noise, attempt)
        if settings.policy is not None:
            actor = policy_actions(settings.policy, self._observe, rng)
        longest = settings.env.max_steps or simulator.suite.max_steps * (PUSHED_LONGER if settings.pushes else 1)
        for wanted, disturbed in islice(disturb(actor, noise, rng, settings.pushes, SPEED), longest):
            recording.look(self._observe())
            recording.actions.append(wanted)
            recording.executed.append(to_maniskill(disturbed))
            recording.success = bool(simulator.step(recording.executed[-1][None])[1][0])
            if recording.success:
                break
        if settings.rollouts:
            recording.look(self._observe())
        return recording

    def _observe(self) -> EnvObs:
        simulator = self._simulator
        return EnvObs(simulator.render()[0], simulator.states(), [simulator.suite.instructions[self._task_id]])

    def close(self) -> None:
        """Free the simulator."""
        self._simulator.close()


EXPERTISE = Expertise(
    ManiSkillDemonstrator,
    check,
    describe,
    "PickCube-v1",
    noises=(0.1, 0.05, 0.0),  # half of LIBERO's: an action of 1 is twice as far
    fps=20,
    state_dim=STATE_DIM,
    action_dim=ACTION_DIM,
)
