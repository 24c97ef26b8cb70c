"""V-JEPA 2: golden embedding, both file formats, the evaluation transform, and what is refused."""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from siirl.config.schema import EmbodiedConfig
from siirl.embeddings import vjepa2_weights
from siirl.embeddings.base import ENCODERS
from siirl.embeddings.vjepa2 import load_vjepa2, preprocess
from siirl.embeddings.vjepa2_weights import check_encoder, load_encoder, num_heads

GOLDEN = Path(__file__).parents[1] / "golden"
PUBLISHED = str(GOLDEN / "vjepa2_dev.pt")


@pytest.fixture(scope="module")
def golden() -> tuple[torch.Tensor, torch.Tensor]:
    """frames uint8 [2, 16, 64, 64, 3] and their embeddings [2, 88]."""
    tensors = load_file(GOLDEN / "vjepa2_dev.safetensors")
    return tensors["frames_uint8"].permute(0, 1, 3, 4, 2).contiguous(), tensors["embedding"]


@pytest.fixture
def checkpoint() -> dict:
    """The published checkpoint's tensors, to be damaged."""
    return torch.load(PUBLISHED, weights_only=True)


def test_equals_the_published_encoder(golden: tuple) -> None:
    frames, embedding = golden
    encoder = load_vjepa2(PUBLISHED, 64, 16)
    found = encoder.encode(frames)
    torch.testing.assert_close(found, embedding, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(encoder.encode(frames[1:].numpy()), found[1:], atol=0, rtol=0)


def test_half_precision_stays_near(golden: tuple) -> None:
    frames, embedding = golden
    found = load_vjepa2(PUBLISHED, 64, 16, half=True).encode(frames)
    assert found.dtype == torch.float32
    error = (found - embedding).norm(dim=1)
    assert 0 < error.max() < 0.02 * (embedding[0] - embedding[1]).norm()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The golden encoder in Hugging Face layout."""
    from transformers import VJEPA2Config, VJEPA2Model

    encoder = load_encoder(PUBLISHED, 64, 16)
    names = ("crop_size", "frames_per_clip", "hidden_size", "num_hidden_layers", "num_attention_heads", "mlp_ratio")
    shape = {name: getattr(encoder.config, name) for name in names}
    small_predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    model = VJEPA2Model(VJEPA2Config(**shape, **small_predictor))
    model.encoder.load_state_dict(encoder.state_dict())
    model.save_pretrained(tmp_path / "vjepa2")
    return tmp_path / "vjepa2"


def test_hugging_face_folder_gives_the_same(golden: tuple, folder: Path) -> None:
    torch.testing.assert_close(load_vjepa2(str(folder), 64, 16).encode(golden[0]), golden[1], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"crop_size": 256}, ["crop_size=256", "embedding_img_size is 64", "embedding_img_size=256"]),
        ({"frames_per_clip": 64}, ["frames_per_clip=64", "embedding_num_frames is 16", "embedding_num_frames=64"]),
        ({"num_hidden_layers": 2}, ["num_hidden_layers=2", "have 3 layers", "surplus: encoder.layer.2."]),
        ({"num_hidden_layers": 5}, ["num_hidden_layers=5", "have 3 layers", "missing: encoder.layer.3."]),
    ],
)
def test_weights_of_another_size_than_config_json_says(folder: Path, changes: dict, told: list[str]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ValueError, match=f"^{re.escape(str(folder))}") as error:
        load_vjepa2(str(folder), 64, 16)
    assert [part for part in told if part not in str(error.value)] == []


def test_a_published_width_has_its_published_depth(tmp_path: Path) -> None:
    """Width 192 is ViT-Tiny's, which has 12 blocks."""
    published = {
        "module.backbone.patch_embed.proj.weight": torch.zeros(192, 3, 2, 16, 16),
        **{f"module.backbone.blocks.{i}.mlp.fc1.weight": torch.zeros(768, 192) for i in range(2)},
    }
    torch.save({"encoder": published}, tmp_path / "vitt.pt")
    with pytest.raises(ValueError, match=r"vitt\.pt: 2 blocks, but the published encoder that is 192 wide has 12"):
        load_vjepa2(str(tmp_path / "vitt.pt"), 64, 16)


def test_folder_without_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a V-JEPA 2 folder in Hugging Face layout"):
        load_vjepa2(str(tmp_path), 64, 16)


def test_the_check_reads_no_values(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> None:
        pytest.fail("values were copied or a model was loaded")

    monkeypatch.setattr(torch.nn.Module, "load_state_dict", read)
    monkeypatch.setattr(vjepa2_weights.VJEPA2Model, "from_pretrained", read)
    check_encoder(PUBLISHED, 64, 16)
    check_encoder(str(folder), 64, 16)


@pytest.mark.parametrize(
    ("size", "damage", "told"),
    [
        (64, lambda file: file.unlink(), "there are no weights"),
        (64, lambda file: file.write_bytes(b""), "model.safetensors: no safetensors file, or cut short"),
        (64, lambda file: file.write_bytes(file.read_bytes()[:-1]), "model.safetensors: no safetensors file, or cut"),
        (64, lambda file: file.with_name("config.json").unlink(), "there is no config.json"),
        (64, lambda file: file.with_name("config.json").write_text("{"), "not a V-JEPA 2 folder"),
        (32, lambda file: None, "set actor_rollout_ref.embodied.embedding_img_size=64"),
    ],
)
def test_a_damaged_folder_is_found_by_its_headers(
    folder: Path, size: int, damage: Callable[[Path], object], told: str
) -> None:
    damage(folder / "model.safetensors")
    with pytest.raises(ValueError, match=re.escape(told)):
        check_encoder(str(folder), size, 16)


def test_registered_encoder_follows_the_config(golden: tuple) -> None:
    config = EmbodiedConfig(
        video_embedding_model_path=PUBLISHED,
        embedding_img_size=64,
        embedding_num_frames=16,
        embedding_enable_fp16=False,
        embedding_model_offload=True,
    )
    encoder = ENCODERS.get("vjepa2").load(config, torch.device("cpu"))
    assert encoder.num_frames == 16
    torch.testing.assert_close(encoder.encode(golden[0]), golden[1], atol=2e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="video_embedding_model_path"):
        ENCODERS.get("vjepa2").load(EmbodiedConfig(), torch.device("cpu"))


def test_preprocessing_resizes_the_short_side_and_crops_the_centre() -> None:
    video = torch.randint(0, 256, (2, 90, 120, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = preprocess(video, 112)
    assert pixels.shape == (2, 3, 112, 112)
    # 112 · 256/224 = 128 for the short side, 128 · 120/90 = 170 for the other; the crop starts at (8, 29).
    resized = functional.interpolate(
        video.permute(0, 3, 1, 2).float(), size=(128, 170), mode="bilinear", antialias=True
    )
    levels = (
        pixels * torch.tensor([0.229, 0.224, 0.225])[:, None, None] + torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    )
    torch.testing.assert_close(levels * 255, resized.round()[..., 8:120, 29:141], atol=1e-3, rtol=0)


def test_preprocessing_takes_frames_of_the_right_size_as_they_are() -> None:
    video = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    expected = (video.numpy() / np.float32(255) - mean) / std
    np.testing.assert_allclose(preprocess(video, 64).permute(0, 2, 3, 1), expected, atol=1e-6)


@pytest.mark.parametrize(("width", "heads"), [(88, 4), (384, 6), (1024, 16), (1280, 16), (1408, 22), (1664, 26)])
def test_heads_of_the_published_encoders(width: int, heads: int) -> None:
    assert num_heads(width) == heads


def test_unknown_width_is_refused() -> None:
    with pytest.raises(ValueError, match="no published encoder is 1000 wide"):
        num_heads(1000)


@pytest.mark.parametrize(
    ("size", "frames", "message"), [(60, 16, "embedding_img_size=60"), (64, 7, "embedding_num_frames=7")]
)
def test_sizes_that_do_not_divide_are_refused(size: int, frames: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_vjepa2(PUBLISHED, size, frames)


def test_missing_surplus_and_misshapen_parameters_are_named(checkpoint: dict, tmp_path: Path) -> None:
    encoder = checkpoint["encoder"]
    del encoder["module.backbone.blocks.1.mlp.fc2.bias"]
    encoder["module.backbone.pos_embed"] = torch.zeros(3)
    encoder["module.backbone.norm.weight"] = torch.zeros(5)
    torch.save(checkpoint, tmp_path / "damaged.pt")
    with pytest.raises(
        ValueError, match=r"missing: layer\.1\.mlp\.fc2\.bias; surplus: pos_embed; of another shape: layernorm"
    ):
        load_vjepa2(str(tmp_path / "damaged.pt"), 64, 16)


@pytest.mark.parametrize("content", [{"model": {}}, {"encoder": {"module.backbone.norm.weight": torch.ones(3)}}, [1]])
def test_other_checkpoints_are_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt"):
        load_vjepa2(str(tmp_path / "other.pt"), 64, 16)


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "cut.pt").write_bytes(Path(PUBLISHED).read_bytes()[:100_000])
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("readme", "no tensors")
    torch.save({"encoder": Path("code")}, tmp_path / "objects.pt")
    for name in ("text.pt", "empty.pt", "cut.pt", "zip.pt", "objects.pt"):
        for read in (load_vjepa2, check_encoder):
            with pytest.raises(ValueError, match=f"{name}: not a PyTorch checkpoint"):
                read(str(tmp_path / name), 64, 16)
    with pytest.raises(ValueError, match="does not exist"):
        load_vjepa2(str(tmp_path / "absent.pt"), 64, 16)


def test_wrong_frames_are_refused(golden: tuple) -> None:
    encoder = load_vjepa2(PUBLISHED, 64, 16)
    for frames in (golden[0][:, :8], golden[0].float(), golden[0].permute(0, 1, 4, 2, 3)):
        with pytest.raises(ValueError, match=r"frames must be uint8 \[B, 16, H, W, 3\]"):
            encoder.encode(frames)
