"""Config keys of prompts, algorithm and update."""

from dataclasses import dataclass

from siirl.config.schema.keys import key, section

# A table, one key a line:
# fmt: off


@dataclass
class DataConfig:
    """Prompts and their batches."""

    train_files: str = key("data/train.parquet", "Training manifest (Parquet); generated from the simulator's tasks when absent.")
    val_files: str = key("data/validate.parquet", "Validation manifest (Parquet); generated when absent.")
    train_batch_size: int = key(64, "Prompts (groups) per training step.", minimum=1)
    val_batch_size: int = key(496, "Episodes queued at once during validation; every episode is still run exactly once.", minimum=1)
    max_prompt_length: int = key(256, "Longest prompt in tokens, image tokens not counted; a longer instruction is an error.", minimum=1)
    max_response_length: int = key(128, "Most action tokens that one policy forward may emit (chunk × action dimensions).", minimum=1)
    shuffle: bool = key(True, "Draw prompts in a random order, anew every epoch; otherwise in manifest order.")


@dataclass
class EmbodiedSamplingConfig:
    """Which groups train."""

    filter_accuracy: bool = key(True, "Train only on groups whose accuracy lies within the bounds.")
    accuracy_lower_bound: float = key(0.1, "Smallest accuracy that trains (inclusive).", minimum=0, maximum=1)
    accuracy_upper_bound: float = key(0.9, "Largest accuracy that trains (inclusive).", minimum=0, maximum=1)
    filter_truncated: bool = key(False, "Also drop groups that hold an episode ended by env.max_steps.")
    oversample_factor: float = key(
        1.0, "Groups rolled out per generation batch, as a multiple of data.train_batch_size; once enough passed the filter, the rest is cancelled (with trainer.deterministic: run to the end and cut).", minimum=1
    )


@dataclass
class FilterGroupsConfig:
    """Refilling of batches that the filter thinned out."""

    max_num_gen_batches: int = key(
        1, "Generation batches per step at most: a further one is rolled out while fewer than data.train_batch_size groups survived.", minimum=1
    )


@dataclass
class AlgorithmConfig:
    """Reward, filter and advantage."""

    workflow_type: str = key("embodied", "Kind of workflow.", choices=("embodied",))
    reward: str = key("srpo", "Reward: srpo (of an episode; failures by their distance to successes), sparse (of an episode: success 1, failure 0) or env (the simulator's own, of every step).")
    adv_estimator: str = key("grpo", "Advantage estimator: gae (PPO, needs critic.use_critic_model), grpo, dr_grpo (not divided by the standard deviation), rloo or reinforce_plus_plus.")
    gamma: float = key(1.0, "Discount of gae, per chunk or per action as reward_type says; best below 1 with the rewards sparse and env, where the value of an episode's last observation stands for what the time limit cut off. The other estimators score whole episodes: only 1 is allowed with them.", above=0, maximum=1)
    lam: float = key(1.0, "GAE's lambda. The other estimators have no value estimates: only 1 is allowed with them.", minimum=0, maximum=1)
    reward_type: str = key("chunk_level", "With gae, what rewards, values and advantages belong to: chunk_level, a chunk (its rewards are added up); action_level, each action in it.", choices=("chunk_level", "action_level"))
    bootstrap_type: str = key("standard", "With gae: which episodes' last observations are worth what the value head expects: standard, of those that the time limit cut off; always, of those that ended by themselves too, as if there were more to earn.", choices=("standard", "always"))
    reward_scale: float = key(1.0, "With gae: rewards are multiplied by it; it sets the size of values and of their loss.", above=0)
    normalize_advantages: bool = key(True, "With gae: advantages of a batch are shifted and scaled to mean 0 and standard deviation 1.")
    norm_adv_by_std_in_grpo: bool = key(True, "Divide grpo's advantage by the group's standard deviation; dr_grpo is grpo without.")
    logprob_type: str = key(
        "token_level",
        "What has a probability ratio of its own in the loss: token_level, each action token; action_level, each action; chunk_level, each chunk. Entropy and KL are added up likewise.",
        choices=("token_level", "action_level", "chunk_level"),
    )
    embodied_sampling: EmbodiedSamplingConfig = section(EmbodiedSamplingConfig, "Which groups train.")
    filter_groups: FilterGroupsConfig = section(FilterGroupsConfig, "Refilling of filtered batches.")


@dataclass
class OptimConfig:
    """AdamW and its learning rate."""

    lr: float = key(5e-6, "Learning rate of AdamW.", above=0)
    weight_decay: float = key(0.0, "Decoupled weight decay of AdamW.", minimum=0)
    lr_warmup_steps: int = key(0, "Optimizer steps over which the learning rate rises linearly from 0.", minimum=0)
    betas: list[float] = key([0.9, 0.999], "AdamW's decay rates of the first and second moment.")
    eps: float = key(1e-8, "AdamW's epsilon, added to the root of the second moment.", above=0)


@dataclass
class FSDPConfig:
    """What rests in host memory instead of the accelerator's."""

    param_offload: bool = key(False, "The actor's shards of the parameters rest in host memory outside the update. Needs several actor slots: the rollout acts with the very same parameters as a single one.")
    grad_offload: bool = key(False, "Gradients accumulate in host memory between micro-batches (accelerators only).")
    optimizer_offload: bool = key(False, "Optimizer state rests in host memory between updates (accelerators only).")


@dataclass
class ActorConfig:
    """The policy update."""

    optim: OptimConfig = section(OptimConfig, "Optimizer.")
    fsdp_config: FSDPConfig = section(FSDPConfig, "Offloading.")
    ppo_mini_batch_size: int = key(4, "Prompts per optimizer step; times rollout.n gives episodes.", minimum=1)
    ppo_micro_batch_size_per_gpu: int = key(32, "Chunks per forward and backward pass; bounds memory, not the result.", minimum=1)
    ppo_epochs: int = key(1, "Passes over each batch.", minimum=1)
    grad_clip: float = key(1.0, "Largest gradient norm; a larger gradient is scaled down.", above=0)
    clip_ratio_low: float = key(0.2, "PPO's lower clip: ratios below 1 − this stop the gradient.", above=0, maximum=1)
    clip_ratio_high: float = key(0.28, "PPO's upper clip: ratios above 1 + this stop the gradient.", above=0)
    clip_ratio_c: float | None = key(None, "Dual clip: where the advantage is negative, the loss is at most this times its size; null: no such bound.", above=1)
    kl_loss_coef: float = key(0.0, "Weight of a penalty on the KL divergence from the frozen policy in actor_rollout_ref.ref.path; 0: none, and nothing is computed.", minimum=0)
    kl_loss_type: str = key("k3", "Estimator of that divergence, with r = reference / policy probability: k1 −log r, k2 (log r)² / 2, k3 r − 1 − log r.", choices=("k1", "k2", "k3"))
    loss_agg_mode: str = key(
        "token-mean",
        "What weighs the same in the loss: token-mean, every token; seq-mean-token-mean, every episode, whatever its length. "
        "With token-mean, failures outweigh successes, because they last longer. The value loss is a mean over values either way.",
        choices=("token-mean", "seq-mean-token-mean"),
    )
    behavior_weight_cap: float = key(
        5.0, "With trainer.max_staleness > 0: most by which a token's loss is weighted for the ratio of the probability under the weights before the update to that under the ones that acted.", minimum=1
    )
    entropy_coeff: float = key(0.0, "Weight of the entropy bonus.", minimum=0)
    shuffle: bool = key(True, "Shuffle the episodes over mini-batches in every epoch; otherwise prompt by prompt.")


@dataclass
class RefConfig:
    """The frozen policy that the KL penalty refers to."""

    path: str | None = key(None, "Folder of the reference policy, of the same class and sizes as the policy, often the one that training starts from. Only with actor.kl_loss_coef > 0.")


@dataclass
class CriticConfig:
    """The value model."""

    use_critic_model: bool = key(False, "Train a value head on the policy's own network. Only with algorithm.adv_estimator=gae, which needs it.")
    position: str = key("first_action", "Whose last hidden state the value head reads: first_action, where the first action is predicted; last_prompt, the prompt's last token. The same place in openvla.", choices=("first_action", "last_prompt"))
    lr: float = key(1e-3, "Learning rate of the value head.", above=0)
    loss_coef: float = key(0.5, "Weight of the value loss.", above=0)
    clip: float | None = key(0.2, "Values that move further than this from those of the rollout stop the gradient, as in PPO's code; null: no clip.", above=0)
    huber_delta: float = key(10.0, "The value loss is quadratic in errors up to this, and linear beyond.", above=0)
    warmup_steps: int = key(0, "Optimizer steps at the start that train the value head alone.", minimum=0)
