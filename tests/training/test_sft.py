"""Supervised fine-tuning: labels, augmentation and statistics; a tiny policy overfits."""

import errno
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siirl.config.schema import EmbodiedConfig, ModelConfig
from siirl.data.lerobot import Demonstrations
from siirl.envs.base import EnvObs
from siirl.policies.openvla_oft import OpenVLAOFT
from siirl.training.lessons import BinLesson, soft_labels
from siirl.training.samples import build_samples, dataset_statistics
from siirl.training.scratch import new_policy, word_tokenizer
from siirl.training.sft import SFTConfig, augment, averaged, split, train, weights_of
from tests.data.lerobot.folders import write
from tests.policies.tiny import CONFIG, INSTRUCTIONS, WORDS
from tests.training.demos import STEPS, load, make_demo


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Demonstrations:
    """Two demonstrations with prompts of different lengths."""
    root = tmp_path_factory.mktemp("demos")
    write(root, [[make_demo(0), make_demo(1, INSTRUCTIONS[1])]])
    return load(root)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny(demos: Demonstrations) -> OpenVLAOFT:
    torch.manual_seed(0)
    return new_policy(CONFIG, WORDS, "libero_spatial", dataset_statistics(demos.demos), dtype="fp32")


def test_statistics_are_the_quantiles_of_all_steps_and_leave_the_gripper_alone(demos: Demonstrations) -> None:
    statistics = dataset_statistics(demos.demos)
    actions = np.concatenate([d.actions for d in demos.demos])
    assert statistics["action"]["q01"] == pytest.approx(np.quantile(actions, 0.01, axis=0).tolist())
    assert statistics["action"]["q99"] == pytest.approx(np.quantile(actions, 0.99, axis=0).tolist())
    assert statistics["action"]["mask"] == [True] * 6 + [False]
    assert len(statistics["proprio"]["mean"]) == 8
    assert (statistics["num_transitions"], statistics["num_trajectories"]) == (2 * STEPS, 2)


def test_samples_hold_the_actions_that_follow_each_frame(demos: Demonstrations) -> None:
    policy = tiny(demos)
    samples = build_samples(BinLesson(policy, 2.0), demos, 3)
    first, second = demos.demos
    decoded = policy.codec.decode(samples.labels.view(-1, 8, 7).numpy())
    low, high = (np.asarray(dataset_statistics(demos.demos)["action"][k]) for k in ("q01", "q99"))
    bin_width = np.append((high - low)[:6] / 255, 2 / 255)  # half a bin is lost, and what lies beyond the quantiles
    wanted = np.clip(first.actions[3:11], np.append(low[:6], 0), np.append(high[:6], 1))
    assert (np.abs(decoded[1] - wanted) <= bin_width).all()
    last = np.clip(first.actions[-1], low, high)
    assert (np.abs(decoded[7][4:] - last) <= bin_width).all()  # frame 21 of 24: the last action is repeated
    assert samples.inputs["input_ids"].shape[0] == samples.inputs["images"].shape[0] == len(samples.trials) == 16
    lengths = samples.inputs["attention_mask"].sum(1).tolist()
    assert lengths == [policy.prompt_length(d.instruction) for d in (first, second) for _ in range(8)]
    seen = policy.prepare(EnvObs(demos.frames(second, [1, 22]), second.states[[1, 22]], [second.instruction] * 2))
    assert torch.equal(samples.inputs["images"][[8, 15]], seen["images"])  # the second one starts at another phase


@given(label=st.integers(0, 255), sigma=st.floats(0.5, 4))
def test_soft_labels_are_distributions_centred_on_the_label(label: int, sigma: float) -> None:
    soft = soft_labels(torch.tensor([[label]]), 256, sigma)[0, 0]
    assert float(soft.sum()) == pytest.approx(1, abs=1e-5)
    assert int(soft.argmax()) == label
    if 20 <= label <= 235:
        assert float((soft * (torch.arange(256) - label) ** 2).sum()) == pytest.approx(sigma**2, rel=0.2)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), shift=st.integers(0, 4))
def test_augment_shifts_without_leaving_the_image(seed: int, shift: int) -> None:
    ramp = torch.arange(16, dtype=torch.uint8).view(1, 1, 1, 16, 1).expand(2, 2, 16, 16, 3) * 8
    out = augment(ramp, shift, torch.Generator().manual_seed(seed))
    assert out.shape == ramp.shape
    assert out.dtype == torch.uint8
    assert torch.equal(out[:, :, :1].expand_as(out), out)  # every row of a horizontal ramp stays the same
    assert torch.equal(out, augment(ramp, shift, torch.Generator().manual_seed(seed)))


def test_augment_moves_every_pixel_by_the_same_few() -> None:
    image = torch.zeros(64, 1, 16, 16, 3, dtype=torch.uint8)
    image[:, :, 8, 8] = 255
    out = augment(image, 3, torch.Generator().manual_seed(0)).float().mean(-1)[:, 0]
    peaks = out.flatten(1).argmax(1)
    offsets = torch.stack([peaks // 16 - 8, peaks % 16 - 8])
    assert offsets.min() == -3
    assert offsets.max() == 3


def test_split_holds_out_the_last_trials() -> None:
    trials = np.repeat(np.arange(20), 2)
    train_rows, held = split(trials, 0.1)
    assert held.tolist() == [36, 37, 38, 39]
    assert train_rows.tolist() == list(range(36))
    with pytest.raises(ValueError, match="at least 2"):
        split(np.zeros(5, int), 0.1)


def test_average_forgets_its_start_in_a_short_run() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    mean = averaged(layer, 0.998)
    for step in range(100):
        torch.nn.init.constant_(layer.weight, 0.0 if step == 0 else 1.0)
        mean.update_parameters(layer)
    assert mean.module.weight.item() > 0.99


def test_overfits_and_comes_back_from_disk_unchanged(demos: Demonstrations, tmp_path: Path) -> None:
    policy = tiny(demos)
    lesson = BinLesson(policy, 2.0)
    samples = build_samples(lesson, demos, 3)
    history = train(lesson, samples, SFTConfig(steps=120, batch_size=8, lr=1e-2, warmup_steps=10, log_every=15))
    assert history[0]["heldout_loss"] > 0
    assert history[-1]["step"] == 120
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]  # the entropy of the soft labels, 2.1, is the floor
    policy.save(str(tmp_path))
    again = OpenVLAOFT.load(ModelConfig(path=str(tmp_path), dtype="fp32"), EmbodiedConfig(), torch.device("cpu"))
    assert torch.equal(again.bin_logits(samples.inputs), policy.bin_logits(samples.inputs))
    greedy = policy.model(
        *(samples.inputs[k] for k in ("input_ids", "attention_mask", "images", "proprio")), True
    ).logits
    first = policy.model.vocab_size - 256
    assert torch.equal(greedy.argmax(-1) - first, policy.bin_logits(samples.inputs).argmax(-1))


def test_a_full_disk_is_told(demos: Demonstrations, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A disk that lacks 100 bytes: a buffer would keep them, and fail once more when it is closed."""
    room = build_samples(BinLesson(tiny(demos), 2.0), demos, 3).inputs["images"].numel() - 100

    class Full(io.FileIO):
        def write(self, data: memoryview) -> int:
            if self.tell() == room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data[: room - self.tell()])

    def temporary_file(buffering: int = -1) -> io.RawIOBase | io.BufferedRandom:
        raw = Full(tmp_path / "frames", "w+")
        return raw if buffering == 0 else io.BufferedRandom(raw)

    monkeypatch.setattr("siirl.training.samples.tempfile.TemporaryFile", temporary_file)
    with pytest.raises(ValueError, match=r"has no room for .* set TMPDIR"):
        build_samples(BinLesson(tiny(demos), 2.0), demos, 3)


def test_frames_that_are_written_in_pieces_are_complete(
    demos: Demonstrations, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Slow(io.FileIO):
        def __init__(self, buffering: int) -> None:
            super().__init__(tmp_path / "frames", "w+")

        def write(self, data: memoryview) -> int:
            return super().write(data[:1000])

    wanted = build_samples(BinLesson(tiny(demos), 2.0), demos, 3)
    monkeypatch.setattr("siirl.training.samples.tempfile.TemporaryFile", Slow)
    assert torch.equal(build_samples(BinLesson(tiny(demos), 2.0), demos, 3).inputs["images"], wanted.inputs["images"])


def test_weights_are_given_back_when_measuring_fails() -> None:
    model, mean = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    before = model.weight.item()

    def fail() -> None:
        with weights_of(mean, model):
            assert model.weight.item() == mean.weight.item()
            raise FloatingPointError

    with pytest.raises(FloatingPointError):
        fail()
    assert model.weight.item() == before


def test_vocabulary_is_checked() -> None:
    with pytest.raises(ValueError, match="lower case"):
        word_tokenizer(["Bowl"])
    with pytest.raises(ValueError, match="leaves room for 64"):
        new_policy(CONFIG, [f"w{i}" for i in range(80)], "libero_spatial", {})
