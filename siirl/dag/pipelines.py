"""The shipped workflow. A pipeline is a function of the config that returns a `Graph`; `dag.custom_pipeline_fn` replaces it."""

import importlib
from collections.abc import Sequence

import numpy as np

from siirl.algorithms.base import ADVANTAGES, EpisodeReturns
from siirl.algorithms.filters import accuracy_filter
from siirl.config.acting import executed_actions
from siirl.config.schema import Config
from siirl.dag.graph import Graph, Node, NodeOutput
from siirl.data.trajectory import Episode, Group
from siirl.rewards.base import REWARDS, RewardInputs


def filter_group(episodes: Sequence[Episode], config: Config) -> NodeOutput:
    """Keep a group whose accuracy lies in the band, and, on request, none of whose episodes was truncated."""
    sampling = config.algorithm.embodied_sampling
    summaries = [e.summary for e in episodes]
    if sampling.filter_truncated and any(s.truncated for s in summaries):
        return NodeOutput(keep=False, reason="truncated")
    lower, upper = sampling.accuracy_lower_bound, sampling.accuracy_upper_bound
    if sampling.filter_accuracy and not accuracy_filter([s.success for s in summaries], lower, upper):
        low = Group(list(episodes)).accuracy < lower
        return NodeOutput(keep=False, reason="accuracy_low" if low else "accuracy_high")
    return NodeOutput()


def reward_episodes(episodes: Sequence[Episode], config: Config) -> NodeOutput:
    """The reward that `algorithm.reward` names. One that looks at embeddings runs where these are. What is real and what is
    imagined of a task is told apart: its videos look different."""
    reward = REWARDS.get(config.algorithm.reward)
    tasks = [(e.summary.spec.env, e.summary.spec.suite, e.summary.spec.task_id) for e in episodes]
    numbers = {task: i for i, task in enumerate(dict.fromkeys(tasks))}
    inputs = RewardInputs(
        success=np.array([e.summary.success for e in episodes]),
        env=np.array([e.summary.reward_sum for e in episodes]),
        task=np.array([numbers[task] for task in tasks]),
        embeddings=np.stack([e.columns["embedding"] for e in episodes]) if reward.needs_embedding else None,
    )
    return NodeOutput({"reward": reward.function(inputs).tolist()})


def estimate_advantages(episodes: Sequence[Episode], config: Config) -> NodeOutput:
    """The advantages that `algorithm.adv_estimator` names, and returns where it trains values."""
    estimator = ADVANTAGES.get(config.algorithm.adv_estimator)
    embodied = config.actor_rollout_ref.embodied
    lengths = embodied.action_chunks_len, executed_actions(embodied)
    final = REWARDS.get(config.algorithm.reward).final
    found = estimator.function([episode_returns(e, *lengths, final) for e in episodes], config.algorithm)
    if config.critic.use_critic_model and found.returns is None:
        raise ValueError(
            f"algorithm.adv_estimator={config.algorithm.adv_estimator} gave no returns, which the value head learns; return "
            "them from the estimator, or set critic.use_critic_model=false"
        )
    columns: dict[str, Sequence[object]] = {"advantage": found.advantages}
    if found.returns is not None:
        columns["return"] = found.returns
    return NodeOutput(columns)


def episode_returns(episode: Episode, chunk_len: int, num_executed: int, final: bool) -> EpisodeReturns:
    """What an estimator sees of an episode, of whose chunks of ``chunk_len`` actions ``num_executed`` were executed, of the last
    one perhaps fewer. A reward of the whole episode belongs to its last action; after a ``final`` one nothing is still to come,
    and a value beyond the end would pay it twice."""
    summary, score = episode.summary, float(episode.columns["reward"])
    executed = np.full(summary.chunks, num_executed)
    executed[-1] = summary.steps - num_executed * (summary.chunks - 1)
    rewards = summary.rewards
    if rewards is None:
        rewards = np.zeros((summary.chunks, chunk_len), np.float32)
        rewards[-1, executed[-1] - 1] = score
    return EpisodeReturns(
        score, summary.spec.group_id, rewards, executed, summary.values, truncated=summary.truncated and not final
    )


def embodied(config: Config) -> Graph:
    """Rollout → filter (→ video embedding, if the reward needs it) → reward → advantage → update.

    With ``algorithm.reward=srpo`` this is SRPO, with ``sparse`` GRPO on success; with ``adv_estimator=gae``, which
    sees the values of the rollout, it is PPO.
    """
    nodes = [
        Node("rollout", "rollout", "run", per="episode"),
        Node("filter", "driver", filter_group, per="group", inputs=("rollout",)),
    ]
    embeds = REWARDS.get(config.algorithm.reward).needs_embedding
    if embeds:
        nodes.append(Node("embedding", "embedding", "embed", per="group", inputs=("filter",), column="embedding"))
    where = "embedding" if embeds else "driver"
    nodes += [
        Node("reward", where, reward_episodes, per="batch", inputs=(nodes[-1].name,)),
        Node("advantage", "driver", estimate_advantages, per="batch", inputs=("reward",)),
        Node("update", "actor", "update", per="batch", inputs=("advantage",)),
    ]
    return Graph(tuple(nodes))


def build_graph(config: Config) -> Graph:
    """The graph that the config names.

    Raises:
        ValueError: a custom function that cannot be imported or returns no `Graph`, or an unknown reward.
    """
    custom = config.dag.custom_pipeline_fn
    if custom is None:
        return embodied(config)
    module, _, name = custom.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"dag.custom_pipeline_fn={custom!r} cannot be imported ({error}); give module:function, importable from here"
        ) from error
    graph = function(config)
    if not isinstance(graph, Graph):
        kind = type(graph).__name__
        raise ValueError(f"dag.custom_pipeline_fn={custom!r} returned a {kind}; it must return a siirl.dag.graph.Graph")
    return graph
