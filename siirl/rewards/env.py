"""The simulator's own reward: dense where it has one, as ManiSkill; LIBERO gives 1 for the action that reaches the goal."""

from siirl.rewards.base import REWARDS, Reward

REWARDS.register("env")(Reward(lambda inputs: inputs.env, per_action=True))
