"""One LIBERO task in MuJoCo: quick resets, physics without rendering, a picture only when somebody looks.

The stock environment rebuilds the model at every reset (2 s) and renders every camera at every step (10 times the cost of the
physics). Here the model is built once per task, and resetting restores its data, which is bit-identical.
"""

import atexit
import contextlib
import gc
import io
import logging
from typing import Any
from xml.etree import ElementTree

import numpy as np

from siirl.envs.libero.assets import use_small_textures
from siirl.envs.libero.package import import_libero, prepare_rendering
from siirl.envs.libero.suites import LiberoTask, load_init_states

log = logging.getLogger(__name__)

MAIN_CAMERA = "agentview"
WRIST_CAMERA = "robot0_eye_in_hand"
STAY_STILL = np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32)
"""No motion, gripper open: what the arm does while objects settle."""
MAX_DRAWS = 100
"""Random placements of the objects that are tried at a reset; each is quick, and almost always the first one fits."""


class Simulator:
    """A simulator of one task. Only one may be alive in a process: see `close`.

    Args:
        task: the task; its model is built here (2 to 8 s).
        image_size: side of the rendered images, pixels.
        antialiasing: 4× multisampling.
        max_texture_size: largest side of a texture, pixels; None leaves them as published.
        settle_steps: steps with a still arm after each reset.

    Attributes:
        domain: robosuite's environment, for privileged reading of the scene.
        steps: control steps simulated since it was built, settling included.

    Raises:
        ValueError: LIBERO is not installed properly, or this machine cannot render.
    """

    def __init__(
        self,
        task: LiberoTask,
        image_size: int,
        antialiasing: bool = True,
        max_texture_size: int | None = None,
        settle_steps: int = 10,
    ) -> None:
        self.task = task
        self.image_size = image_size
        self.settle_steps = settle_steps
        self.steps = 0
        self.init_states = load_init_states(task)
        with contextlib.redirect_stdout(io.StringIO()):
            self.domain = _build_domain(task, antialiasing, max_texture_size)
        # Observables would be computed at every physics step; `state` reads what is needed.
        for name in self.domain.observation_names:
            self.domain.modify_observable(name, "enabled", False)
            self.domain.modify_observable(name, "active", False)
        atexit.register(self.close)  # runs before EGL's own exit handler, which was registered while building

    def reset(self, trial_id: int, seed: int) -> None:
        """Put the scene into the trial's initial state and let it settle.

        Furniture is no part of the recorded state: its position jitters by 2 cm, drawn from NumPy's global generator, which is
        seeded here. Equal trial, seed and actions give bit-equal states and images.

        Raises:
            ValueError: the task has no such trial.
            RuntimeError: the task's objects cannot be placed.
        """
        if not 0 <= trial_id < len(self.init_states):
            raise ValueError(
                f"{self.task.suite} task {self.task.task_id} has no trial {trial_id}; allowed: 0 to {len(self.init_states) - 1}"
            )
        self.domain.seed(seed)
        self._place_at_random()
        gripper = self.domain.robots[0].gripper
        gripper.current_action = np.zeros(gripper.dof)  # survives robosuite's own reset
        self.domain.sim.set_state_from_flattened(self.init_states[trial_id])
        self.domain.sim.forward()
        self.domain._post_process()
        for _ in range(self.settle_steps):
            self.step(STAY_STILL)

    def _place_at_random(self) -> None:
        """Robosuite's own reset. The initial state then moves the objects; furniture stays where it was drawn."""
        from robosuite.utils.errors import RandomizationError

        for _ in range(MAX_DRAWS):
            with contextlib.suppress(RandomizationError):  # the objects did not fit; LIBERO draws again, too
                self.domain.reset()
                return
        task = f"{self.task.suite} task {self.task.task_id}"
        raise RuntimeError(f"the objects of {task} fitted into the scene in none of {MAX_DRAWS} random placements")

    def step(self, action: np.ndarray) -> bool:
        """Simulate 50 ms under an action float [7] in LIBERO's convention (gripper −1 opens, +1 closes). Returns success,
        which nothing is that happens after the physics `diverged`."""
        self.steps += 1
        exact = np.asarray(action, dtype=np.float32).astype(np.float64)
        success = bool(self.domain.step(exact)[2])
        return success and not self.diverged

    @property
    def diverged(self) -> bool:
        """Whether MuJoCo has met a NaN, an infinity or a number beyond 1e10 since the last reset.

        It then goes on from the model's default pose, where all is finite: its counters alone tell.
        """
        import mujoco

        kind = mujoco.mjtWarning
        warnings = self.domain.sim.data._data.warning  # robosuite's wrapper hides it
        bad = (kind.mjWARN_BADQPOS, kind.mjWARN_BADQVEL, kind.mjWARN_BADQACC, kind.mjWARN_BADCTRL)
        return any(warnings[int(k)].number > 0 for k in bad)

    def state(self) -> np.ndarray:
        """Proprioception float32 [8]: end-effector position (m), its axis-angle (rad), gripper joints (m).

        All NaN from the moment that the physics `diverged` until the next reset.
        """
        if self.diverged:
            return np.full(8, np.nan, np.float32)
        from robosuite.utils.transform_utils import convert_quat, quat2axisangle

        robot, data = self.domain.robots[0], self.domain.sim.data
        position = data.site_xpos[robot.eef_site_id]
        orientation = quat2axisangle(convert_quat(data.get_body_xquat(robot.robot_model.eef_name), to="xyzw"))
        fingers = data.qpos[robot._ref_gripper_joint_pos_indexes]
        return np.concatenate([position, orientation, fingers]).astype(np.float32)

    def render(self, camera: str = MAIN_CAMERA) -> np.ndarray:
        """The camera's picture, upright, uint8 [H, W, 3]. MuJoCo's is rotated by 180° in LIBERO's scenes."""
        sim = self.domain.sim
        sim._render_context_offscreen.gl_ctx.make_current()
        picture = sim.render(camera_name=camera, width=self.image_size, height=self.image_size)
        return np.ascontiguousarray(picture[::-1, ::-1])

    def close(self) -> None:
        """Free the model and its OpenGL context, before another simulator is built in this process.

        An old context that is collected after a new one was made would delete the new one's buffers: its pictures turn to
        noise without any error.
        """
        atexit.unregister(self.close)
        self.domain.sim._render_context_offscreen.gl_ctx.make_current()
        self.domain.close()
        del self.domain
        gc.collect()


def _build_domain(task: LiberoTask, antialiasing: bool, max_texture_size: int | None) -> Any:
    """Robosuite's environment of a task, set up as LIBERO's own evaluation does, but for rendering and resetting."""
    prepare_rendering()
    envs = import_libero("envs")
    bddl_utils = import_libero("envs.bddl_utils")
    import mujoco
    from robosuite import load_controller_config

    mujoco.set_mju_user_warning(log.warning)  # else MuJoCo writes MUJOCO_LOG.TXT into the working directory

    problem = envs.TASK_MAPPING[bddl_utils.get_problem_info(str(task.bddl_file))["problem_name"]]

    class Domain(problem):  # type: ignore[misc, valid-type]
        def _initialize_sim(self, xml_string: str | None = None) -> None:
            super()._initialize_sim(_adapt_model(xml_string or self.model.get_xml(), antialiasing, max_texture_size))

    Domain.__name__ = problem.__name__  # LIBERO compares it with the problem's name in the task file
    try:
        return Domain(
            bddl_file_name=str(task.bddl_file),
            robots=["Panda"],
            controller_configs=load_controller_config(default_controller="OSC_POSE"),
            gripper_types="default",
            initialization_noise=None,
            use_camera_obs=False,
            has_renderer=False,
            has_offscreen_renderer=True,
            control_freq=20,
            ignore_done=True,
            hard_reset=False,
        )
    except (ImportError, RuntimeError) as error:
        if "EGL" not in str(error):
            raise
        raise ValueError(
            f"EGL cannot render on this machine: {error}; install a driver (apt-get install libgl1-mesa-dri), "
            "check MUJOCO_EGL_DEVICE_ID, or use MUJOCO_GL=osmesa"
        ) from error


def _adapt_model(xml: str, antialiasing: bool, max_texture_size: int | None) -> str:
    """Rewrite a MuJoCo model's rendering quality."""
    model = ElementTree.fromstring(xml)
    if not antialiasing:
        visual = _child(model, "visual")
        _child(visual, "quality").set("offsamples", "0")
    if max_texture_size is not None:
        use_small_textures(model, max_texture_size)
    return ElementTree.tostring(model, encoding="unicode")


def _child(parent: ElementTree.Element, tag: str) -> ElementTree.Element:
    found = parent.find(tag)
    return ElementTree.SubElement(parent, tag) if found is None else found
