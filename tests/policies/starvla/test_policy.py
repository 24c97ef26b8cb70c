"""StarVLA's policy: observations in the published order and form, un-normalisation, and what rests in bf16."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from siirl.config.schema import StarVLAConfig
from siirl.envs.libero import to_libero_gripper
from siirl.policies.base import Sampling
from siirl.policies.starvla.platform import ActionScale, Platform, fit_states, platform
from siirl.policies.starvla.prompt import state_words
from tests.policies.observations import observe
from tests.policies.starvla.tiny import (
    QWEN2_5,
    QWEN3,
    STATISTICS,
    framework,
    load,
    tiny_oft,
    tiny_starvla_folder,
    write_run_folder,
)

LIBERO = Platform("libero", 7, (7, 8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_starvla_folder(tmp_path_factory.mktemp("policy"))


def test_views_come_as_main_extra_and_wrist(folder: Path) -> None:
    policy, obs = load(folder), observe(2, wrist=True)
    rng = np.random.default_rng(7)
    extra = rng.integers(0, 256, (2, 2, 48, 48, 3), dtype=np.uint8)
    assert obs.wrist_images is not None
    resize = policy.framework.images.resize
    for given_extra, views in ((extra, [extra[:, 0], extra[:, 1]]), (extra[:, 0], [extra[:, 0]]), (None, [])):
        images = policy.prepare(replace(obs, extra_view_images=given_extra))["images"].numpy()
        order = [obs.main_images, *views, obs.wrist_images]
        assert images.dtype == np.uint8
        assert images.shape[1] == len(order)
        for row in range(2):
            for view, stack in enumerate(order):
                assert np.array_equal(images[row, view], resize(stack[row]))
    one = load(folder, views=1).prepare(obs)["images"]
    assert one.shape[1] == 1, "the wrist is left out"


def test_images_of_the_right_size_are_fed_as_they_are(folder: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    assert np.array_equal(load(folder).framework.images.resize(image), image)
    with pytest.raises(ValueError, match=r"an image is float32 \[56, 56, 3\]; it must be uint8"):
        load(folder).framework.images.resize(image.astype(np.float32))


def test_a_missing_field_and_states_of_another_size_are_refused(folder: Path) -> None:
    policy, obs = load(folder), observe(2, wrist=True)
    with pytest.raises(ValueError, match="the environment gives no wrist images"):
        policy.prepare(observe(2))
    for name in ("main_images", "states", "task_descriptions"):
        with pytest.raises(ValueError, match=f"the observation has no {name}"):
            policy.prepare(replace(obs, **{name: None}))
    with pytest.raises(ValueError, match="states have 9 values; allowed for libero: 7 or 8"):
        policy.prepare(replace(obs, states=np.zeros((2, 9), np.float32)))
    with pytest.raises(ValueError, match="not of one batch size"):
        policy.prepare(replace(obs, states=obs.states[:1]))
    for dim in (7, 8):
        policy.prepare(replace(obs, states=np.zeros((2, dim), np.float32)))


def test_the_gripper_is_compressed_to_its_mean() -> None:
    states = np.arange(16, dtype=np.float32).reshape(2, 8)
    fitted = fit_states(states, 7, LIBERO)
    assert np.array_equal(fitted[:, :6], states[:, :6])
    assert np.array_equal(fitted[:, 6], 0.5 * (states[:, 6] + states[:, 7]))
    assert fitted.dtype == np.float32
    assert fit_states(states, 8, LIBERO) is states
    assert np.array_equal(fit_states(fitted, 7, LIBERO), fitted)
    with pytest.raises(ValueError, match="states have 7 values; allowed for libero: 8"):
        fit_states(fitted, 8, LIBERO)


def test_states_are_told_in_the_prompt_where_the_policy_was_trained_so(tmp_path: Path) -> None:
    data = {"obs_image_size": [56, 56], "include_state": True}
    folder = write_run_folder(tiny_oft(), tmp_path / "run", framework(state_dim=7), data)
    policy, obs = load(folder), observe(2, wrist=True)
    decode = policy.framework.vlm.processor.tokenizer.decode
    text = decode(policy.prepare(obs)["input_ids"][0].tolist())
    assert f"[STATE] {state_words(fit_states(obs.states, 7, LIBERO)[0])} [ACTION] Please predict" in text
    assert "[STATE]" not in decode(load(tiny_starvla_folder(tmp_path)).prepare(obs)["input_ids"][0].tolist())
    assert policy.prompt_length("open the drawer") > load(tmp_path / "tiny-starvla").prompt_length("open the drawer")


def test_state_words_number_the_bins() -> None:
    assert state_words(np.array([-2, -1, -0.999, 0, 0.999, 1, 2], np.float32)) == "-1 0 0 128 255 255 255"


@pytest.mark.parametrize(("source", "low", "high"), [("minmax", "min", "max"), ("q01q99", "q01", "q99")])
def test_actions_scale_by_the_extremes_or_the_quantiles(folder: Path, source: str, low: str, high: str) -> None:
    policy = load(folder, starvla=StarVLAConfig(action_stats_source=source))
    entry = STATISTICS["franka"]["action"]
    chunk = np.stack([-np.ones(7), np.ones(7), np.full(7, 3.0), np.full(7, 0.49)]).astype(np.float32)
    found = policy.scale.unnormalise(chunk)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], [*entry[low][:6], 0], rtol=1e-6)
    np.testing.assert_allclose(found[1], [*entry[high][:6], 1], rtol=1e-6)
    np.testing.assert_allclose(found[2], found[1], rtol=1e-6, err_msg="clipped")
    assert found[3, 6] == 0, "below 0.5 the gripper closes"
    assert policy.scale.unnormalise(np.full((1, 7), 0.5, np.float32))[0, 6] == 1


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_the_gripper_closes_where_the_statistics_have_no_mask_for_it(low: float) -> None:
    scale = ActionScale.from_statistics({"min": [-1.0] * 6 + [low], "max": [1.0] * 7}, "minmax", 7)
    found = scale.unnormalise(np.array([[0.0] * 6 + [x] for x in (-1, 0.49, 0.5, 1)], np.float32))
    assert found[:, 6].tolist() == [0, 0, 1, 1]
    assert to_libero_gripper(found)[:, 6].tolist() == [1, 1, -1, -1], "the simulator is told either"


@given(hnp.arrays(np.float32, (3, 7), elements=st.floats(-1, 1, width=32)))
def test_normalisation_is_the_inverse_but_for_the_gripper(actions: np.ndarray) -> None:
    scale = ActionScale.from_statistics(STATISTICS["franka"]["action"], "minmax", 7)
    again = scale.normalise(scale.unnormalise(actions))
    np.testing.assert_allclose(again[:, :6], actions[:, :6], atol=1e-5)
    assert np.array_equal(again[:, 6], actions[:, 6] >= 0.5)


def test_a_dimension_that_never_moved_is_zero() -> None:
    entry = {**STATISTICS["franka"]["action"], "min": [0.2] * 7, "max": [0.2] * 7}
    scale = ActionScale.from_statistics(entry, "minmax", 7)
    assert np.array_equal(scale.normalise(np.full((1, 7), 0.2))[0, :6], np.zeros(6))
    np.testing.assert_allclose(scale.unnormalise(np.ones((1, 7)))[0, :6], np.full(6, 0.2, np.float32))


def test_statistics_of_other_sizes_are_refused() -> None:
    entry = {**STATISTICS["franka"]["action"], "min": [0.0] * 6}
    with pytest.raises(ValueError, match=r"have 6 'min' of actions, but actions have 7 .* the other of minmax, q01q99"):
        ActionScale.from_statistics(entry, "minmax", 7)
    ActionScale.from_statistics(entry, "q01q99", 7)


def test_the_robot_is_that_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOT_PLATFORM", raising=False)
    assert platform() == LIBERO
    monkeypatch.setenv("ROBOT_PLATFORM", "LIBERO")
    assert platform() == LIBERO
    monkeypatch.setenv("ROBOT_PLATFORM", "liberos")
    with pytest.raises(ValueError, match=r"ROBOT_PLATFORM is 'liberos'; allowed: libero\. Did you mean 'libero'"):
        platform()


@pytest.mark.parametrize("base", [QWEN2_5, QWEN3])
def test_weights_that_rest_in_bf16_act_the_same_bit_for_bit(base: str, tmp_path: Path) -> None:
    folder = tiny_starvla_folder(tmp_path, base)
    whole, resting = (load(folder, acting_only, dtype="bf16") for acting_only in (False, True))
    half = {name for name, p in resting.model.named_parameters() if p.dtype == torch.bfloat16}
    layers = {n: m for n, m in resting.model.named_modules() if isinstance(m, nn.Linear | nn.Conv3d)}
    in_float32 = ("action_model.", "qwen_vl_interface.model.lm_head")
    assert half == {
        f"{n}.{p}" for n, m in layers.items() if not n.startswith(in_float32) for p in dict(m.named_parameters())
    }
    assert "qwen_vl_interface.model.model.visual.patch_embed.proj.weight" in half
    for count in (1, 3):
        inputs = whole.prepare(observe(count, wrist=True))
        for sampling in (Sampling(True, 1.3, range(count)), Sampling(False, 1.0, range(count))):
            expected, chunk = whole.act(inputs, sampling), resting.act(inputs, sampling)
            assert torch.equal(chunk.sampled, expected.sampled)
            assert torch.equal(chunk.log_probs, expected.log_probs)


@pytest.mark.parametrize("base", [QWEN2_5, QWEN3])
def test_checkpointed_activations_give_the_same_gradients(base: str, tmp_path: Path) -> None:
    folder = tiny_starvla_folder(tmp_path, base)
    plain, saving = (load(folder, enable_gradient_checkpointing=on) for on in (False, True))
    inputs = plain.prepare(observe(2, wrist=True))
    sampled = plain.act(inputs, Sampling(True, 1.0, [1, 2])).sampled
    assert torch.equal(saving.act(inputs, Sampling(True, 1.0, [1, 2])).sampled, sampled)
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    for policy in (plain, saving):
        backbone: Any = policy.model.qwen_vl_interface.model
        backbone.model.language_model.layers[0].mlp.register_forward_pre_hook(count)
        policy.evaluate(inputs, sampled, 1.0).log_probs.sum().backward()
    assert calls == 3, "once without, twice with"
    for (name, one), other in zip(plain.model.named_parameters(), saving.model.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None and other.grad is not None:
            torch.testing.assert_close(other.grad, one.grad)


def test_every_parameter_but_the_output_head_learns(folder: Path) -> None:
    policy = load(folder)
    inputs = policy.prepare(observe(2, wrist=True))
    result = policy.evaluate(inputs, policy.act(inputs, Sampling(True, 1.0, [1, 2])).sampled, 1.0)
    (result.log_probs.sum() + result.entropy.sum()).backward()
    without = {name for name, p in policy.model.named_parameters() if p.grad is None or not p.grad.any()}
    assert without <= {"qwen_vl_interface.model.lm_head.weight"} | {n for n in without if n.endswith("k_proj.bias")}
