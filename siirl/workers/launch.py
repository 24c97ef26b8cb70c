"""Starts the workers of a plan on the backend that the config names."""

import os
import sys

from siirl.config.schema import Config
from siirl.dag.compile import Plan
from siirl.workers.base import Workers


def launch(config: Config, plan: Plan) -> Workers:
    """Start the workers.

    Raises:
        ValueError: the cluster cannot hold the plan, or a component cannot be built from what the config names.
    """
    if config.trainer.backend == "inline":
        from siirl.workers.inline import InlineWorkers

        return InlineWorkers(config, plan)
    if "ray" not in sys.modules and "RAY_ADDRESS" not in os.environ:
        # what Ray does by itself in a cluster of its own, but then with a warning; it reads this when it is imported
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from siirl.workers.ray_workers import RayWorkers  # only here, so that a machine without Ray can run inline

    return RayWorkers(config, plan)
