"""The executor on make-believe workers: groups, filters, refills, and what overlaps with what."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from siirl.config.schema import Config
from siirl.dag.batch import Batch
from siirl.dag.compile import Plan, compile_plan
from siirl.dag.executor import Executor
from siirl.dag.graph import Node, NodeOutput
from siirl.dag.pipelines import build_graph
from siirl.data.manifest import Prompt
from siirl.data.sampler import PromptSampler
from siirl.data.trajectory import Episode, EpisodeSpec, EpisodeSummary, Stored
from siirl.observe.metrics import rollout_metrics
from siirl.rewards.srpo import srpo_reward
from tests.dag.fake_workers import FakeWorkers

PROMPTS = [Prompt("suite", 0, trial, "do it", "train", 24) for trial in range(50)]


@pytest.fixture
def config() -> Config:
    config = Config()
    config.data.train_batch_size = 4
    config.actor_rollout_ref.rollout.n = 2
    return config


def make(config: Config, workers: FakeWorkers) -> Executor:
    return Executor(compile_plan(build_graph(config), config), config, workers, lambda summary: None)


def collect(config: Config, workers: FakeWorkers) -> Batch:
    return make(config, workers).collect(PromptSampler(PROMPTS, shuffle=False, seed=0), 1, lambda total: None)


def trials(batch: Batch) -> list[int]:
    return [e.summary.spec.trial_id for e in batch.episodes]


def test_episodes_come_ordered_by_group_and_index(config: Config) -> None:
    batch = collect(config, FakeWorkers())
    assert [(e.summary.spec.group_id, e.summary.spec.index) for e in batch.episodes] == [
        (g, i) for g in range(4) for i in range(2)
    ]
    assert batch.metrics() == {"filter/acceptance_rate": 1.0, "filter/gen_batches": 1.0}


def test_a_group_is_embedded_before_the_last_episode_and_awaited_after_it(config: Config) -> None:
    workers = FakeWorkers()
    batch = collect(config, workers)
    last_episode = max(i for i, event in enumerate(workers.events) if event.startswith("episode"))
    submitted = [i for i, event in enumerate(workers.events) if event.startswith("submit")]
    awaited = [i for i, event in enumerate(workers.events) if event.startswith("wait")]
    assert len(submitted) == len(awaited) == 4
    assert sum(i < last_episode for i in submitted) == 3, "only the last group to end waits for the last episode"
    assert min(awaited) > last_episode
    for episode in batch.episodes:
        assert episode.columns["embedding"] == Stored(episode.trajectory), "the driver has a handle alone"


def test_an_embedding_that_is_ready_is_taken_while_the_rollout_goes_on(config: Config) -> None:
    """So that later group nodes follow at once, and an error ends the run early."""
    workers = FakeWorkers(quick=True)
    batch = collect(config, workers)
    last_episode = max(i for i, event in enumerate(workers.events) if event.startswith("episode"))
    taken = [i for i, event in enumerate(workers.events) if event.startswith("wait")]
    assert sum(i < last_episode for i in taken) == 3, "all but the group that ends last"
    assert trials(batch) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_an_episode_with_a_nan_embedding_leaves_its_group_and_is_counted(config: Config) -> None:
    config.actor_rollout_ref.rollout.n = 3
    batch = collect(config, FakeWorkers(nan={(0, 1), (2, 0), (2, 2)}))
    assert trials(batch) == [0, 0, 1, 1, 1, 3, 3, 3]
    assert [e.summary.spec.index for e in batch.episodes][:2] == [0, 2]
    assert all(isinstance(e.columns["embedding"], Stored) for e in batch.episodes)
    assert batch.dropped == {"too_few_episodes": 1}
    metrics = rollout_metrics(batch.summaries)
    assert metrics["env/dropped"] == metrics["env/dropped/nan_embedding"] == 3


def test_filtered_groups_are_counted_and_never_embedded(config: Config) -> None:
    workers = FakeWorkers({0: (True, True), 2: (False, False)})
    batch = collect(config, workers)
    assert trials(batch) == [1, 1, 3, 3]
    assert sorted(event for event in workers.events if event.startswith("submit")) == ["submit 1.0", "submit 3.0"]
    assert batch.metrics() == {
        "filter/acceptance_rate": 0.5,
        "filter/gen_batches": 1.0,
        "filter/dropped_accuracy_high": 1.0,
        "filter/dropped_accuracy_low": 1.0,
    }
    assert len(batch.summaries) == 8, "dropped episodes stay in the metrics"


def test_a_refill_goes_on_with_new_prompts_and_new_group_numbers(config: Config) -> None:
    config.algorithm.filter_groups.max_num_gen_batches = 3
    workers = FakeWorkers(dict.fromkeys((0, 1, 2, 5), (True, True)))
    batch = collect(config, workers)
    assert batch.gen_batches == 2
    assert trials(batch) == [3, 3, 4, 4, 6, 6, 7, 7]
    assert [e.summary.spec.group_id for e in batch.episodes] == trials(batch)


def test_refilling_ends_at_its_limit_and_an_empty_step_is_empty(config: Config) -> None:
    config.algorithm.filter_groups.max_num_gen_batches = 3
    batch = collect(config, FakeWorkers(dict.fromkeys(range(50), (False, False))))
    assert batch.gen_batches == 3
    assert batch.groups == 12
    assert batch.episodes == []
    assert batch.rewards is None
    assert batch.metrics()["filter/acceptance_rate"] == 0


def test_a_deterministic_run_cuts_the_surplus_in_prompt_order(config: Config) -> None:
    config.algorithm.embodied_sampling.oversample_factor = 1.5
    config.trainer.deterministic = True
    workers = FakeWorkers({1: (True, True)})
    batch = collect(config, workers)
    assert batch.groups == 6
    assert trials(batch) == [0, 0, 2, 2, 3, 3, 4, 4]
    assert batch.surplus == 2
    assert workers.cancelled == 0


def test_what_is_more_than_needed_is_cancelled_and_counted(config: Config) -> None:
    config.algorithm.embodied_sampling.oversample_factor = 2
    workers = FakeWorkers({1: (True, True)})
    batch = collect(config, workers)
    assert workers.cancelled == 1
    assert trials(batch) == [0, 0, 2, 2, 3, 3, 4, 4], "the first four groups of the band to be complete"
    assert len(batch.summaries) + len(batch.cancelled) < 16, "what waited was not run"
    metrics = batch.metrics()
    assert metrics["rollout/cancelled_episodes"] == 1
    assert metrics["rollout/cancelled_steps"] == 8
    assert metrics["rollout/surplus_episodes"] == 3, "of the three groups that the cancel left incomplete"
    assert metrics["filter/acceptance_rate"] == 4 / 5
    assert all(s.drop_reason is None for s in batch.summaries)


def test_groups_that_a_later_filter_may_drop_are_not_counted_on(config: Config) -> None:
    config.algorithm.embodied_sampling.oversample_factor = 2

    def late(episodes: Sequence[Episode], config: Config) -> NodeOutput:
        return NodeOutput(keep=episodes[0].summary.spec.trial_id % 2 == 0, reason="late")

    workers = FakeWorkers()
    executor = make(config, workers)
    executor.plan = with_node(executor, Node("late", "driver", late, per="group", inputs=("embedding",)))
    batch = executor.collect(PromptSampler(PROMPTS, shuffle=False, seed=0), 1, lambda total: None)
    assert trials(batch) == [0, 0, 2, 2, 4, 4, 6, 6]
    assert workers.cancelled == 0


def far(episodes: Sequence[Episode], config: Config) -> NodeOutput:
    """Drops the groups of odd trials, by their embeddings."""
    found = np.stack([e.columns["embedding"] for e in episodes])
    return NodeOutput({"far": found[:, 0].tolist()}, keep=int(found[0, 0]) % 2 == 0, reason="odd")


@pytest.mark.parametrize("quick", [True, False], ids=["at once", "later"])
def test_a_function_of_embeddings_filters_groups_where_these_are(config: Config, quick: bool) -> None:
    config.algorithm.embodied_sampling.oversample_factor = 2
    workers = FakeWorkers(quick=quick)
    executor = make(config, workers)
    executor.plan = with_node(executor, Node("far", "embedding", far, per="group", inputs=("embedding",)))
    batch = executor.collect(PromptSampler(PROMPTS, shuffle=False, seed=0), 1, lambda total: None)
    assert trials(batch) == [0, 0, 2, 2, 4, 4, 6, 6]
    assert [e.columns["far"] for e in batch.episodes][:4] == pytest.approx([0, 0.1, 2, 2.1])
    assert batch.dropped == {"odd": 4}
    assert quick or workers.cancelled == 0, "which groups pass is known at the end"


def test_a_function_of_embeddings_on_the_driver_is_told_where_it_belongs(config: Config) -> None:
    executor = make(config, FakeWorkers())
    executor.plan = with_node(executor, Node("far", "driver", far, per="group", inputs=("embedding",)))
    with pytest.raises(ValueError, match="role='embedding', not 'driver'"):
        executor.collect(PromptSampler(PROMPTS, shuffle=False, seed=0), 1, lambda total: None)


def with_node(executor: Executor, node: Node) -> Plan:
    return replace(executor.plan, nodes=(*executor.plan.nodes, node))


def test_nothing_is_cancelled_when_the_last_group_is_the_last_needed(config: Config) -> None:
    workers = FakeWorkers()
    metrics = collect(config, workers).metrics()
    assert workers.cancelled == 0
    assert "rollout/cancelled_episodes" not in metrics


def test_groups_that_acted_with_too_old_weights_are_refused_and_counted(config: Config) -> None:
    config.trainer.max_staleness = 1
    batch = collect(config, FakeWorkers(old={1}))
    assert trials(batch) == [0, 0, 2, 2, 3, 3]
    assert batch.metrics()["filter/dropped_stale"] == 1
    config.trainer.max_staleness = 2
    assert len(trials(collect(config, FakeWorkers(old={1})))) == 8


def test_a_rollout_waits_for_weights_as_new_as_the_staleness_asks(config: Config) -> None:
    for staleness, after in ((0, 4), (1, 3), (3, 1)):
        config.trainer.max_staleness = staleness
        workers = FakeWorkers()
        make(config, workers).collect(PromptSampler(PROMPTS, shuffle=False, seed=0), 5, lambda total: None)
        assert workers.after == [after]


def test_how_long_a_task_takes_is_learned(config: Config) -> None:
    workers = FakeWorkers()
    executor = make(config, workers)
    sampler = PromptSampler(PROMPTS, shuffle=False, seed=0)
    for step in (1, 2):
        executor.collect(sampler, step, lambda total: None)
    assert workers.expected == [{}, {("suite", 0): 24}]


def test_a_batch_says_where_the_sampler_stood(config: Config) -> None:
    sampler = PromptSampler(PROMPTS, shuffle=False, seed=0)
    executor = make(config, FakeWorkers())
    first = executor.collect(sampler, 1, lambda total: None)
    executor.collect(sampler, 2, lambda total: None)
    assert first.sampler["position"] == 4
    assert sampler.position == 8


def test_a_dropped_episode_leaves_its_group_and_a_group_of_less_than_two_is_dropped(config: Config) -> None:
    config.actor_rollout_ref.rollout.n = 3
    config.algorithm.embodied_sampling.filter_accuracy = False
    workers = FakeWorkers(dropped={(0, 0), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)})
    batch = collect(config, workers)
    assert trials(batch) == [0, 0, 3, 3, 3]
    assert [e.summary.spec.index for e in batch.episodes][:2] == [1, 2]
    assert batch.dropped == {"too_few_episodes": 2}


def test_groups_of_one_train_when_they_are_meant_to(config: Config) -> None:
    config.actor_rollout_ref.rollout.n = 1
    config.algorithm.embodied_sampling.filter_accuracy = False
    batch = collect(config, FakeWorkers(dropped={(2, 0)}))
    assert trials(batch) == [0, 1, 3]
    assert batch.dropped == {"too_few_episodes": 1}


def test_batch_nodes_add_columns_and_the_update_gets_them(config: Config) -> None:
    config.algorithm.reward = "sparse"
    workers = FakeWorkers()
    executor = make(config, workers)
    batch = executor.collect(PromptSampler(PROMPTS, shuffle=False, seed=0), 1, lambda total: None)
    metrics: dict[str, float] = {}
    for node in executor.plan.batch_nodes:
        metrics |= executor.run_batch_node(node, batch.episodes)
    assert metrics == {"actor/loss": 0.5}
    ((references, chunks, targets),) = workers.updates
    assert references == [f"{g}.{i}" for g in range(4) for i in range(2)]
    assert chunks == [3] * 8
    assert all(target.returns is None for target in targets)
    np.testing.assert_allclose([target.advantage for target in targets], [0.5**0.5, -(0.5**0.5)] * 4, rtol=1e-5)


def test_the_reward_of_embeddings_is_computed_where_they_are(config: Config) -> None:
    config.data.train_batch_size, config.actor_rollout_ref.rollout.n = 1, 6
    executor = make(config, FakeWorkers())
    batch = executor.collect(PromptSampler(PROMPTS, shuffle=False, seed=0), 1, lambda total: None)
    (node,) = [node for node in executor.plan.batch_nodes if node.name == "reward"]
    assert executor.run_batch_node(node, batch.episodes) == {}
    embeddings = np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [0.5]], np.float32)
    success = [e.summary.success for e in batch.episodes]
    assert batch.rewards == srpo_reward(embeddings, success, ["the same"] * 6).tolist()
    assert sorted(success) == [False] * 3 + [True] * 3
    assert len(set(batch.rewards)) > 2


def test_a_batch_node_that_tries_to_drop_episodes_is_refused_by_name(config: Config) -> None:
    def drop(episodes: Sequence[Episode], config: Config) -> NodeOutput:
        return NodeOutput(keep=False, reason="boring")

    node = Node("picky", "driver", drop, per="batch", inputs=("rollout",))
    with pytest.raises(ValueError, match=r"node 'picky' works per='batch' and returned keep=False \(boring\)"):
        make(config, FakeWorkers()).run_batch_node(node, [])


def test_validation_runs_every_episode_once_and_keeps_no_trajectory(config: Config) -> None:
    config.data.val_batch_size = 3
    seen: list[EpisodeSummary] = []
    executor = make(config, FakeWorkers())
    executor.on_episode = seen.append
    specs = [EpisodeSpec("suite", 0, trial, "", 24, trial, 0, 0, 0) for trial in range(8)]
    totals: list[int] = []
    summaries = executor.evaluate(specs, totals.append)
    assert sorted(s.spec.trial_id for s in summaries) == list(range(8))
    assert seen == summaries
    assert totals == [8]
