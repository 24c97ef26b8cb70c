"""The model card of an exported policy, and the evaluation that it shows."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from siirl.client import export as command
from siirl.observe.results import read_results, write_results
from siirl.training.run_folder import weights_digest
from tests.client.evaluations import evaluate


@pytest.fixture(scope="module")
def results(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of the run's newest checkpoint."""
    folder = tmp_path_factory.mktemp("evaluation")
    evaluate(folder, run)
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert command.main([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


def test_it_tells_of_the_run(run: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "my-policy"
    assert command.main([str(run), str(out), "--step", "1", "--base-model", "owner/start"]) == 0
    assert "card       README.md" in capsys.readouterr().out
    card = ModelCard.load(out / "README.md")
    assert (card.data.base_model, card.data.library_name) == ("owner/start", "siirl")
    assert {"toy", "sparse", "grpo"} <= set(card.data.tags)
    assert weights_digest(start) in card.text
    assert "| steps | 1, of 2 prompts × 2 episodes each |" in card.text
    assert "| 1 | " in card.text.partition("### Training episodes")[2]
    assert "| 2 | " not in card.text, "of the second step this policy knows nothing"
    assert "card of the start policy" not in card.text
    assert str(start) not in card.text
    assert str(run) not in card.text


def test_an_evaluation_of_the_checkpoint_is_shown(run: Path, results: Path, tmp_path: Path) -> None:
    assert command.main([str(run), str(tmp_path / "out"), "--results", str(results)]) == 0
    (suite,) = read_results(results)["suites"]
    rate, *_ = ModelCard.load(tmp_path / "out" / "README.md").data.eval_results
    assert rate.metric_value == pytest.approx(suite["successes"] / suite["episodes"], abs=1e-4)
    assert (rate.dataset_type, suite["episodes"]) == ("toy", 8)


def test_an_evaluation_of_an_earlier_export_is_as_good(run: Path, results: Path, tmp_path: Path) -> None:
    assert command.main([str(run), str(tmp_path / "first")]) == 0
    of_folder = Path(shutil.copytree(results, tmp_path / "results"))
    write_results(of_folder, read_results(results) | {"weights": weights_digest(tmp_path / "first")})
    assert command.main([str(run), str(tmp_path / "second"), "--results", str(of_folder)]) == 0
    assert ModelCard.load(tmp_path / "second" / "README.md").data.eval_results


def test_an_evaluation_of_other_weights_is_refused(
    run: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, run, tmp_path / "out", "--step", 1, "--results", results)
    assert "is about other weights" in error
    assert "global_step_1" in error
    assert not (tmp_path / "out").exists()


def test_an_evaluation_that_is_none_or_goes_on_is_refused_at_once(
    run: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no folder of an evaluation" in refused(capsys, run, tmp_path / "out", "--results", run)
    begun = Path(shutil.copytree(results, tmp_path / "begun"))
    content = read_results(results) | {"complete": False}
    write_results(begun, {key: value for key, value in content.items() if key not in ("total", "suites")})
    assert "is not complete" in refused(capsys, run, tmp_path / "out", "--results", begun)
    assert not (tmp_path / "out").exists()


def test_checkpoints_alone_have_a_card_without_numbers(copy: Path, tmp_path: Path) -> None:
    for file in copy.iterdir():
        if not file.name.startswith("global_step_"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    assert command.main([str(copy), str(tmp_path / "out")]) == 0
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.eval_results is None
    assert "Not measured." in card.text


def test_a_name_that_the_hub_cannot_have_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        command.main([str(run), str(tmp_path / "out"), "--base-model", "../start"])
    assert left.value.code == 2
    assert not (tmp_path / "out").exists()


def test_an_evaluation_writes_none(results: Path) -> None:
    assert json.loads((results / "results.json").read_text())["complete"]
    assert not list(results.rglob("README.md"))
