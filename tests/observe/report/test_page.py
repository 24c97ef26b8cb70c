"""The page of a run and of several: what it says, in a browser and out of it, and what it does with broken folders."""

import json
import re
import shutil
from pathlib import Path

import pytest

from siirl.client.report import main
from siirl.observe.report import REPORT, write_report
from tests.observe.report.browser import CHROMIUM, DRIVER, MISSING, browser
from tests.observe.report.test_markup import Seen

HOSTILE = '<script>alert("x")</script>'


@pytest.fixture
def copy(made_up: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_up, tmp_path / "copy"))


@pytest.fixture(scope="module")
def page(made_up: Path) -> Path:
    return write_report([made_up], made_up / REPORT)


def seen(page: Path) -> Seen:
    found = Seen()
    found.feed(page.read_text())
    return found


def test_it_has_every_section_and_needs_nothing_else(page: Path) -> None:
    found = seen(page)
    sections = [attributes["id"] for name, attributes in found.tags if name == "section" and "id" in attributes]
    assert sections == [
        *("learning", "tasks", "rewards-and-filter", "time", "one-iteration", "workflow", "episodes", "config"),
        "machine-and-warnings",
    ]
    linked = [a[key] for _, a in found.tags for key in ("src", "href", "data-src") if key in a]
    assert all(link.startswith(("data:", "videos/")) for link in linked)
    assert "http" not in page.read_text().replace("http-equiv", "")
    videos = [link for link in linked if link.startswith("videos/")]
    assert len(videos) == 4
    assert all((page.parent / link).is_file() for link in videos)


def test_what_comes_from_data_is_escaped(copy: Path) -> None:
    for name in ("config.yaml", "plan.json", "journal.jsonl"):
        text = (copy / name).read_text()
        for old in ("made_up_made", '"rollout"', "--config-name=embodied_srpo_trainer"):
            new = json.dumps(HOSTILE) if old.startswith('"') else HOSTILE.replace('"', "'")
            text = text.replace(old, new)
        (copy / name).write_text(text)
    text = write_report([copy], copy / REPORT).read_text()
    assert "alert(" in text
    assert "<script>alert" not in text


def test_two_runs_stand_beside_each_other(
    made_up: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("made_up_made", "the other").replace("num_envs: 4", "num_envs: 5"))
    page = tmp_path / "comparison.html"
    assert main([str(made_up), str(copy), "--out", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    text = seen(page).text
    for part in ("made_up_made", "the other", "actor_rollout_ref.embodied.env.num_envs", "Validation success by time"):
        assert part in text


@pytest.mark.parametrize(
    "absent", ["episodes", "timeline.jsonl", "plan.json", "journal.jsonl", "videos", "config.yaml"]
)
def test_what_is_absent_is_left_out_and_told(copy: Path, absent: str) -> None:
    shutil.rmtree(copy / absent) if (copy / absent).is_dir() else (copy / absent).unlink()
    text = seen(write_report([copy], copy / REPORT)).text
    told = {
        "episodes": "no intervals and rewards: the folder holds no episodes",
        "timeline.jsonl": "no timeline",
        "plan.json": "no workflow",
        "journal.jsonl": "the folder has no journal",
        "videos": "no films",
        "config.yaml": "no config.yaml",
    }
    assert told[absent] in text


def test_a_killed_run_with_torn_files_has_a_page(copy: Path) -> None:
    for name in ("metrics.jsonl", "timeline.jsonl", "journal.jsonl"):
        lines = (copy / name).read_text().splitlines(keepends=True)
        (copy / name).write_text("".join(lines[:-1]) + lines[-1][:20])
    video = next((copy / "videos").iterdir())
    video.write_bytes(video.read_bytes()[:100])
    text = seen(write_report([copy], copy / REPORT)).text
    assert "no end noted" in text
    assert "11 of 12" in text


def test_other_folders_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert main([str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path}: allowed: the folder of a run or of an evaluation" in error
    assert list(tmp_path.iterdir()) == []


def test_a_run_in_a_world_model_tells_what_imagination_is_worth(imagined: Path) -> None:
    found = seen(write_report([imagined], imagined / REPORT))
    assert "imagined-and-real" in [a["id"] for name, a in found.tags if name == "section" and "id" in a]
    assert re.search(r"Correlation over 4 validations: r = 0\.\d\d \(95 %: ", found.text)
    assert re.search(r"Imagination is \d+\.\d.% of the episodes too hopeful", found.text)
    assert "Imagined and real films" in found.text


@pytest.mark.skipif(not (DRIVER and CHROMIUM), reason=MISSING)
def test_a_real_browser_shows_it_without_complaint(page: Path, made_up: Path, imagined: Path, tmp_path: Path) -> None:
    far = tmp_path / ("long" * 30) / made_up.name
    shutil.copytree(made_up, far)
    both = write_report([made_up, far], tmp_path / "comparison.html")
    dreamt = write_report([imagined], imagined / REPORT)
    with browser(tmp_path / "profile") as tab:
        for file in (page, both, dreamt):
            for width in (1280, 390):
                tab.open(file, width)
                size = tab.evaluate("const d = document.documentElement; return [d.scrollWidth, d.clientWidth]")
                assert size == [width, width], "no horizontal scroll"
                outside = "[...document.querySelectorAll('svg *, .card, h1, p')].filter(e => !e.closest('.scroll')"
                assert tab.evaluate(f"return {outside} && e.getBoundingClientRect().right > {width + 1}).length") == 0
                left = "e.getBoundingClientRect().left < e.closest('.card').getBoundingClientRect().left"
                assert tab.evaluate(f"return [...document.querySelectorAll('.y span')].filter(e => {left}).length") == 0
                assert tab.messages() == []
        tab.open(page, 1280)
        tab.evaluate(
            "const hit = document.querySelectorAll('.hit')[3];"
            "hit.dispatchEvent(new PointerEvent('pointermove', {bubbles: true, clientX: 300, clientY: 300}))"
        )
        assert tab.evaluate("return document.getElementById('tip').textContent").startswith("step 3: training ")
