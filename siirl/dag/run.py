"""The training loop. It reads as the algorithm: roll out, reward, estimate advantages, update, sync, validate, save."""

from contextlib import closing
from dataclasses import dataclass

from siirl.config.schema import Config
from siirl.dag.ahead import Ahead
from siirl.dag.executor import Executor
from siirl.dag.session import Session
from siirl.observe.metrics import rollout_metrics


@dataclass(frozen=True)
class Outcome:
    """How a run went.

    Attributes:
        first_step, last_step: the step it started after and the step it ended at.
        success_before, success_after: success of the first and of the last validation; None where there was no such one.
    """

    first_step: int
    last_step: int
    success_before: float | None
    success_after: float | None


def train(config: Config, session: Session, executor: Executor) -> Outcome:
    """Train until ``session.total_steps``, from the step that the session resumed at; with ``val_only`` these are 0."""
    first = session.step
    if config.trainer.val_only or (config.trainer.val_before_train and first == 0):
        with session.stage("validation"):
            session.log(validate(session, executor))
    with closing(Ahead(config, executor, session.sampler, session.progress.episodes)) as ahead:
        while session.step < session.total_steps:
            session.begin_step()
            metrics: dict[str, float] = {}

            with session.stage("rollout"):
                batch = ahead.batch(session.step)
                metrics |= batch.metrics()
            ahead.start_after(session.step, last=session.next_due(config.trainer.test_freq))

            for node in executor.plan.batch_nodes if batch.episodes else ():
                with session.stage(node.name):
                    metrics |= executor.run_batch_node(node, batch.episodes)
            metrics |= rollout_metrics(batch.summaries, batch.rewards)
            session.log_episodes(batch.rows(session.step))
            session.count_skipped(not batch.episodes)
            with session.stage("weight_sync"):
                metrics |= executor.workers.sync(session.step)

            if session.due(config.trainer.test_freq):
                with session.stage("validation"):
                    metrics |= validate(session, executor)
            if session.due(config.trainer.save_freq):
                with session.stage("checkpoint"):
                    metrics |= session.save(metrics, batch.sampler)
            session.end_step(metrics)
            del batch  # its trajectories make room for those of the next step
    return Outcome(first, session.step, session.success_before, session.success_after)


def validate(session: Session, executor: Executor) -> dict[str, float]:
    """Success per task on the validation prompts."""
    summaries = executor.evaluate(session.validation_specs(), session.progress.episodes, session.step)
    return session.validation_metrics(summaries)
