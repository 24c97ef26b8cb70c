"""Starts the workers of a plan on the backend that the config names."""

from siirl.config.schema import Config
from siirl.dag.compile import Plan
from siirl.workers.base import Workers


def launch(config: Config, plan: Plan) -> Workers:
    """Start the workers.

    Raises:
        ValueError: the cluster cannot hold the plan, or the plan needs more than this version can run.
    """
    if len(plan.slots) > 1:
        raise ValueError(
            f"trainer.nnodes × trainer.n_gpus_per_node gives {len(plan.slots)} slots; this version plans any number "
            "(dry_run=true) but runs on one: set trainer.nnodes=1 and trainer.n_gpus_per_node=1 (or 0 for the CPU)"
        )
    if config.trainer.backend == "inline":
        from siirl.workers.inline import InlineWorkers

        return InlineWorkers(config, plan)
    from siirl.workers.ray_workers import RayWorkers  # only here, so that a machine without Ray can run inline

    return RayWorkers(config, plan)
