"""Every config key of siirl: one typed dataclass tree, of which this is the root.

`load.py` fills the tree from YAML and the command line, `checks.py` refuses impossible combinations, and
``docs/config.md`` is generated from here.
"""

from dataclasses import dataclass

from siirl.config.schema.algorithm import (
    ActorConfig,
    AlgorithmConfig,
    CriticConfig,
    DataConfig,
    EmbodiedSamplingConfig,
    FilterGroupsConfig,
    FSDPConfig,
    OptimConfig,
    RefConfig,
)
from siirl.config.schema.env import EmbodiedConfig, EnvConfig, ValEnvConfig, VideoConfig, WorldModelConfig
from siirl.config.schema.keys import key, section
from siirl.config.schema.policy import ActionNoiseConfig, ModelConfig, RolloutConfig, StarVLAConfig, ValKwargsConfig
from siirl.config.schema.trainer import ClusterConfig, DagConfig, EvaluateConfig, TrainerConfig

__all__ = [
    "ActionNoiseConfig",
    "ActorConfig",
    "ActorRolloutRefConfig",
    "AlgorithmConfig",
    "ClusterConfig",
    "Config",
    "CriticConfig",
    "DagConfig",
    "DataConfig",
    "EmbodiedConfig",
    "EmbodiedSamplingConfig",
    "EnvConfig",
    "EvaluateConfig",
    "FSDPConfig",
    "FilterGroupsConfig",
    "ModelConfig",
    "OptimConfig",
    "RefConfig",
    "RolloutConfig",
    "StarVLAConfig",
    "TrainerConfig",
    "ValEnvConfig",
    "ValKwargsConfig",
    "VideoConfig",
    "WorldModelConfig",
]


# A table, one key a line:
# fmt: off


@dataclass
class ActorRolloutRefConfig:
    """Everything around the policy."""

    model: ModelConfig = section(ModelConfig, "The policy.")
    actor: ActorConfig = section(ActorConfig, "The update.")
    ref: RefConfig = section(RefConfig, "The reference of the KL penalty.")
    rollout: RolloutConfig = section(RolloutConfig, "Acting.")
    embodied: EmbodiedConfig = section(EmbodiedConfig, "What is special to robots.")


@dataclass
class Config:
    """The whole tree."""

    data: DataConfig = section(DataConfig, "Prompts.")
    algorithm: AlgorithmConfig = section(AlgorithmConfig, "Filter and advantage.")
    actor_rollout_ref: ActorRolloutRefConfig = section(ActorRolloutRefConfig, "Policy, update, rollout, environment.")
    critic: CriticConfig = section(CriticConfig, "Value model.")
    dag: DagConfig = section(DagConfig, "The pipeline.")
    cluster: ClusterConfig = section(ClusterConfig, "Slots and what lives on them.")
    trainer: TrainerConfig = section(TrainerConfig, "The run.")
    evaluate: EvaluateConfig = section(EvaluateConfig, "Evaluation of a policy.")
    dry_run: bool = key(False, "As siirl plan: print what would be trained, the workflow, what lives on which slot and a memory estimate, and exit.")
