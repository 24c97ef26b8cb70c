"""``siirl plan``: what a run would do, where and in how much memory; the same as ``siirl train … dry_run=true``.

It needs neither the cluster nor, where the config names none, the policy.
"""

import sys
from collections.abc import Sequence

from siirl.client.preflight import preflight
from siirl.client.summary import summary
from siirl.config.estimate import memory_estimate
from siirl.config.load import parse_command_line
from siirl.config.schema import Config
from siirl.dag.compile import Plan, compile_plan
from siirl.dag.draw import draw_plan
from siirl.dag.pipelines import build_graph

ABOUT = (
    "Print what a run would do: what is trained, the workflow, what lives on which slot, memory. Nothing is started."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the plan; returns the exit code: 0, or 2 for a setting that cannot work."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        config = parse_command_line([*arguments, "dry_run=true"], preflight, command="plan", about=ABOUT)
        print(plan_text(config, compile_plan(build_graph(config), config)))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def plan_text(config: Config, plan: Plan) -> str:
    """What would be trained, the workflow as drawn from the compiled plan, slots and memory.

    Raises:
        ValueError: a file of weights is damaged, or ``trainer.resume_from_path`` is no whole checkpoint.
    """
    return "\n".join([summary(config, plan), draw_plan(plan), plan.describe(), memory_estimate(config)])


if __name__ == "__main__":
    sys.exit(main())
