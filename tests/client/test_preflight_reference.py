"""The KL penalty's reference policy is looked at before anything starts."""

from pathlib import Path

import pytest

from siirl.client.preflight import preflight
from siirl.config.schema import Config
from tests.policies.tiny import tiny_openvla_folder, tiny_policy_folder


@pytest.mark.parametrize(("same", "problems"), [(True, 0), (False, 1)])
def test_a_reference_of_another_class_is_refused(tmp_path: Path, same: bool, problems: int) -> None:
    (tmp_path / "other").mkdir()
    config, folder = Config(), tiny_policy_folder(tmp_path)
    config.actor_rollout_ref.model.path = str(folder)
    config.actor_rollout_ref.actor.kl_loss_coef = 0.1
    config.actor_rollout_ref.ref.path = str(folder if same else tiny_openvla_folder(tmp_path / "other"))
    found = [line for line in preflight(config) if line.startswith("actor_rollout_ref.ref.path=")]
    assert len(found) == problems
    assert same or "openvla" in found[0]
