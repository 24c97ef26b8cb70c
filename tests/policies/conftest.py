"""What tests of policies share."""

import pytest
import torch

from siirl.policies.prismatic.policy import PrismaticPolicy
from tests.policies.tiny import tiny_openvla, tiny_policy


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Bits do not depend on how many threads share a sum."""
    torch.set_num_threads(1)


@pytest.fixture(params=[tiny_policy, tiny_openvla], ids=["openvla-oft", "openvla"])
def either(request: pytest.FixtureRequest) -> PrismaticPolicy:
    """Each of the policies in turn, tiny."""
    return request.param()
