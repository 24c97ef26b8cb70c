"""The schedules that ours is compared with run the same episodes, and waste what they are said to waste."""

import pytest

from benchmarks.lock_step import LockStep
from siirl.policies.base import Sampling
from siirl.roles.queue import EpisodeQueue
from siirl.roles.rollout import Rollout
from tests.roles.scripted import CHUNK, SeededPolicy, TimedPool, spec

LENGTHS = [4, 40, 12, 8, 36, 4]
SAMPLING = Sampling(True, 1.0)


@pytest.mark.parametrize(("to_max_steps", "chunks"), [(False, 10 + 3 + 9), (True, 3 * 10)])
def test_batches_last_as_long_as_their_slowest_episode_or_max_steps(to_max_steps: bool, chunks: int) -> None:
    specs = [spec(i, length) for i, length in enumerate(LENGTHS)]
    pool = TimedPool(2, seconds=1.0)
    done = LockStep(SeededPolicy(), pool, to_max_steps).run(specs, SAMPLING)
    assert pool.now == 3 + chunks, "three resets, and one second per chunk"
    assert (pool.steps_after_end > 0) == to_max_steps

    rollout = Rollout(SeededPolicy(), TimedPool(2, seconds=1.0))
    rollout.release(0, 0)
    ours = {t.summary.spec: t for t in rollout.run(EpisodeQueue(specs), SAMPLING, after=0)}
    assert len(done) == len(ours)
    for trajectory in done:
        assert trajectory.summary.steps == trajectory.summary.spec.env_seed
        assert trajectory.tokens.tobytes() == ours[trajectory.summary.spec].tokens.tobytes()
        assert trajectory.images.tobytes() == ours[trajectory.summary.spec].images.tobytes()


def test_all_simulated_steps_count() -> None:
    pool = TimedPool(2, seconds=1.0)
    schedule = LockStep(SeededPolicy(), pool, to_max_steps=False)
    schedule.run([spec(i, length) for i, length in enumerate([CHUNK, 3 * CHUNK])], SAMPLING)
    assert schedule.steps == 4 * CHUNK
