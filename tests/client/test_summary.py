"""The lines that a dry run begins with."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from siirl.client.main_dag import main
from siirl.client.summary import summary
from siirl.config.load import parse_command_line
from siirl.dag.compile import compile_plan
from siirl.dag.pipelines import build_graph
from siirl.training.checkpoint import STATE
from tests.policies.tiny import adapt, tiny_policy
from tests.workers.runs import BY_SEED, ENV, EXACT, TOY, command_line

DRY = {"dry_run": "true"}
GOLDEN = Path(__file__).parents[1] / "golden"
EMBODIED = "actor_rollout_ref.embodied"


def rows(folder: Path, policy: Path | str, *settings: dict[str, Any]) -> dict[str, list[str]]:
    """What the lines of each name say; the title's is empty."""
    config = parse_command_line(command_line(folder, policy, DRY, *settings))
    title, *lines = summary(config, compile_plan(build_graph(config), config)).splitlines()
    found = {"": [title]}
    for line in lines:
        found.setdefault(line[2:14].rstrip(), []).append(line[15:])
    return found


def test_what_would_be_trained(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = sum(tensor.numel() for tensor in load_file(policy / "model.safetensors").values())
    assert size < 1e6
    assert rows(tmp_path, policy, {f"{ENV}.task_ids": "[0,2,3]"}) == {
        "": ["what would be trained"],
        "policy": [f"{policy} (openvla-oft); all {size // 1000} {size % 1000:03} parameters are trained"],
        "tasks": ["3 of libero_spatial: 0, 2-3; episodes of at most 16 steps"],
        "prompts": ["15 for training, 3 for validation"],
        "reward": ["sparse"],
        "steps": ["2, 4 episodes each (2 prompts × 2)"],
        "overlap": [
            "on-policy, only simulators are reset during the update (trainer.max_staleness=0); the policy acts on all slots that "
            "are ready (rollout.pipeline_stage_num=1)"
        ],
        "run folder": [f"{tmp_path}; starts anew"],
    }
    assert main(command_line(tmp_path, policy, DRY)) == 0
    assert capsys.readouterr().out.startswith(f"what would be trained\n  policy       {policy} (openvla-oft); all ")
    assert list(tmp_path.iterdir()) == []


def test_what_each_of_two_environments_is_for(tmp_path: Path) -> None:
    dream = {
        f"{ENV}.env_type": "opensora_wm",
        f"{ENV}.antialiasing": "true",
        f"{EMBODIED}.val_env.env_type": "libero",
        f"{EMBODIED}.val_env.num_envs": 1,
    }
    ends = {}
    for share in (0, 0.25):
        told = rows(tmp_path, "", dream, {f"{EMBODIED}.real_fraction": share, "data.train_batch_size": 4})["tasks"]
        ends[share] = [line.partition(":")[0] for line in told]
    assert ends[0] == ["in opensora_wm, to train", "in libero, to validate"]
    assert ends[0.25] == [
        "in opensora_wm, to train with 75% of the groups",
        "in libero, to train with 25% of the groups and validate",
    ]


def test_with_adapters_only_they_are_trained(policy: Path, tmp_path: Path) -> None:
    with_adapters = tiny_policy()
    adapt(with_adapters, trained=False)
    sizes = {name: p.numel() for name, p in with_adapters.model.named_parameters()}
    adapters, size = sum(n for name, n in sizes.items() if ".lora_" in name), sum(sizes.values())
    (told,) = rows(tmp_path, policy, {"actor_rollout_ref.model.lora_rank": 4})["policy"]
    expected = f"LoRA trains {adapters:,} of {size:,} parameters ({adapters / size:.2%})".replace(",", " ")
    assert told.endswith(expected)
    (told,) = rows(tmp_path, "", {"actor_rollout_ref.model.lora_rank": 32})["policy"]
    assert told.startswith("no folder named (openvla-oft); LoRA trains 1")
    assert told.endswith(" billion parameters (1.43%), in the published 7B")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "srpo, with videos embedded by pixels (auto: video_embedding_model_path is null)"),
        ({f"{EMBODIED}.video_encoder": "pixels"}, "srpo, with videos embedded by pixels"),
        (
            {f"{EMBODIED}.video_embedding_model_path": GOLDEN / "vjepa2_dev.pt"},
            f"srpo, with videos embedded by vjepa2 of {GOLDEN}/vjepa2_dev.pt (auto: video_embedding_model_path is given)",
        ),
    ],
)
def test_which_encoder_auto_means(policy: Path, tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    assert rows(tmp_path, policy, {"algorithm.reward": "srpo"}, settings)["reward"] == [told]


def test_refills_and_shared_prompts_are_told(policy: Path, tmp_path: Path) -> None:
    sampling = "algorithm.embodied_sampling"
    settings = {
        f"{ENV}.num_holdout_trials": 0,
        f"{sampling}.filter_accuracy": "true",
        f"{sampling}.accuracy_upper_bound": 1.0,
        f"{sampling}.oversample_factor": 1.5,
        "algorithm.filter_groups.max_num_gen_batches": 3,
    }
    found = rows(tmp_path, policy, settings)
    assert found["steps"] == ["2, 6 episodes each (3 prompts × 2), at most 3 times over while groups are missing"]
    assert found["prompts"] == ["6 for training, 6 for validation, the same ones (env.num_holdout_trials=0)"]


def test_what_would_be_validated(policy: Path, tmp_path: Path) -> None:
    n = {"actor_rollout_ref.rollout.val_kwargs.n": 3, "actor_rollout_ref.rollout.val_kwargs.do_sample": "true"}
    found = rows(tmp_path, policy, {"trainer.val_only": "true", f"{ENV}.num_holdout_trials": 2}, n)
    assert list(found) == ["", "policy", "tasks", "prompts", "run folder"]
    assert found[""] == ["what would be validated"]
    assert "trained" not in found["policy"][0]
    assert found["prompts"] == ["2, 6 episodes"]
    assert found["run folder"] == [str(tmp_path)]


def test_whether_it_would_resume(copy: Path, start: Path, tmp_path: Path) -> None:
    same = (TOY, EXACT, BY_SEED)
    longer = {"trainer.total_training_steps": 5}
    found = rows(copy, start, *same, longer)
    assert found["run folder"] == [f"{copy}; resumes after step 2 of 5, from {copy}/global_step_2"]
    assert found["pipeline"] == ["tests.workers.runs:rewarded_by_seed"]
    earlier = {"trainer.resume_mode": "resume_path", "trainer.resume_from_path": copy / "global_step_1"}
    (told,) = rows(tmp_path / "new", start, *same, earlier)["run folder"]
    assert told == f"{tmp_path}/new; resumes after step 1 of 2, from {copy}/global_step_1"
    (told,) = rows(copy, start, *same, {"trainer.resume_mode": "disable"})["run folder"]
    assert told == (
        f"{copy}; starts anew (trainer.resume_mode=disable) and sets the checkpoints there aside, the last of step 2"
    )
    (refused,) = rows(copy, start, *same, {"trainer.seed": 7})["run folder"]
    assert refused.startswith(f"{copy}; would be refused: trainer.seed=7: allowed: 0, as in the run of ")
    before = sorted(copy.rglob("*"))
    for step in (1, 2):
        (copy / f"global_step_{step}" / STATE).write_text("{}")
    assert rows(copy, start, *same)["run folder"] == [
        f"{copy}; would be refused: none of its checkpoints has a whole {STATE}"
    ]
    assert sorted(copy.rglob("*")) == before, "nothing is written"
