"""Python, packages, PyTorch and Ray: each kind of failure has its line and its fix."""

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from siirl.client.doctor import software
from siirl.client.doctor.accelerators import Device, Torch, ask_torch, torch_lines
from siirl.client.doctor.lines import Line, Question
from siirl.client.doctor.software import (
    check_packages,
    check_ray,
    package_lines,
    python_line,
    shared_memory_line,
    started_ray,
    used_extras,
)
from siirl.config.schema import Config

H200 = Device("NVIDIA H200", (9, 0), 139.8, 139.0)


def levels(lines: list[Line]) -> list[str]:
    return [line.level for line in lines]


@pytest.mark.parametrize(
    ("version", "system", "level"),
    [
        ((3, 11), "Linux", "pass"),
        ((3, 13), "Linux", "pass"),
        ((3, 10), "Linux", "fail"),
        ((3, 14), "Linux", "fail"),
        ((3, 12), "Darwin", "warn"),
    ],
)
def test_python(version: tuple[int, int], system: str, level: str) -> None:
    line = python_line(version, system)
    assert line.level == level
    assert bool(line.fix) == (level != "pass")


def test_packages_of_this_machine_are_there() -> None:
    lines = list(check_packages(Question(Config())))
    assert [line for line in lines if line.level == "fail"] == []


def test_a_package_that_is_missing_or_of_another_version_is_named() -> None:
    needed = [
        Requirement(text) for text in ("torch>=2.8,<2.14", "ray[default]>=2.50,<3", 'peft>=0.18,<0.22; extra == "lora"')
    ]
    found = {"torch": "2.14.1", "ray": "2.60.0"}
    lines = list(package_lines(needed, set(), found.get))
    assert lines == [
        Line("warn", "packages", "torch 2.14.1 is untested; tested: <2.14,>=2.8", "pip install 'torch<2.14,>=2.8'")
    ]
    lines = list(package_lines(needed, {"lora"}, (found | {"torch": "2.13.0+cpu"}).get))
    assert lines == [Line("fail", "packages", "peft is missing", "pip install 'peft<0.22,>=0.18'")]
    everything = found | {"torch": "2.13.0+cpu", "peft": "0.19.1"}
    assert levels(list(package_lines(needed, {"lora"}, everything.get))) == ["pass"]


def test_lora_needs_its_extra() -> None:
    config = Config()
    assert used_extras(Question(config)) == set()
    config.actor_rollout_ref.model.lora_rank = 4
    assert used_extras(Question(config)) == {"lora"}
    assert used_extras(Question(config, named=False)) == set()


def gpus(count: int) -> Config:
    config = Config()
    config.trainer.n_gpus_per_node = count
    return config


@pytest.mark.parametrize(
    ("found", "config", "expected", "fix"),
    [
        (Torch("2.13.0+cpu", None, "", ()), gpus(0), ["pass"], ""),
        (Torch("2.13.0+cpu", None, "580.1", ()), gpus(8), ["fail"], "CUDA build"),
        (Torch("2.13.0", "13.0", "", ()), gpus(1), ["fail"], "NVIDIA driver"),
        (Torch("2.13.0", "13.0", "450.2", ()), gpus(1), ["fail"], "new enough for CUDA 13.0"),
        (Torch("2.13.0", "13.0", "580.1", (H200,)), gpus(2), ["fail", "pass"], "trainer.n_gpus_per_node=1"),
        (Torch("2.13.0", "13.0", "580.1", (H200,)), gpus(0), ["warn", "pass"], "trainer.n_gpus_per_node=1"),
        (Torch("2.13.0", "13.0", "580.1", (H200, H200)), gpus(2), ["pass", "pass", "pass"], ""),
        (Torch("2.13.0", "13.0", "", ()), None, ["pass"], ""),
    ],
)
def test_accelerators(found: Torch, config: Config | None, expected: list[str], fix: str) -> None:
    lines = list(torch_lines(found, config))
    assert levels(lines) == expected
    assert fix in lines[0].fix


def test_a_gpu_that_cannot_compute_fails_and_an_old_one_is_slow() -> None:
    broken = Device(
        "Tesla K80", (3, 7), 11.2, 11.0, "CUDA error: no kernel image is available for execution on the device"
    )
    old = Device("Tesla V100", (7, 0), 16.0, 15.0)
    config = gpus(2)
    _, first, second = torch_lines(Torch("2.13.0", "13.0", "580.1", (broken, old)), config)
    assert (first.level, first.about) == ("fail", "GPU 0")
    assert "no kernel image" in first.text
    assert (second.level, second.fix) == ("warn", "actor_rollout_ref.model.dtype=fp32")
    config.actor_rollout_ref.model.dtype = "fp32"
    assert list(torch_lines(Torch("2.13.0", "13.0", "580.1", (broken, old)), config))[2].level == "pass"


def test_pytorch_of_this_machine_answers() -> None:
    found = ask_torch()
    assert found.version
    assert all(not device.problem for device in found.devices)


def test_ray_is_not_needed_inline(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config()
    config.trainer.backend = "inline"
    assert [line.text for line in check_ray(Question(config))] == ["not used with trainer.backend=inline"]
    config.trainer.backend = "ray"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert "joins the cluster at RAY_ADDRESS=10.0.0.1:6379" in next(check_ray(Question(config))).text


def test_what_the_process_that_starts_ray_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = started_ray([sys.executable, "-c", "print('2.60.0, started one of its own in 4.0 s')"])
    assert line == Line("pass", "Ray", "2.60.0, started one of its own in 4.0 s")
    line = started_ray([sys.executable, "-c", "raise SystemExit('no space left for its sockets')"])
    assert (line.level, line.text) == ("fail", "does not start: no space left for its sockets")
    monkeypatch.setattr(software, "RAY_SECONDS", 0.2)
    line = started_ray([sys.executable, "-c", "import time; time.sleep(60)"])
    assert (line.level, line.text) == ("fail", "did not answer within 0.2 s")


def test_little_shared_memory_is_a_warning() -> None:
    assert shared_memory_line(0.06, 128).level == "warn"
    assert "--shm-size" in shared_memory_line(0.06, 128).fix
    assert shared_memory_line(64, 128).level == "pass"


def test_ray_that_is_missing_is_told_by_the_packages_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "installed_version", lambda package: None)
    assert list(check_ray(Question(Config(), named=True))) == []
