"""The autoregressive policy, tiny: what it decides token by token, one forward of the same weights must confirm."""

import pytest
import torch

from siirl.policies.base import POLICIES, Sampling
from siirl.policies.openvla import OpenVLA
from siirl.policies.prismatic.causal import PrismaticCausal
from siirl.policies.prismatic.sampling import draw
from tests.policies.observations import observe
from tests.policies.tiny import tiny_openvla


def test_registered_under_its_name() -> None:
    assert POLICIES.get("openvla") is OpenVLA
    assert (tiny_openvla().chunk_len, tiny_openvla().action_dim) == (1, 7)


def test_every_token_is_drawn_from_its_tempered_distribution_given_those_before() -> None:
    policy = tiny_openvla()
    inputs = policy.prepare(observe(3))
    chunk = policy.act(inputs, Sampling(True, 0.7, [1, 2, 3]))
    assert 0 <= chunk.sampled.min() <= chunk.sampled.max() < 256
    ids = chunk.sampled + policy.model.first_action_id
    logits = policy.action_logits(inputs["input_ids"], inputs["attention_mask"], inputs["images"], ids)
    reference = torch.distributions.Categorical(logits=logits / 0.7)
    assert torch.equal(draw(reference.logits, [1, 2, 3]), chunk.sampled.long())
    result = policy.evaluate(inputs, chunk.sampled, 0.7)
    torch.testing.assert_close(result.log_probs, reference.log_prob(chunk.sampled))
    torch.testing.assert_close(result.entropy, reference.entropy())
    assert chunk.actions.shape == (3, 1, 7)
    assert torch.equal(chunk.actions, policy.decode(chunk.sampled.long()))


def test_a_token_changes_what_comes_after_it_and_nothing_before() -> None:
    policy = tiny_openvla()
    inputs = policy.prepare(observe(2))
    args = inputs["input_ids"], inputs["attention_mask"], inputs["images"]
    tokens = torch.full((2, 7), 70)
    changed = tokens.clone()
    changed[0, 3] = 90  # the row whose prompt is not padded
    changed[1, 3] = 90
    before, after = policy.action_logits(*args, tokens), policy.action_logits(*args, changed)
    assert torch.equal(before[:, :4], after[:, :4])
    assert ((before[:, 4:] - after[:, 4:]).abs().amax(dim=(1, 2)) > 1e-3).all()


def test_images_and_prompt_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    transform = PrismaticCausal.transform

    def noting(self: PrismaticCausal, hidden: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        lengths.append(hidden.shape[1])
        return transform(self, hidden, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(PrismaticCausal, "transform", noting)
    policy = tiny_openvla()
    inputs = policy.prepare(observe(2))
    policy.act(inputs, Sampling(True, 1.0, [1, 2]))
    assert lengths == [4 + inputs["input_ids"].shape[1], 1, 1, 1, 1, 1, 1]


def test_greedy_takes_the_likeliest_id_of_the_whole_vocabulary_and_goes_on_from_it() -> None:
    policy = tiny_openvla()
    inputs = policy.prepare(observe(4))
    chunk = policy.act(inputs, Sampling(False, 1.0, [0] * 4))
    first = policy.model.first_action_id
    ids = chunk.sampled.long() + first
    outside = (ids < first) | (ids >= policy.model.vocab_size)
    assert outside.any()
    assert not outside.all()
    state = policy.model.generate(
        inputs["input_ids"], inputs["attention_mask"], inputs["images"], lambda logits, step: ids[:, step]
    )[1]
    forced = policy.action_logits(inputs["input_ids"], inputs["attention_mask"], inputs["images"], ids)
    torch.testing.assert_close(state, forced, rtol=1e-4, atol=1e-4)
    assert torch.equal(forced.argmax(-1)[~outside], chunk.sampled.long()[~outside])
    assert torch.equal(chunk.actions, policy.decode(chunk.sampled.long().clamp(0, 255)))
