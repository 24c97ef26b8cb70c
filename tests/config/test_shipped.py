"""The shipped YAML files, and the documented launch command."""

from pathlib import Path

import pytest

from siirl.client.preflight import preflight
from siirl.config.folders import shipped_folder
from siirl.config.keys import KEYS, get_value
from siirl.config.load import config_to_dict, load_config, read_config
from siirl.config.reference import SMALL
from siirl.config.schema import Config
from tests.config.folders import path_override, policy_folder

DOCUMENTED = (Path(__file__).parents[1] / "golden" / "documented_srpo_command.txt").read_text().splitlines()
CONFIGS = sorted(file.stem for file in shipped_folder("configs").glob("*.yaml"))
PIECES = sorted(file.relative_to(shipped_folder("configs")) for file in shipped_folder("configs").glob("*/*.yaml"))


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The overrides of the documented command, with its exported values; both models are stand-ins."""
    video = tmp_path / "vitg-384.pt"
    video.touch()
    names = {"model": policy_folder(tmp_path), "vjepa2": video}
    return [line.format(**names) if "{" in line else line for line in DOCUMENTED]


def test_the_three_entry_points_are_shipped() -> None:
    assert {"embodied_srpo_trainer", "embodied_grpo_trainer", "quickstart"} <= set(CONFIGS)


def test_the_documented_names_are_shipped_each_with_a_small_one() -> None:
    maniskill = {f"maniskill_{a}_{m}" for a in ("ppo", "grpo") for m in ("openvla", "openvlaoft")}
    libero = {f"libero_{suite}_grpo_openvlaoft" for suite in ("10", "spatial", "object", "goal")}
    starvla = {f"libero_{suite}_grpo_starvla" for suite in ("10", "spatial")}
    documented = maniskill | libero | starvla | {"libero_10_ppo_openvlaoft", "opensora_libero_spatial_grpo_openvlaoft"}
    assert documented | {f"{name}{SMALL}" for name in documented} <= set(CONFIGS)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.endswith(SMALL)])
def test_a_small_one_runs_on_a_cpu_with_the_algorithm_of_the_whole(name: str) -> None:
    small, whole = read_config(name).config, read_config(name.removesuffix(SMALL)).config
    assert small.trainer.n_gpus_per_node == 0
    assert small.cluster.component_placement is None
    kind = small.actor_rollout_ref.embodied.env.env_type
    made = {"maniskill": "pickcube", "opensora_wm": "world_model"}  # by the train.sh of examples/
    folder = Path("runs") / made[kind] if kind in made else shipped_folder("assets")
    assert Path(small.actor_rollout_ref.model.path).parent == folder
    assert small.data.train_batch_size * small.actor_rollout_ref.rollout.n == 8
    assert small.trainer.total_training_steps == 2
    kept = {key for key in KEYS if key.startswith(("algorithm.", "critic."))} - {
        "algorithm.filter_groups.max_num_gen_batches"
    }
    different = {key for key in kept if get_value(small, key) != get_value(whole, key)}
    assert different == ({"algorithm.reward"} if kind == "maniskill" else set())


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("libero")])
def test_those_of_libero_pass_every_check_before_a_start(name: str) -> None:
    whole = ["dry_run=true", *(["actor_rollout_ref.model.path=''"] if "starvla" in name else [])]
    load_config(name, [] if name.endswith(SMALL) else whole, more_checks=[preflight])


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("maniskill")])
def test_those_of_maniskill_pass_every_check_of_a_plan(name: str) -> None:
    """Neither assets nor a policy need to be there."""
    load_config(name, ["dry_run=true", "actor_rollout_ref.model.path=''"], more_checks=[preflight])


@pytest.mark.parametrize("name", [name for name in CONFIGS if "openvla" in name or "starvla" in name])
def test_each_run_has_a_folder_and_manifests_of_its_own(name: str) -> None:
    config = read_config(name).config
    assert config.trainer.experiment_name == name
    assert Path(config.trainer.default_local_dir).name == name
    suite = config.actor_rollout_ref.embodied.env.env_name
    owner = name if name.endswith(SMALL) else f"opensora_{suite}" if name.startswith("opensora") else suite
    assert Path(config.data.train_files).parent.name == owner


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_file_composes_and_can_run(name: str, tmp_path: Path) -> None:
    config = load_config(name, [path_override(tmp_path)])
    assert isinstance(config, Config)


@pytest.mark.parametrize("piece", PIECES, ids=str)
def test_every_shipped_piece_can_be_selected(piece: Path, tmp_path: Path) -> None:
    plus = "" if str(piece.parent) in ("env", "model") else "+"  # those two are in the file's defaults
    selection = f"{plus}{piece.parent}={piece.stem}"
    load_config("embodied_srpo_trainer", [selection, path_override(tmp_path), "dry_run=true"])


def test_the_reward_tells_srpo_and_grpo_apart(tmp_path: Path) -> None:
    srpo = load_config("embodied_srpo_trainer", [path_override(tmp_path)])
    grpo = load_config("embodied_grpo_trainer", [path_override(tmp_path)])
    different = {name for name in KEYS if get_value(srpo, name) != get_value(grpo, name)}
    assert different == {"algorithm.reward", "trainer.experiment_name", "trainer.default_local_dir"}


def test_the_documented_command_is_accepted_with_its_values(command: list[str]) -> None:
    config = load_config("embodied_srpo_trainer", command)
    assert len(command) == 65
    assert config.data.train_batch_size == 64
    assert config.actor_rollout_ref.actor.optim.lr == 5e-6
    assert config.actor_rollout_ref.rollout.temperature == 1.6
    assert config.actor_rollout_ref.embodied.unnorm_key == "libero_long"
    assert config.actor_rollout_ref.embodied.env.num_envs == 16
    assert config.trainer.logger == ["console", "tensorboard"]
    assert config.trainer.n_gpus_per_node == 8


def test_the_documented_command_gets_the_documented_defaults(command: list[str], tmp_path: Path) -> None:
    """What embodied_srpo_trainer sets for the small policy must not reach a published policy."""
    (tmp_path / "bare.yaml").write_text("data: {}")
    planned = [*command, "dry_run=true"]
    bare = load_config("bare", planned, tmp_path)
    assert config_to_dict(load_config("embodied_srpo_trainer", planned)) == config_to_dict(bare)


def test_later_values_of_the_documented_command_win(command: list[str]) -> None:
    more = ["dry_run=true", "trainer.nnodes=2", "trainer.logger=['console']"]
    config = load_config("embodied_srpo_trainer", [*command, *more])
    assert (config.trainer.nnodes, config.trainer.logger) == (2, ["console"])
