"""The frames that imagined episodes start from: what is read, what is converted, what is refused."""

import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from siirl.config.schema import WorldModelConfig
from siirl.envs.world_model import initial_states
from siirl.envs.world_model.initial_states import FRAMES, InitialStates, convert, open_initial_states, trajectories
from siirl.envs.world_model.npy import first_frame

SOUP, BOWL = "pick up the soup", "open the bowl"


def frame(value: int, size: int = 16) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def save_published(file: Path, value: int, instruction: Any = SOUP, length: int = 3, **more: Any) -> None:
    """As published: an array of one dictionary per frame."""
    record = {"delta_action": np.zeros(7), "init_ee_pose": np.float32(1), "instruction": instruction, **more}
    frames = [{**record, "image": frame(value + i)} for i in range(length)]
    np.save(file, np.array(frames, dtype=object), allow_pickle=True)


def settings(folder: Path) -> WorldModelConfig:
    return WorldModelConfig(path=str(folder))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    folder.mkdir()
    for number, instruction in enumerate([SOUP, BOWL, SOUP.upper(), np.bytes_(BOWL), *[SOUP] * 7]):
        save_published(folder / f"traj{number}.npy", 10 * number, instruction)
    save_published(folder / "traj3_kir.npy", 99)
    return folder


def test_published_trajectories_are_converted_once_and_then_read_frame_by_frame(dataset: Path) -> None:
    assert [file.name for file in trajectories(dataset)] == [f"traj{i}.npy" for i in range(11)], "by number"
    with pytest.raises(ValueError, match=r"11 trajectories that must be converted once.*initial_states"):
        open_initial_states(settings(dataset.parent))
    assert initial_states.main([str(dataset)]) == 0
    states = open_initial_states(settings(dataset.parent))
    assert (states.count(SOUP), states.count(BOWL), states.count("close the drawer")) == (9, 2, 0)
    assert states.frame(BOWL, 1)[0, 0, 0] == 30
    assert states.frame(SOUP, 1)[0, 0, 0] == 20
    assert states.frame(SOUP, 8)[0, 0, 0] == 100
    states.check_size(16)


def test_reading_a_frame_leaves_the_others_on_the_disk(tmp_path: Path) -> None:
    many = [initial_states.InitialState(frame(i % 256, 128), SOUP, i, "x") for i in range(200)]
    initial_states.write_initial_states(tmp_path, many)
    states = InitialStates(tmp_path)
    before = _read_bytes()
    assert states.frame(SOUP, 150)[0, 0, 0] == 150
    assert _read_bytes() - before < (tmp_path / FRAMES).stat().st_size / 10


def _read_bytes() -> int:
    """Bytes that this process has asked the system to read."""
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


def test_records_without_pickles_are_read_without_them(tmp_path: Path) -> None:
    dtype = [("image", np.uint8, (16, 16, 3)), ("task", "U40")]
    records = np.zeros(4, dtype)
    records["image"], records["task"] = 7, BOWL
    np.save(tmp_path / "traj0.npy", records)
    image, instruction = first_frame(tmp_path / "traj0.npy")
    assert (image.shape, image[0, 0, 0], instruction) == ((16, 16, 3), 7, BOWL)
    assert convert(tmp_path) == 1


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evil",)


def test_a_pickle_that_asks_for_more_than_arrays_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_published(tmp_path / "traj0.npy", 1, extra=Evil())
    with pytest.raises(ValueError, match=r"traj0.npy is no trajectory that can be read .it asks for (posix|nt).mkdir"):
        convert(tmp_path)
    assert not Path("evil").exists()


@pytest.mark.parametrize("core", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_what_either_numpy_wrote_can_be_read(tmp_path: Path, core: bytes) -> None:
    """Versions 1 and 2 call the module of their functions differently."""
    record = {"image": frame(7), "instruction": np.str_(SOUP), "init_ee_pose": np.float32(1)}
    frames = np.array([record], dtype=object)
    file = tmp_path / "traj0.npy"
    np.save(file, frames, allow_pickle=True)
    header = file.read_bytes().partition(b"\n")[0] + b"\n"
    pickled = re.sub(rb"numpy\._?core\.multiarray", core, pickle.dumps(frames, protocol=3))
    assert core + b"\n_reconstruct" in pickled
    assert core + b"\nscalar" in pickled
    file.write_bytes(header + pickled)
    image, instruction = first_frame(file)
    assert (image[0, 0, 0], instruction) == (7, SOUP)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b"", "traj0.npy is no trajectory that can be read"),
        (b"\x93NUMPY\x01\x00", "traj0.npy is no trajectory that can be read"),
        (b"no array at all", "traj0.npy is no trajectory that can be read"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, broken: bytes, message: str) -> None:
    (tmp_path / "traj0.npy").write_bytes(broken)
    with pytest.raises(ValueError, match=message):
        convert(tmp_path)


def test_a_cut_off_file_is_named(dataset: Path) -> None:
    file = dataset / "traj4.npy"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"traj4.npy is no trajectory that can be read"):
        convert(dataset)
    assert not (dataset / FRAMES).exists()


def test_what_is_no_picture_or_has_no_goal_is_refused(tmp_path: Path) -> None:
    save_published(tmp_path / "traj0.npy", 1, image=0)
    np.save(tmp_path / "a.npy", np.array([{"image": frame(1).astype(np.float32), "task": SOUP}], dtype=object))
    np.save(tmp_path / "b.npy", np.array([{"image": frame(1)}], dtype=object))
    np.save(tmp_path / "c.npy", np.zeros((4, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match=r"the first picture is float32"):
        first_frame(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"b.npy .*task"):
        first_frame(tmp_path / "b.npy")
    with pytest.raises(ValueError, match=r"c.npy .*not one record per frame"):
        first_frame(tmp_path / "c.npy")


def test_frames_of_several_sizes_are_refused(dataset: Path) -> None:
    np.save(dataset / "traj7.npy", np.array([{"image": frame(1, 20), "task": SOUP}], dtype=object))
    with pytest.raises(ValueError, match=r"of one size are needed; traj0.npy has \(16, 16, 3\), others \(20, 20, 3\)"):
        convert(dataset)


def test_an_empty_folder_has_nothing_to_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert initial_states.main([str(tmp_path)]) == 2
    assert "holds no traj*.npy" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"holds no readable initial_states.parquet"):
        InitialStates(tmp_path)


def test_files_that_contradict_each_other_are_refused(dataset: Path, tmp_path: Path) -> None:
    convert(dataset)
    other = tmp_path / "other"
    initial_states.write_initial_states(other, [initial_states.InitialState(frame(1), SOUP, 0, "x")])
    (dataset / FRAMES).write_bytes((other / FRAMES).read_bytes())
    with pytest.raises(ValueError, match=r"has frames U8 \[1, 16, 16, 3\], but .* has 11 rows"):
        InitialStates(dataset)
    (dataset / FRAMES).write_bytes(save({"frames": np.zeros((11, 16, 16, 3), np.float32)}))
    with pytest.raises(ValueError, match=r"has frames F32 .*allowed: a frame U8"):
        InitialStates(dataset)
