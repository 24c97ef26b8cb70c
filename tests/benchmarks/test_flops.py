"""The counted operations are those that the networks do, and the plain forwards compute the same as ours."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops import forward_flops, video_flops
from benchmarks.plain import PlainOFT, PlainOpenVLA, plain_clip
from benchmarks.published import random_policy, random_video_encoder, scaled
from siirl.embeddings.vjepa2 import VJEPA2
from siirl.envs.base import EnvObs
from siirl.policies.base import Sampling
from tests.policies.observations import observe
from tests.policies.tiny import INSTRUCTIONS, tiny_openvla, tiny_policy

CPU = torch.device("cpu")
VIDEO = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 4}
SMALL = scaled(96, 160, 3, 4, timm_model_ids=["vit_tiny_patch16_224", "vit_tiny_patch16_224"])


def alike(rows: int) -> EnvObs:
    """Random images under one instruction, so that nothing is padded."""
    images = np.random.default_rng(0).integers(0, 256, (rows, 48, 48, 3), dtype=np.uint8)
    return EnvObs(images, np.zeros((rows, 8), np.float32), [INSTRUCTIONS[0]] * rows)


def counted(run: Callable[[], Any]) -> int:
    """What PyTorch's counter sees; it does not know the CPU's fused attention."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("views", [1, 2])
def test_openvla_oft(views: int) -> None:
    policy = tiny_policy(num_images=views)
    inputs = policy.prepare(observe(1, wrist=views == 2))
    expected = forward_flops(policy.model, inputs["input_ids"].shape[1], views)
    assert counted(lambda: policy.bin_logits(inputs)) == expected


def test_two_towers_and_a_batch() -> None:
    policy = random_policy(SMALL, "openvla-oft", "fp32", CPU)
    inputs = policy.prepare(alike(3))
    expected = 3 * forward_flops(policy.model, inputs["input_ids"].shape[1])
    assert counted(lambda: policy.evaluate(inputs, torch.zeros(3, 56), 1.0)) == expected


def test_openvla_decoding_and_its_update() -> None:
    policy = tiny_openvla()
    inputs = policy.prepare(observe(1))
    prompt, vocabulary = inputs["input_ids"].shape[1], policy.model.language_model.config.vocab_size
    acting = forward_flops(policy.model, prompt, head_rows=vocabulary)
    assert counted(lambda: policy.act(inputs, Sampling(True, 1.0, [0]))) == acting
    ids = torch.zeros(1, 7, dtype=torch.int32)
    training = forward_flops(policy.model, prompt)
    assert counted(lambda: policy.evaluate(inputs, ids, 1.0)) == pytest.approx(
        training, rel=0.05
    )  # its square is whole


def test_vjepa2() -> None:
    encoder = random_video_encoder(32, 4, CPU, VIDEO)
    video = VJEPA2(encoder, 32, 4, CPU, half=False, offload=False)
    frames = torch.randint(0, 256, (1, 4, 32, 32, 3), dtype=torch.uint8)
    assert counted(lambda: video.encode(frames)) == video_flops(encoder)
    torch.testing.assert_close(
        video.encode(frames)[0], plain_clip(encoder, frames[0], torch.float32), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("config", ["tiny", "two towers"])
def test_the_plain_forward_is_the_same_function(config: str) -> None:
    policy = tiny_policy() if config == "tiny" else random_policy(SMALL, "openvla-oft", "fp32", CPU)
    inputs = policy.prepare(alike(2))
    with torch.no_grad():
        ours = policy._forward(inputs, whole_vocabulary=True).logits
    torch.testing.assert_close(PlainOFT(policy.model, torch.float32).logits(inputs), ours, rtol=1e-4, atol=1e-4)


def test_plain_decoding_draws_from_the_same_distribution() -> None:
    policy = tiny_openvla()
    with torch.no_grad():
        policy.model.language_model.lm_head.weight.mul_(100)  # next to certain, so that every draw is the likeliest bin
    inputs = policy.prepare(alike(2))
    ours = policy.act(inputs, Sampling(True, 1.0, [0, 1])).sampled
    assert torch.equal(PlainOpenVLA(policy.model, torch.float32).act(inputs), ours.long())
