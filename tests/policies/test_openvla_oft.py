"""Preparing, sampling and evaluating with a tiny policy."""

import pytest
import torch

from siirl.policies.base import POLICIES, Sampling, ValueHeadSettings
from siirl.policies.openvla_oft import OpenVLAOFT
from siirl.policies.prismatic.prompt import TEMPLATE
from siirl.policies.prismatic.sampling import draw
from siirl.policies.value_head import add_value_head
from tests.policies.observations import observe
from tests.policies.tiny import INSTRUCTIONS, tiny_checkpoint, tiny_policy, train_value_head


def test_registered_under_its_name() -> None:
    assert POLICIES.get("openvla-oft") is OpenVLAOFT
    assert "openvla-oft" in POLICIES.names()


def test_prepare_gives_padded_prompts_and_uint8_images() -> None:
    policy = tiny_policy()
    inputs = policy.prepare(observe(3))
    lengths = [policy.prompt_length(task) for task in observe(3).task_descriptions]
    assert inputs["images"].shape == (3, 1, 32, 32, 3)
    assert inputs["images"].dtype == torch.uint8
    assert inputs["input_ids"].shape == (3, max(lengths))
    assert inputs["attention_mask"].sum(dim=1).tolist() == lengths
    assert inputs["proprio"].abs().max() <= 1
    for ids, length in zip(inputs["input_ids"].tolist(), lengths, strict=True):
        assert ids[0] == 1
        assert ids[length - 1] == 4  # the config's prompt_suffix_token_id
        assert set(ids[length:]) <= {0}


def test_prompt_is_the_published_one() -> None:
    assert TEMPLATE.format(instruction="x") == "In: What action should the robot take to x?\nOut:"
    tokenizer = tiny_checkpoint().tokenizer
    assert tokenizer is not None
    expected = tokenizer.encode(TEMPLATE.format(instruction=INSTRUCTIONS[1])).ids
    assert tiny_policy().prompts.tokens(INSTRUCTIONS[1].upper()) == [*expected, 4]


def test_two_views_need_wrist_images() -> None:
    policy = tiny_policy(num_images=2)
    inputs = policy.prepare(observe(2, wrist=True))
    assert inputs["images"].shape[1] == 2
    assert policy.bin_logits(inputs).shape == (2, 56, 256)
    with pytest.raises(ValueError, match="num_images_in_input=1"):
        policy.prepare(observe(2))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("do_sample", [True, False])
def test_act_and_evaluate_are_one_forward_the_same_bit_for_bit(dtype: str, do_sample: bool) -> None:
    policy = tiny_policy(dtype=dtype)
    add_value_head(policy.model, ValueHeadSettings("first_action", 1), policy.model.hidden_size)
    train_value_head(policy)
    inputs = policy.prepare(observe(4))
    chunk = policy.act(inputs, Sampling(do_sample, 1.3, range(4)))
    evaluation = policy.evaluate(inputs, chunk.sampled, 1.3)
    assert torch.equal(evaluation.log_probs.detach(), chunk.log_probs)
    assert torch.equal(evaluation.values.detach(), chunk.values)
    assert torch.equal(policy.value(inputs), chunk.values)


def test_draws_follow_the_distribution() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2])
    drawn = draw(probabilities.log().expand(4, 20_000, 4), range(4)).flatten()
    frequencies = torch.bincount(drawn, minlength=4) / drawn.numel()
    assert frequencies[1] == 0
    torch.testing.assert_close(frequencies, probabilities, atol=0.01, rtol=0)


def test_log_probs_and_entropy_are_those_of_the_tempered_softmax() -> None:
    policy = tiny_policy()
    inputs = policy.prepare(observe(2))
    chunk = policy.act(inputs, Sampling(True, 0.7, [1, 2]))
    result = policy.evaluate(inputs, chunk.sampled, 0.7)
    reference = torch.distributions.Categorical(logits=policy.bin_logits(inputs) / 0.7)
    torch.testing.assert_close(result.log_probs, reference.log_prob(chunk.sampled))
    torch.testing.assert_close(result.entropy, reference.entropy())
    assert chunk.actions.shape == (2, policy.chunk_len, policy.action_dim)


def test_greedy_takes_the_likeliest_id_of_the_whole_vocabulary() -> None:
    policy = tiny_policy()
    inputs = policy.prepare(observe(2))
    head = policy.model.language_model.lm_head.weight
    chunk = policy.act(inputs, Sampling(False, 1.0, [0, 0]))
    with torch.no_grad():
        logits = policy.bin_logits(inputs)
        head[: policy.model.vocab_size - 256] = 0
        head[policy.model.vocab_size :] = 0
        bins_only = policy.act(inputs, Sampling(False, 1.0, [0, 0]))
        assert torch.equal(bins_only.sampled.long(), logits.argmax(-1))
        head.zero_()  # all ids tie: the first, id 0, wins, which is below every action and counts as bin 0
        assert policy.act(inputs, Sampling(False, 1.0, [0, 0])).sampled.unique().tolist() == [0]
    assert not torch.equal(chunk.sampled, bins_only.sampled)


def test_the_state_matters_where_the_checkpoint_uses_it() -> None:
    policy = tiny_policy()
    inputs = policy.prepare(observe(1))
    moved = {**inputs, "proprio": -inputs["proprio"]}
    assert not torch.allclose(policy.bin_logits(inputs), policy.bin_logits(moved))
