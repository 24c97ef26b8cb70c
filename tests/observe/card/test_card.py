"""Model cards, read back with the Hub's own library."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from siirl.config.load import read_config
from siirl.config.schema import Config
from siirl.observe.card import Exported, card, is_hub_name
from siirl.observe.card.metadata import front_matter, hub_name
from siirl.observe.metrics import wilson_interval
from siirl.observe.report.run import read_run
from siirl.policies import load_policy

ENV = "actor_rollout_ref.embodied.env"
RESULTS: dict[str, Any] = {
    "complete": True,
    "mode": "greedy",
    "settings": {
        "evaluate.split": "holdout",
        "evaluate.do_sample": False,
        "evaluate.temperature": 1.0,
        f"{ENV}.task_ids": [0],
    },
    "suites": [
        {
            "suite": "libero_spatial",
            "successes": 13,
            "episodes": 20,
            "tasks": [{"task_id": 0, "instruction": "this | that", "successes": 13, "episodes": 20}],
        }
    ],
}


def config_of(*overrides: str) -> Config:
    reading = read_config("quickstart", overrides)
    assert not reading.problems
    return reading.config


def exported(folder: Path, **other: Any) -> Exported:
    """What a card is about; ``folder`` has the start policy."""
    given: dict[str, Any] = {"run": None, "results": None, "base_model": None, "adapters": False, "step": 12}
    given |= {"config": config_of(), "start_digest": "ab" * 32} | other
    return Exported(name="trained", start=folder, **given)


def test_without_numbers_nothing_is_claimed(tmp_path: Path) -> None:
    text = card(exported(tmp_path))
    found = ModelCard(text).data
    assert (found.library_name, found.pipeline_tag) == ("siirl", "robotics")
    assert {"siirl", "robotics", "reinforcement-learning", "openvla-oft", "srpo", "grpo", "libero_spatial"} <= {
        *found.tags
    }
    assert (found.license, found.base_model, found.datasets, found.eval_results) == (None, None, None, None)
    assert "Not measured." in text


def test_an_evaluation_is_shown_with_its_interval(tmp_path: Path) -> None:
    text = card(exported(tmp_path, results=RESULTS))
    rows = {one.metric_type: one for one in ModelCard(text).data.eval_results}
    low, high = wilson_interval(13, 20)
    assert rows["success_rate"].metric_value == 0.65
    assert rows["success_rate_low"].metric_value == pytest.approx(low, abs=1e-4)
    assert rows["success_rate_high"].metric_value == pytest.approx(high, abs=1e-4)
    assert {(one.dataset_type, one.dataset_split, one.task_type) for one in rows.values()} == {
        ("libero_spatial", "holdout", "robotics")
    }
    interval = f"{100 * low:.1f}–{100 * high:.1f} %"
    assert rf"| 0 this \| that | 13 of 20 | 65.0 % | {interval} |" in text
    assert f"| **libero_spatial** | 13 of 20 | 65.0 % | {interval} |" in text
    assert "13 of 20 episodes of libero_spatial (tasks 0, held-out trials, greedy)" in text


def test_a_run_is_shown_until_the_exported_step(made_up: Path, tmp_path: Path) -> None:
    run = read_run(made_up)
    tested, trained = run.episodes.of("val"), run.episodes.of("train").valid()
    step = int(tested.step.max())
    last = tested.where(tested.step == step)
    text = card(exported(tmp_path, run=run, step=step))
    (rate, *_) = ModelCard(text).data.eval_results
    assert rate.metric_value == pytest.approx(last.success.mean(), abs=1e-4)
    assert f"| {step} | {last.success.sum()} of {len(last)} |" in text
    first = trained.where(trained.step == 1)
    assert f"| 1 | {first.success.sum()} of {len(first)} |" in card(exported(tmp_path, run=run, step=5))
    earlier = card(exported(tmp_path, run=run, step=step - 1))
    assert f"| {step} | {last.success.sum()} of" not in earlier
    assert ModelCard(earlier).data.eval_results is None, "that policy was not measured"
    both = card(exported(tmp_path, run=run, results=RESULTS, step=step))
    assert ModelCard(both).data.eval_results[0].metric_value == 0.65


def test_what_the_start_policys_card_says_of_its_license_still_holds(tmp_path: Path) -> None:
    text = "---\nlicense: apache-2.0\ndatasets:\n- owner/demos\nbase_model: else/where\n---\n\n# Start\n\n---\n"
    (tmp_path / "README.md").write_text(text)
    found = ModelCard(card(exported(tmp_path))).data
    assert (found.license, found.datasets, found.base_model) == ("apache-2.0", ["owner/demos"], None)


@pytest.mark.parametrize("text", ["# a card", "---\n- a\n---\n", "---\na: [\n---\n", "text\n---\nlicense: mit\n---\n"])
def test_a_card_without_metadata_tells_nothing(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "README.md").write_text(text)
    assert front_matter(tmp_path / "README.md") == {}
    assert ("is no YAML" in caplog.text) == ("[" in text)


def test_the_base_model_is_named_where_it_is_known(tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "models--owner--a-model" / "snapshots" / "0123"
    assert (hub_name(cached), hub_name(tmp_path)) == ("owner/a-model", None)
    found = ModelCard(card(exported(cached))).data
    assert (found.base_model, found.to_dict()["base_model_relation"]) == ("owner/a-model", "finetune")
    found = ModelCard(card(exported(cached, base_model="other/name", adapters=True))).data
    assert (found.base_model, found.to_dict()["base_model_relation"]) == ("other/name", "adapter")
    assert found.library_name == "peft"
    assert [is_hub_name(name) for name in ("a/b", "a-b/c.d_e", "a", "/a", "a/b/c", "../a", "a/")] == [True] * 2 + [
        False
    ] * 5


def test_no_path_of_this_machine_is_told(tmp_path: Path) -> None:
    secret = tmp_path / "home" / "of-somebody" / "start"
    config = config_of(
        f"actor_rollout_ref.model.path={secret}",
        f"actor_rollout_ref.embodied.video_embedding_model_path={secret.parent}/vjepa2.pt",
        f"{ENV}.video_cfg.video_base_dir={secret.parent}/videos",
        f"data.train_files={secret.parent}/train.parquet",
    )
    text = card(exported(secret, config=config))
    assert str(tmp_path) not in text
    assert "of-somebody" not in text
    assert "| start policy | `start` |" in text
    assert "actor_rollout_ref.embodied.video_embedding_model_path=vjepa2.pt\n" in text


def test_what_it_says_to_type_works() -> None:
    start = Path(__file__).parents[3] / "assets" / "start_policy"
    text = card(exported(start))
    assert ModelCard(text).data.license == "apache-2.0"
    code = text.partition("```python\n")[2].partition("```")[0]
    assert "load_policy" in code
    seen: dict[str, Any] = {}
    exec(compile(code.replace('"FOLDER"', json.dumps(str(start))), "README.md", "exec"), seen)  # noqa: S102  (our own page)
    assert type(seen["policy"]) is type(load_policy(start))
    command = shlex.split(text.partition("```bash\n")[2].partition("```")[0].replace("\\\n", ""))
    assert command[:3] == ["siirl", "evaluate", "FOLDER"]
    wanted = read_config("embodied_srpo_trainer", command[3:])
    assert not wanted.problems
    assert wanted.config.evaluate.split == "holdout"
    assert wanted.config.actor_rollout_ref.embodied.env.image_size == 128
