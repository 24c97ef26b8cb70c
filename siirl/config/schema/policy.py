"""Config keys of the policy and of how it acts."""

from dataclasses import dataclass

from siirl.config.schema.keys import key, section

# A table, one key a line:
# fmt: off


@dataclass
class ActionNoiseConfig:
    """The spread of continuous actions, which are drawn from a Gaussian around what the policy regresses (starvla)."""

    initial_std: float = key(0.1, "Standard deviation that a policy starts with, in normalised actions, which span [−1, 1]; where one lies in the policy folder, that.", above=0)
    min_std: float = key(0.02, "Least standard deviation that is used, whatever was learned.", above=0)
    max_std: float = key(0.5, "Largest one.", above=0)
    per_dimension: bool = key(True, "Each dimension of an action has its own; otherwise all share one.")
    lr: float = key(1e-3, "Learning rate of its logarithm, which is not decayed; 0: it stays as it is.", minimum=0)


@dataclass
class StarVLAConfig:
    """What is special to starvla: what its checkpoint must be, and its un-normalisation."""

    framework_name: str | None = key(None, "Framework that the checkpoint must be of, e.g. QwenOFT; null: whichever it is.")
    expected_action_dim: int | None = key(None, "Dimensions of an action that the checkpoint must have; null: action_token_len says it.", minimum=1)
    expected_num_action_chunks: int | None = key(None, "Actions of a chunk that the checkpoint must predict; null: action_chunks_len says it.", minimum=1)
    action_stats_source: str = key("minmax", "Statistics that scale normalised actions from [−1, 1]: minmax, the extremes; q01q99, the 1 % and 99 % quantiles.", choices=("minmax", "q01q99"))


@dataclass
class ModelConfig:
    """The policy's weights and how they compute."""

    path: str = key("", "Policy folder in Hugging Face layout (config.json, safetensors, tokenizer, dataset_statistics.json).")
    enable_gradient_checkpointing: bool = key(False, "Recompute activations in the backward pass: less memory, more time.")
    lora_rank: int = key(0, "Rank of LoRA adapters: only they are trained, the policy's own weights stay as they are; 0: no adapters, all weights are trained.", minimum=0)
    lora_alpha: int = key(16, "LoRA's scale: an adapter's output is multiplied by lora_alpha / lora_rank.", minimum=1)
    target_modules: list[str] = key(["all-linear"], "Layers with a LoRA adapter: all-linear (every linear layer but the output head), or the ends of names of linear layers, e.g. [q_proj,v_proj].")
    use_torch_compile: bool = key(False, "Compile each transformer block with torch.compile, for rollout and update; costs minutes at the start. On the CPU it needs a C++ compiler.")
    dtype: str = key("bf16", "Computation type of rollout and update; weights and optimizer stay float32.", choices=("fp32", "bf16"))
    action_noise: ActionNoiseConfig = section(ActionNoiseConfig, "The spread of continuous actions.")
    starvla: StarVLAConfig = section(StarVLAConfig, "What is special to starvla.")


@dataclass
class ValKwargsConfig:
    """How the policy acts in validation."""

    do_sample: bool = key(False, "Sample in validation; otherwise act greedily.")
    temperature: float = key(1.0, "Sampling temperature in validation, when do_sample is true.", above=0)
    top_k: int = key(-1, "As rollout.top_k, in validation, when do_sample is true.", minimum=-1)
    top_p: float = key(1.0, "As rollout.top_p, in validation, when do_sample is true.", above=0, maximum=1)
    n: int = key(1, "Episodes per validation prompt; more than 1 needs do_sample.", minimum=1)


@dataclass
class RolloutConfig:
    """How the policy acts in training."""

    name: str = key("hf", "Inference engine: hf runs the policy's own PyTorch modules.", choices=("hf",))
    n: int = key(8, "Episodes per prompt: the GRPO group's size.", minimum=1)
    temperature: float = key(1.6, "Sampling temperature in training.", above=0)
    top_k: int = key(-1, "Draw each action token from its top_k likeliest bins; −1: from all. Log-probs stay those of all bins (docs/policies.md).", minimum=-1)
    top_p: float = key(1.0, "Draw each action token from the fewest likeliest bins with this much probability (nucleus), after temperature and top_k; 1: from all.", above=0, maximum=1)
    do_sample: bool = key(True, "Sample in training; a greedy group has no spread to learn from, so n > 1 needs true.")
    response_length: int = key(520, "Most environment steps that an episode may hold; env.max_steps may not exceed it.", minimum=1)
    pipeline_stage_num: int = key(1, "Policy batches that the simulator slots are split into, so that one part computes while another simulates.", minimum=1)
    val_kwargs: ValKwargsConfig = section(ValKwargsConfig, "Sampling in validation.")
