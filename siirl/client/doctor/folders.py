"""The policy's folder and the run's."""

import fcntl
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from siirl.client.doctor.lines import Line, Question
from siirl.config.keys import given
from siirl.config.schema import Config
from siirl.training.checkpoint import saved_steps, verify
from siirl.training.run_folder import LOCK

POLICY = "actor_rollout_ref.model.path"
POINTER = b"version https://git-lfs"
"""How a file begins that Git LFS has left in the place of a large one."""
INDEX = "model.safetensors.index.json"
AGAIN = "download the folder again, whole"


def check_policy(question: Question) -> Iterator[Line]:
    """Every file of weights is whole; with ``--deep``, the policy loads and acts."""
    path = question.config.actor_rollout_ref.model.path
    if not question.named:
        return
    if not path:
        yield Line("warn", "policy", "no folder is named", f"{POLICY}=<folder>, or model=start_policy")
        return
    folder = Path(path)
    if not folder.is_dir():
        return  # a problem of the config, told as such
    problems = weight_problems(folder)
    for problem in problems:
        yield Line("fail", "policy", problem, AGAIN)
    files = sorted(folder.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    if not files:
        yield Line("fail", "policy", f"{folder} holds no safetensors", f"{AGAIN}, or name another with {POLICY}")
    elif not problems:
        text = f"{len(files)} file{'s' * (len(files) > 1)} of weights in {folder}, {size / 1e9:.2f} GB, whole"
        yield Line("pass", "policy", text + ("" if question.deep else "; --deep loads them"))
        if question.deep:
            yield acting_line(question.config)


def weight_problems(folder: Path) -> list[str]:
    """What is wrong with the files of weights in a folder: pointers, cut short, named in the index and missing."""
    found = [problem for file in sorted(folder.glob("*.safetensors")) if (problem := file_problem(file))]
    if (folder / INDEX).is_file():
        try:
            named = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            return [*found, f"{folder / INDEX} is no index of weights: {error!r}"]
        found += [f"{INDEX} names {name}, which is missing" for name in sorted(named) if not (folder / name).is_file()]
    return found


def file_problem(file: Path) -> str:
    """What is wrong with a safetensors file, whose header says how long it must be; empty where nothing is."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if POINTER.startswith(start) and start:
            return f"{file} is a pointer of Git LFS, not the weights (git lfs pull gets them)"
        try:
            (length,) = struct.unpack("<Q", start)
            header = json.loads(stream.read(min(length, size)))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"{file} is no safetensors file ({error})"
    whole = 8 + length + max(ends, default=0)
    return "" if size == whole else f"{file} has {size} bytes; its header says {whole}"


def acting_line(config: Config) -> Line:
    """Load the policy and let it look at a grey frame."""
    from siirl.envs.base import EnvObs
    from siirl.policies.base import Sampling
    from siirl.policies.load import load_policy

    ref = config.actor_rollout_ref
    try:
        policy = load_policy(
            ref.model.path,
            ref.embodied.embodied_type,
            unnorm_key=ref.embodied.unnorm_key,
            dtype=ref.model.dtype,
            center_crop=ref.embodied.center_crop,
            num_images=ref.embodied.num_images_in_input,
        )
    except ValueError as error:
        return Line("fail", "policy", f"does not load: {error}", AGAIN)
    grey = np.full((1, 224, 224, 3), 128, np.uint8)
    wrist = grey if ref.embodied.num_images_in_input > 1 else None
    obs = EnvObs(grey, np.zeros((1, 8), np.float32), ["pick up the bowl"], wrist_images=wrist)
    actions = policy.act(policy.prepare(obs), Sampling(do_sample=False, temperature=1.0, seeds=[0])).actions
    if not np.isfinite(actions.numpy()).all():
        return Line("fail", "policy", "it loads, and its actions are NaN or infinite", "other weights")
    shape = f"{actions.shape[1]} action{'s' * (actions.shape[1] > 1)} of {actions.shape[2]} dimensions"
    return Line("pass", "policy", f"it loads, and a grey frame makes it predict {shape}")


def check_run_folder(question: Question) -> Iterator[Line]:
    """Whether the run would resume, from what, and whether another process is at it."""
    trainer = question.config.trainer
    folder = Path(trainer.default_local_dir)
    if not question.named:
        return
    if is_locked(folder):
        fix = "wait for it or end it, or another trainer.default_local_dir"
        yield Line("fail", "run folder", f"another process is running in {folder}", fix)
        return
    if not question.trains or trainer.resume_mode == "resume_path":
        return  # what the latter names is a matter of the config
    steps = saved_steps(folder)
    if not steps or trainer.resume_mode == "disable":
        aside = (
            f" ({given(question.config, 'trainer.resume_mode')} sets {len(steps)} checkpoints aside)" if steps else ""
        )
        yield Line("pass", "run folder", f"{folder}: starts anew{aside}")
        return
    broken = {step: problem for step in reversed(steps) if (problem := verify(folder / f"global_step_{step}"))}
    whole = [step for step in steps if step not in broken]
    for step, problem in broken.items():
        text = f"the checkpoint of step {step} is broken: {problem}"
        if whole:
            yield Line("warn", "run folder", text, f"none needed: the run resumes after step {whole[-1]}")
        else:
            yield Line("fail", "run folder", text, "restore one, or start anew with trainer.resume_mode=disable")
    if whole:
        yield Line(
            "pass",
            "run folder",
            f"{folder}: resumes after step {whole[-1]}; {len(whole)} checkpoint{'s verify' if len(whole) > 1 else ' verifies'}",
        )


def is_locked(folder: Path) -> bool:
    """Whether a process holds the run folder: see `siirl.training.run_folder.locked`."""
    if not (folder / LOCK).is_file():
        return False
    with (folder / LOCK).open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
