"""What the driver computes of a large batch costs next to nothing."""

from benchmarks.algorithms import episodes, tasks, timed


def test_gae_grpo_and_the_filter_of_512_episodes_take_less_than_50_ms_of_a_core() -> None:
    total = tasks(512, 64)["total"]
    assert min(timed(total, 2)["cpu_ms"] for _ in range(5)) < 50


def test_the_workload_is_what_it_says() -> None:
    batch = episodes(64, 8, outputs=1)
    assert max(len(e.executed) for e in batch) == 8
    assert all(e.truncated == (not e.score) and float(e.rewards.sum()) == e.score for e in batch)
    assert all(e.rewards[-1, e.executed[-1] - 1] == e.score for e in batch)
    assert {e.group for e in batch} == set(range(8))
