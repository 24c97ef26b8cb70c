"""What an evaluation reads of the config."""

from siirl.config.evaluation import BESIDE, MEANING, SECTIONS, is_read
from siirl.config.keys import KEYS


def test_every_key_that_is_listed_is_one_and_listed_once() -> None:
    assert set(MEANING) | set(BESIDE) <= set(KEYS)
    assert not set(MEANING) & set(BESIDE)
    assert all(any(key.startswith(section) for key in KEYS) for section in SECTIONS)


def test_the_spread_of_actions_decides_how_sampled_episodes_go_and_its_learning_rate_does_not() -> None:
    spread = {key.rpartition(".")[2] for key in MEANING if ".action_noise." in key}
    assert spread == {"initial_std", "min_std", "max_std", "per_dimension"}
    assert not is_read("actor_rollout_ref.model.action_noise.lr")


def test_training_is_not_read_and_a_simulator_is() -> None:
    env = "actor_rollout_ref.embodied.env"
    for key in (
        f"{env}.num_envs",
        f"{env}.val_video_cfg.fps",
        f"{env}.world_model.offload",
        "cluster.component_placement",
    ):
        assert is_read(key)
    for key in ("actor_rollout_ref.actor.optim.lr", f"{env}.video_cfg.fps", "trainer.save_freq"):
        assert not is_read(key)
