"""What holds for every policy that is trained."""

import pytest
import torch

from siirl.policies.base import Sampling
from siirl.policies.prismatic.policy import PrismaticPolicy
from tests.policies.observations import observe


@pytest.mark.parametrize("do_sample", [True, False])
def test_weights_that_are_not_finite_show_in_the_log_probs(either: PrismaticPolicy, do_sample: bool) -> None:
    with torch.no_grad():
        next(either.model.parameters()).fill_(float("nan"))
    chunk = either.act(either.prepare(observe(2)), Sampling(do_sample, 1.0, [1, 2]))
    assert chunk.log_probs.isnan().any(dim=1).all()
    assert chunk.actions.isfinite().all()


def test_gradient_reaches_every_parameter_that_is_used_also_with_checkpointing(either: PrismaticPolicy) -> None:
    inputs = either.prepare(observe(2))
    sampled = torch.zeros(2, either.chunk_len * either.action_dim, dtype=torch.int64)
    gradients = []
    for _ in range(2):
        result = either.evaluate(inputs, sampled, 1.0)
        (result.log_probs.sum() + result.entropy.sum()).backward()
        gradients.append({name: p.grad for name, p in either.model.named_parameters()})
        either.model.zero_grad(set_to_none=True)
        either.model.enable_gradient_checkpointing()
    plain, checkpointed = gradients
    without = {name for name, gradient in plain.items() if gradient is None}
    assert without == {n for n in plain if ".featurizer.blocks.2." in n or ".featurizer.norm." in n}
    for name in plain.keys() - without:
        torch.testing.assert_close(plain[name], checkpointed[name])
