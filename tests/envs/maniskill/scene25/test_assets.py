"""Asset folders: complete, with holes, and not the published one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from siirl.config.schema import EnvConfig
from siirl.envs.maniskill.scene25 import assets
from siirl.envs.maniskill.scene25.variants import VARIANTS, Split, all_splits
from siirl.envs.maniskill.suites import SUITES
from tests.envs.maniskill.scene25.synthetic import object_size

MAIN = VARIANTS["PutOnPlateInScene25Main-v3"].split("train")
CARROT = "carrot/more_carrot/001_carrot_simpler"


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A folder to break."""
    return shutil.copytree(folder, tmp_path / "copy")


def missing(folder: Path, split: Split = MAIN) -> str:
    with pytest.raises(ValueError, match="not in the asset folder") as error:
        assets.check(folder, split)
    return str(error.value)


@pytest.mark.parametrize("split", all_splits(), ids=lambda s: s.name)
def test_a_complete_folder(folder: Path, split: Split) -> None:
    assets.check(folder, split)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        (f"{CARROT}/collision.obj", "hf download --repo-type dataset RLinf/maniskill_assets --local-dir '{folder}'"),
        (f"{CARROT}/textured.glb", "github.com/gen-robot/RL4VLA to '{folder}/carrot'"),
        ("carrot/more_plate/001_plate_simpler/collision.obj", "RLinf/maniskill_assets"),
        ("carrot/more_table/imgs/016_table.png", "RLinf/maniskill_assets"),
        ("carrot/more_table/model_db.json", "RLinf/maniskill_assets"),
        (
            "data/tasks/bridge_v2_real2sim_dataset/stages/bridge_table_1_v1.glb",
            "MS_ASSET_DIR='{folder}' python -m mani_skill.utils.download_asset bridge_v2_real2sim",
        ),
        (
            "data/robots/widowx/wx250s.urdf",
            "MS_ASSET_DIR='{folder}' python -m mani_skill.utils.download_asset widowx250s",
        ),
        ("data/robots/widowx/base.obj", "download_asset widowx250s"),
    ],
)
def test_a_missing_file_is_named_with_its_source_alone(copy: Path, file: str, source: str) -> None:
    (copy / file).unlink()
    lines = missing(copy).splitlines()
    assert lines[0] == f"PutOnPlateInScene25Main-v3 needs 1 files that are not in the asset folder {copy}:"
    assert lines[1] == f"  {file}"
    assert source.format(folder=copy) in "\n".join(lines[3:])
    assert sum("download" in line for line in lines[3:]) == 1


def test_an_empty_folder(tmp_path: Path) -> None:
    text = missing(tmp_path)
    assert "… and " in text
    assert all(how in text for how in ("RLinf/maniskill_assets", "bridge_v2_real2sim", "widowx250s"))


def test_only_what_the_split_uses_is_needed(copy: Path) -> None:
    shutil.rmtree(copy / "carrot/more_table/textures")
    for unused in ("carrot/more_carrot/017_travel cup_1", "carrot/more_plate/002_cloth_1"):
        shutil.rmtree(copy / unused)
    (copy / "carrot/more_table/imgs/017_table.png").unlink()
    assets.check(copy, MAIN)
    assert "017_travel cup_1/collision.obj" in missing(copy, VARIANTS["PutOnPlateInScene25Carrot-v1"].split())
    assert "002_cloth_1/collision.obj" in missing(copy, VARIANTS["PutOnPlateInScene25MultiPlate-v1"].split())
    assert "imgs/017_table.png" in missing(copy, VARIANTS["PutOnPlateInScene25VisionImage-v1"].split())
    assert "textures/002.png" in missing(copy, VARIANTS["PutOnPlateInScene25VisionTexture03-v1"].split())


def test_a_picture_that_a_shape_names_is_needed(copy: Path) -> None:
    (copy / CARROT / "textured.glb").unlink()
    (copy / CARROT / "textured.dae").write_text(
        '<COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema"><library_images><image id="i"><init_from>a%20b.png'
        "</init_from></image></library_images><library_effects><surface><init_from>i</init_from></surface></library_effects>"
        "</COLLADA>"
    )
    assert f"  {CARROT}/a b.png\n" in missing(copy)
    (copy / CARROT / "a b.png").touch()
    assets.check(copy, MAIN)


def test_a_brace_in_the_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has a brace in its path"):
        assets.check(tmp_path / "a{b}", MAIN)


def test_things(folder: Path) -> None:
    objects, plates = assets.read_things(folder, VARIANTS["PutOnPlateInScene25Carrot-v1"].split("test"))
    assert list(objects) == list(range(16, 25))
    assert list(plates) == [0]
    np.testing.assert_allclose(objects[20].size, object_size(20))
    assert objects[20].visual == folder / "carrot/more_carrot/021_baguette_1/textured.glb"
    tables = assets.read_tables(folder)
    assert [t.mix for t in tables] == [0.0] + [1.0] * 20
    assert tables[3].texture.name == "004.png"


def test_another_order_is_refused(copy: Path) -> None:
    file = copy / "carrot/more_carrot/model_db.json"
    file.write_text(json.dumps(dict(reversed(json.loads(file.read_text()).items()))))
    with pytest.raises(ValueError, match="in another order, than the published list"):
        assets.read_things(copy, MAIN)


def test_a_broken_table_is_refused(copy: Path) -> None:
    file = copy / "carrot/more_table/model_db.json"
    for content, message in (
        ("{", "is not JSON"),
        ("[]", "holds no table"),
        ("{}", "lists 0 tables; the published one has 21"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=message):
            assets.read_tables(copy)


def test_a_robot_that_was_cut_off_is_refused(copy: Path) -> None:
    file = copy / assets.ROBOT
    text = file.read_text()
    file.write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match=r"wx250s\.urdf is not XML: "):
        assets.check(copy, MAIN)


def test_the_suite_checks_the_folder_of_the_config(folder: Path, tmp_path: Path) -> None:
    suite = SUITES.get("PutOnPlateInScene25Main-v3")
    suite.check(EnvConfig(asset_dir=str(folder)))
    with pytest.raises(ValueError, match=f"not in the asset folder {tmp_path}"):
        suite.check(EnvConfig(asset_dir=str(tmp_path)))
    with pytest.raises(ValueError, match=r"leave env\.camera_fov out"):
        suite.check(EnvConfig(asset_dir=str(folder), camera_fov=0.9))
