"""What every registered env must do, whatever it simulates."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import tests.workers.toy  # noqa: F401
from siirl.config.schema import EnvConfig
from siirl.data.trajectory import EpisodeSpec
from siirl.envs.base import ENVS, Env, EnvObs, StepResult
from siirl.envs.libero.simulator import Simulator as LiberoSimulator
from siirl.envs.maniskill.simulator import Simulator as ManiSkillSimulator
from tests.envs.maniskill.conftest import require_drawing
from tests.envs.world_model.folders import opensora_config, opensora_folder
from tests.envs.world_model.small import small_world

CHUNK = 8


@dataclass(frozen=True)
class Case:
    """A registered env, in small.

    Attributes:
        config: its settings.
        simulator: the class whose methods ``step`` and ``render`` are one control step, and one look through the cameras.
        prepare: makes what the env needs in an empty folder; returns its settings.
        require: skips the test where the env cannot run.
    """

    config: EnvConfig
    simulator: type | None = None
    require: Callable[[], None] = lambda: None
    prepare: Callable[[Path], EnvConfig] | None = None


CASES = {
    "libero": Case(EnvConfig(image_size=64, antialiasing=False, max_texture_size=64), LiberoSimulator),
    "maniskill": Case(
        EnvConfig(env_type="maniskill", env_name="PickCube-v1", image_size=64), ManiSkillSimulator, require_drawing
    ),
    "opensora_wm": Case(
        EnvConfig(env_type="opensora_wm"), prepare=lambda folder: opensora_config(opensora_folder(folder))
    ),
    "small_wm": Case(EnvConfig(env_type="small_wm"), prepare=small_world),
    "toy": Case(EnvConfig(env_type="toy", env_name="toy", image_size=32)),
    "toy_pair": Case(EnvConfig(env_type="toy_pair", env_name="toy", image_size=32, num_envs=2)),
}


def test_every_registered_env_is_held_to_the_contract() -> None:
    assert set(ENVS.names()) == CASES.keys()


@pytest.fixture(scope="module", params=sorted(CASES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    found = CASES[request.param]
    found.require()
    if found.prepare is None:
        return found
    return replace(found, config=found.prepare(tmp_path_factory.mktemp(request.param)))


def test_its_base_suite_is_one_that_its_policies_learn_from(case: Case) -> None:
    factory = ENVS.get(case.config.env_type)
    base = factory.base_suite(case.config)
    assert base == case.config.env_name, "none of these perturbs another"
    assert not factory.is_other_suite(case.config, base)
    assert isinstance(factory.any_suite, bool)
    assert isinstance(factory.imagined, bool)


def test_its_own_actions_are_those_of_the_policy_in_another_convention(case: Case) -> None:
    motions = actions(2)
    native = ENVS.get(case.config.env_type).native_actions(motions)
    assert native.shape == motions.shape
    assert native.dtype == np.float32


@pytest.fixture(scope="module")
def env(case: Case, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    """One for all tests: building a simulator takes seconds. With its wrist camera, where it has one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        factory = ENVS.get(case.config.env_type)
        with closing(factory(case.config, wrist=factory.has_wrist_camera(case.config))) as env:
            yield env


@pytest.fixture
def calls(case: Case, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the simulator's control steps and looks."""
    counter: Counter[str] = Counter()
    if case.simulator is None:
        pytest.skip("nothing is simulated")
    for name in ("step", "render"):
        original = getattr(case.simulator, name)

        def counting(self: object, *args: object, name: str = name, original: object = original) -> object:
            counter[name] += 1
            return original(self, *args)  # type: ignore[operator]

        monkeypatch.setattr(case.simulator, name, counting)
    return counter


def episode(case: Case, trial: int = 3, max_steps: int = 30) -> EpisodeSpec:
    return EpisodeSpec(case.config.env_name, 0, trial, "", max_steps, group_id=0, index=0, env_seed=7, action_seed=0)


def actions(slots: int, seed: int = 0, chunks: int = 1) -> np.ndarray:
    """Small random motions, float32 [slots, chunks × CHUNK, 7]."""
    drawn = np.random.default_rng(seed).uniform(-0.3, 0.3, (slots, chunks * CHUNK, 7)).astype(np.float32)
    drawn[..., 6] = 1
    return drawn


def play(env: Env, motions: np.ndarray) -> list[StepResult]:
    """Execute chunk by chunk, in all slots, until the first of them ends."""
    results = []
    for start in range(0, motions.shape[1], CHUNK):
        results.append(env.step(list(range(env.num_slots)), motions[:, start : start + CHUNK]))
        if (results[-1].terminated | results[-1].truncated).any():
            break
    return results


def reset(env: Env, spec: EpisodeSpec) -> EnvObs:
    """The same episode in every slot."""
    return env.reset(list(range(env.num_slots)), [spec] * env.num_slots)


def assert_same(a: EnvObs, b: EnvObs) -> None:
    """Bit-equal observations."""
    for name in ("main_images", "wrist_images", "states"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def check_observation(case: Case, obs: EnvObs, slots: int, wrist: bool) -> None:
    """Shapes and types."""
    size = case.config.image_size
    assert obs.main_images.shape == (slots, size, size, 3)
    assert obs.main_images.dtype == np.uint8
    assert obs.states.shape == (slots, 8)
    assert obs.states.dtype == np.float32
    assert np.isfinite(obs.states).all()
    assert len(obs) == slots
    if wrist:
        assert obs.wrist_images is not None
        assert obs.wrist_images.shape == (slots, size, size, 3)
        assert obs.wrist_images.dtype == np.uint8
    else:
        assert obs.wrist_images is None


def test_tasks_are_listed_and_sized(case: Case) -> None:
    factory, config = ENVS.get(case.config.env_type), replace(case.config, task_ids=[0])
    (task,) = factory.tasks(config)
    assert (task.suite, task.task_id) == (case.config.env_name, 0)
    assert task.instruction
    assert task.num_trials >= 1
    assert factory.default_max_steps(config) >= 1
    assert factory.max_slots_per_process(config) >= 1
    assert not factory.is_other_suite(config, config.env_name)
    assert factory.unused_keys <= vars(config).keys()


def test_observations_have_the_contracts_shapes(case: Case, env: Env) -> None:
    factory = ENVS.get(case.config.env_type)
    assert isinstance(env, Env)
    obs = reset(env, episode(case))
    check_observation(case, obs, env.num_slots, factory.has_wrist_camera(case.config))
    (task,) = factory.tasks(replace(case.config, task_ids=[0]))
    assert obs.task_descriptions == [task.instruction] * env.num_slots


def test_results_have_the_contracts_shapes(case: Case, env: Env) -> None:
    slots = env.num_slots
    reset(env, episode(case))
    result = env.step(list(range(slots)), actions(slots))
    check_observation(case, result.obs, slots, ENVS.get(case.config.env_type).has_wrist_camera(case.config))
    assert result.rewards.shape == (slots, CHUNK)
    assert result.rewards.dtype == np.float32
    for flags in (result.success, result.terminated, result.truncated):
        assert flags.shape == (slots,)
        assert flags.dtype == bool
    assert result.executed.shape == (slots,)
    assert np.issubdtype(result.executed.dtype, np.integer)


def test_equal_specs_and_actions_give_equal_bits(case: Case, env: Env) -> None:
    """Also after other episodes, which leave joints, controllers and generators in another state."""
    motions = actions(env.num_slots, chunks=3)
    first = [reset(env, episode(case)), *(r.obs for r in play(env, motions))]
    reset(env, episode(case, trial=5))
    play(env, -motions[:, : 2 * CHUNK])
    again = [reset(env, episode(case)), *(r.obs for r in play(env, motions))]
    assert len(first) == len(again)
    for a, b in zip(first, again, strict=True):
        assert_same(a, b)


def test_an_episode_ends_at_its_last_step(case: Case, env: Env) -> None:
    slots = list(range(env.num_slots))
    reset(env, episode(case, max_steps=5))
    result = env.step(slots, actions(len(slots)) * 0.1)
    assert result.executed.tolist() == [5] * len(slots)
    assert result.truncated.all()
    assert not result.terminated.any()
    assert not result.success.any()
    assert not result.rewards[:, 5:].any()
    with pytest.raises(AssertionError, match="episode has ended"):
        env.step(slots, actions(len(slots)))


def test_nothing_is_simulated_after_the_end(case: Case, env: Env, calls: Counter[str]) -> None:
    slots = list(range(env.num_slots))
    reset(env, episode(case, max_steps=5))
    calls.clear()
    env.step(slots, actions(len(slots)) * 0.1)
    assert calls["step"] == 5
    with pytest.raises(AssertionError):
        env.step(slots, actions(len(slots)))
    assert calls["step"] == 5


def test_pictures_are_taken_once_per_chunk(case: Case, env: Env, calls: Counter[str]) -> None:
    reset(env, episode(case))
    looks = calls["render"]
    results = play(env, actions(env.num_slots, chunks=2))
    assert len(results) == 2
    assert calls["render"] == 3 * looks, "as many as after the reset, for each of two chunks"


def test_a_reset_leaves_other_slots_alone(case: Case, env: Env) -> None:
    if env.num_slots == 1:
        pytest.skip("one slot; the batched env on scenes without physics: tests/envs/maniskill/test_batches.py")
    slots = list(range(env.num_slots))
    motions = actions(len(slots), chunks=2)
    reset(env, episode(case))
    expected = play(env, motions)[-1].obs
    reset(env, episode(case))
    play(env, motions[:, :CHUNK])
    env.reset([0], [episode(case, trial=5)])
    assert_same(env.step(slots, motions[:, CHUNK:]).obs.row(1), expected.row(1))
