"""Whole runs on Ray with a simulator that costs nothing: resuming, the inline backend, and every kind of failing worker."""

from pathlib import Path

import pytest

from siirl.client.main_dag import main
from tests.workers.runs import (
    ENV,
    EXACT,
    INLINE,
    TOY,
    assert_same_weights,
    command_line,
    log_of,
    weights_of,
    without_times,
)

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(scope="module")
def four_steps(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four deterministic steps at once."""
    folder = tmp_path_factory.mktemp("four")
    assert main(command_line(folder, policy, TOY, EXACT, {"trainer.total_training_steps": 4})) == 0
    return folder


def test_a_resumed_run_ends_with_the_same_weights_and_metrics(four_steps: Path, policy: Path, tmp_path: Path) -> None:
    for steps in (2, 4):
        stop = {"trainer.total_training_steps": steps}
        assert main(command_line(tmp_path, policy, TOY, EXACT, stop)) == 0
    halfway, end = weights_of(tmp_path, 2), weights_of(tmp_path, 4)
    assert any(not halfway[name].equal(end[name]) for name in halfway if name.startswith("model."))
    assert_same_weights(halfway, weights_of(four_steps, 2))
    assert_same_weights(end, weights_of(four_steps, 4))
    assert without_times(log_of(tmp_path)) == without_times(log_of(four_steps))
