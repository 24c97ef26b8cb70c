"""Which episode a slot gets: of the task that it holds, else where most is left per slot; the longest first; each once."""

import pickle
import time
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from siirl.data.trajectory import EpisodeSpec
from siirl.roles.queue import EpisodeQueue, Task, task_of
from tests.roles.scripted import spec


def names(specs: list[EpisodeSpec | None]) -> list[int | None]:
    return [s.trial_id if s else None for s in specs]


def test_a_slot_prefers_the_task_that_it_holds() -> None:
    queue = EpisodeQueue([spec(0, task=0), spec(1, task=1), spec(2, task=0)])
    taken = [queue.take("a", ("suite", 0)) for _ in range(3)]
    assert names([*taken, queue.take("a", None)]) == [0, 2, 1, None]


def test_the_longest_expected_comes_first_and_equals_keep_their_order() -> None:
    specs = [spec(0, max_steps=20), spec(1, max_steps=40), spec(2, max_steps=20), spec(3, max_steps=40)]
    queue = EpisodeQueue(specs)
    assert names([queue.take("a", None) for _ in specs]) == [1, 3, 0, 2]


def test_what_is_known_of_a_task_counts_before_max_steps() -> None:
    specs = [spec(0), spec(1), spec(2), spec(3, task=1, max_steps=64)]
    assert names([EpisodeQueue(specs).take("a", None)]) == [0], "3 × 40 steps of task 0 are more than 64 of task 1"
    assert names([EpisodeQueue(specs, {("suite", 0): 20.0}).take("a", None)]) == [3], "60 are expected"


def test_a_slot_that_must_switch_goes_where_most_waits_per_slot() -> None:
    specs = [spec(i, task=0) for i in range(6)] + [spec(10 + i, task=1) for i in range(3)] + [spec(20, task=2)]
    queue = EpisodeQueue(specs)
    tasks: list[Task] = []
    for slot in "abcdef":  # one slot for each task, then 5 : 2 waiting of tasks 0 and 1, then 4/2 : 2, then 3/3 : 2
        taken = queue.take(slot, None)
        assert taken is not None
        tasks.append(task_of(taken))
    assert [task for _, task in tasks] == [0, 1, 2, 0, 0, 1]


def test_a_slot_that_left_a_task_is_no_help_to_it() -> None:
    queue = EpisodeQueue([spec(i, task=i % 2) for i in range(8)])
    assert names([queue.take("a", None), queue.take("b", None)]) == [0, 1]
    assert names([queue.take("b", None)]) == [3], "its simulator died; nobody holds task 1"


def test_what_was_put_back_comes_next() -> None:
    queue = EpisodeQueue([spec(i) for i in range(3)])
    first = queue.take("a", None)
    assert first is not None
    queue.put_back(first)
    assert len(queue) == 3
    assert names([queue.take("b", ("suite", 5))]) == [0]


def test_clearing_tells_how_many_were_never_run() -> None:
    queue = EpisodeQueue([spec(i, task=i % 2) for i in range(5)])
    queue.take("a", None)
    assert queue.clear() == 4
    assert queue.take("a", ("suite", 0)) is None
    assert len(queue) == 0


@given(
    episodes=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 50)), max_size=40),
    slots=st.integers(1, 8),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_every_episode_is_taken_once_and_no_slot_switches_without_need(
    episodes: list[tuple[int, int]], slots: int, data: st.DataObject
) -> None:
    specs = [spec(i, task=task, max_steps=steps) for i, (task, steps) in enumerate(episodes)]
    queue, held = EpisodeQueue(specs), dict[int, Task]()
    left = set(specs)
    while left:
        slot = data.draw(st.integers(0, slots - 1))
        taken = queue.take(str(slot), held.get(slot))
        assert taken in left
        alike = [s for s in left if task_of(s) == task_of(taken)]
        assert taken.max_steps == max(s.max_steps for s in alike)
        left.remove(taken)
        if slot in held and task_of(taken) != held[slot]:
            assert not any(task_of(s) == held[slot] for s in left)
        held[slot] = task_of(taken)
    assert queue.take("0", held.get(0)) is None


def test_a_queue_travels_to_another_process() -> None:
    specs = [spec(i) for i in range(3)]
    queue = pickle.loads(pickle.dumps(EpisodeQueue(specs)))  # noqa: S301  (our own)
    assert [queue.take("a", None) for _ in range(4)] == [*specs, None]


def test_a_take_does_not_cost_more_when_more_wait() -> None:
    def seconds(count: int) -> float:
        queue = EpisodeQueue([spec(i, task=i % 40) for i in range(count)])
        began = time.perf_counter()
        for slot in range(1024):
            queue.take(str(slot), None)
        return time.perf_counter() - began

    assert min(seconds(50_000) for _ in range(3)) < 10 * min(seconds(2_000) for _ in range(3))


def test_a_slot_gets_episodes_of_its_own_environment_alone() -> None:
    specs = [replace(spec(i), env="val_env" if i % 2 else "env") for i in range(6)]
    queue = EpisodeQueue(specs)
    first = queue.take("a", None, "val_env")
    assert names([first, queue.take("b", None), queue.take("b", ("suite", 0), "env")]) == [1, 0, 2]
    assert first is not None
    queue.put_back(first)
    assert names([queue.take("b", ("suite", 0)), queue.take("b", ("suite", 0))]) == [4, None]
    assert names([queue.take("c", None, "val_env") for _ in range(4)]) == [1, 3, 5, None]
