"""Every config key of siirl: one typed dataclass tree. A field's metadata holds its meaning, unit and limits.

`load.py` fills the tree from YAML and the command line, `checks.py` refuses impossible combinations, and
``docs/config.md`` is generated from here.
"""

from dataclasses import dataclass, field
from typing import Any


def key(
    default: Any,
    doc: str,
    *,
    choices: tuple[Any, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
) -> Any:
    """A config key: its default, what it means, and the values allowed (``above`` is an exclusive minimum)."""
    metadata = {"doc": doc, "choices": choices, "minimum": minimum, "maximum": maximum, "above": above}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(kind: type, doc: str) -> Any:
    """A nested group of keys."""
    return field(default_factory=kind, metadata={"doc": doc})


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
    gamma: float = key(1.0, "Discount of gae, per chunk or per action as reward_type says; below 1 with the rewards sparse and env, where the value of an episode's last observation stands for what the time limit cut off. The other estimators score whole episodes: only 1 is allowed with them.", above=0, maximum=1)
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


@dataclass
class VideoConfig:
    """Videos of episodes."""

    save_video: bool = key(False, "Write MP4 files of chosen episodes (docs/videos_and_trackers.md).")
    info_on_video: bool = key(False, "Below each frame: instruction, step, reward so far, what the value head expects, and how the episode ended.")
    video_base_dir: str | None = key(None, "Folder of the videos, with a folder for each step; outside the run folder in a folder named like that and the split. null: videos/train, videos/val or videos/eval in the run folder.")
    fps: int = key(5, "Frames shown per second. There is one per policy forward: with 8 executed actions every 0.4 s of LIBERO (8 steps of 50 ms).", minimum=1, maximum=120)
    max_per_task: int = key(2, "Most videos of a step and task: failures come first, but one of several is a success if there is any.", minimum=1)
    max_total_mb: int = key(1000, "Most space that the folder's videos take, MB; the oldest are removed.", minimum=1)


@dataclass
class WorldModelConfig:
    """A video model that imagines a simulator (docs/world_model.md)."""

    wm_env_type: str = key("libero", "The simulator that it imagines, as env_type knows it: tasks, instructions and episode lengths are that one's.")
    path: str | None = key(None, "Folder of the model in the published layout: config.json, safetensors, vae/, resnet_rm.pth, dataset_statistics.json and dataset/. null only for a plan.")
    initial_image_path: str | None = key(None, "Folder of the recorded first frames that episodes start from; null: dataset in path.")
    stats_path: str | None = key(None, "dataset_statistics.json whose q01 and q99 normalise actions for the model; null: the file in path.")
    model_path: str | None = key(None, "Folder of the transformer's config.json and safetensors, or one of its files; null: path.")
    vae_path: str | None = key(None, "Folder of the autoencoder of frames; null: vae in path.")
    reward_model_path: str | None = key(None, "Weights of the classifier that sees success in a frame; null: resnet_rm.pth in path.")
    chunk: int = key(8, "Actions, and frames imagined for them, per call; the model was trained with it, and the policy's action_chunks_len must be the same.", minimum=1)
    condition_frame_length: int = key(4, "Last frames that the next ones are imagined from, as the model was trained.", minimum=1)
    num_sampling_steps: int = key(10, "Denoising steps of a chunk.", minimum=1)
    use_timestep_transform: bool | None = key(None, "Shift the timesteps of denoising for the size of the frames, as the model was trained; null: as its config.json says, and if that says nothing, true.")
    use_torch_compile: bool = key(False, "Compile the model's blocks with torch.compile at the first chunk; costs minutes.")
    dtype: str = key("bf16", "Computation type of the model.", choices=("fp32", "bf16"))
    success_threshold: float = key(0.5, "An episode has succeeded in the first frame to which the classifier gives at least this probability; 0.5 is as published, where it is rounded.", above=0, maximum=1)
    offload: bool = key(False, "The model rests in host memory between rollouts (accelerators only).")
    batch_size: int | None = key(None, "Most slots imagined at once, which bounds memory; 1: bits do not depend on which slots ask together; null: all that ask.", minimum=1)


@dataclass
class EnvConfig:
    """The simulator: tasks, episodes and rendering."""

    env_type: str = key("libero", "Environment library: libero, maniskill or, for a world model, opensora_wm.")
    env_name: str = key("libero_spatial", "Task suite. For LIBERO: libero_spatial, libero_object, libero_goal, libero_10 (= libero_long), libero_90; for ManiSkill the id of a task, e.g. PickCube-v1.")
    task_ids: list[int] | None = key(None, "Tasks of the suite to use; null: all.")
    num_envs: int = key(2, "Simulator slots per rollout worker.", minimum=1)
    max_steps: int | None = key(None, "Steps after which an episode is truncated; null: the suite's usual number.", minimum=1)
    sim_backend: str = key("cpu", "Where ManiSkill simulates and renders: cpu, one simulator per process; gpu, all num_envs of a rollout worker in one batch, which step together. Where a world model computes.", choices=("cpu", "gpu"))
    asset_dir: str | None = key(None, "ManiSkill only: folder of the assets that some of its tasks need, as its own MS_ASSET_DIR; null: that variable, else ~/.maniskill.")
    num_steps_wait: int = key(10, "LIBERO only: steps with a still arm after each reset, for objects to settle.", minimum=0)
    num_trials_per_task: int = key(50, "Initial states used of each task; with ManiSkill the seeds from 0 on.", minimum=1)
    num_holdout_trials: int = key(
        0, "The last this many of them are for validation only; 0: training and validation use all of them. All of them only with trainer.val_only.", minimum=0
    )
    model_family: str = key("openvla", "Conventions of image orientation and gripper sign.", choices=("openvla",))
    image_size: int = key(256, "Side of the rendered camera images, pixels.", minimum=16)
    camera_fov: float | None = key(None, "ManiSkill only: opening angle of the main camera, radians; a smaller one makes objects larger in the picture; null: the suite's own.", above=0, maximum=3)
    antialiasing: bool = key(True, "LIBERO only: 4× multisampling in the renderer; without it a frame costs half.")
    max_texture_size: int | None = key(
        None, "LIBERO only: shrink textures to this side in a copy cached per user: half the memory, images differ by 0.4 of 255 on average; null: as published.", minimum=64
    )
    step_timeout: float = key(120.0, "Longest time a simulator may take for one chunk or reset, seconds; then it is replaced. trainer.backend=inline cannot interrupt a simulator and waits.", above=0)
    world_model: WorldModelConfig = section(WorldModelConfig, "A world model in the simulator's place; opensora_wm only.")
    video_cfg: VideoConfig = section(VideoConfig, "Videos of training episodes.")
    val_video_cfg: VideoConfig = section(VideoConfig, "Videos of validation and evaluation episodes.")


@dataclass
class ValEnvConfig:
    """Another environment for validation and evaluation, e.g. the simulator that a world model imagines. What is not named here is as in env."""

    env_type: str | None = key(None, "Environment library of validation; null: that of env, and then nothing else is named here.")
    num_envs: int | None = key(None, "As env.num_envs; null: the same.", minimum=1)
    max_steps: int | None = key(None, "As env.max_steps; null: the same.", minimum=1)
    sim_backend: str | None = key(None, "As env.sim_backend; null: the same.", choices=("cpu", "gpu"))
    num_trials_per_task: int | None = key(None, "As env.num_trials_per_task; null: the same.", minimum=1)
    num_holdout_trials: int | None = key(None, "As env.num_holdout_trials: validation runs the last this many trials, or all with 0; null: the same.", minimum=0)


@dataclass
class EmbodiedConfig:
    """What is special to robots: actions, cameras, video embedding, simulator."""

    embodied_type: str = key("openvla-oft", "Policy class: openvla-oft (chunks of actions, decoded in parallel), openvla-oft-l1 (the same with a regression head; only with trainer.val_only), openvla (one action, decoded token by token) or starvla (chunks of continuous actions).")
    action_token_len: int = key(7, "Dimensions of an action.", minimum=1)
    action_chunks_len: int = key(8, "Actions predicted per policy forward; 1 with openvla.", minimum=1)
    num_executed_actions: int | None = key(None, "How many of them, the first ones, are executed before the next forward (receding horizon); only these train. null: all.", minimum=1)
    video_encoder: str = key("auto", "Video encoder: vjepa2, pixels (needs no weights), or auto (vjepa2 when a path is given, else pixels).")
    video_embedding_model_path: str | None = key(None, "V-JEPA 2 weights: a published .pt file or a Hugging Face folder.")
    embedding_img_size: int = key(384, "Side of the frames that vjepa2 sees, pixels; pixels has a grid of its own.", minimum=16)
    embedding_num_frames: int = key(64, "Frames per episode that the video encoder sees, evenly spaced.", minimum=2)
    embedding_enable_fp16: bool = key(True, "Run vjepa2 in half precision (fp16 on GPU, bf16 on CPU); pixels needs none.")
    embedding_model_offload: bool = key(False, "vjepa2 rests in host memory while unused (accelerators only).")
    center_crop: bool = key(True, "Crop the central 90 % of the image's area and resize back, as in the published evaluation.")
    num_images_in_input: int = key(1, "Camera views the policy sees: 1 main, 2 main and wrist; as many as the checkpoint was trained with.", choices=(1, 2))
    unnorm_key: str = key("libero_spatial", "Entry of dataset_statistics.json to un-normalise actions with; <suite> also finds <suite>_no_noops. A suite's must be that of env.env_name.")
    env: EnvConfig = section(EnvConfig, "The simulator.")
    val_env: ValEnvConfig = section(ValEnvConfig, "Another environment for validation.")


@dataclass
class ActorRolloutRefConfig:
    """Everything around the policy."""

    model: ModelConfig = section(ModelConfig, "The policy.")
    actor: ActorConfig = section(ActorConfig, "The update.")
    ref: RefConfig = section(RefConfig, "The reference of the KL penalty.")
    rollout: RolloutConfig = section(RolloutConfig, "Acting.")
    embodied: EmbodiedConfig = section(EmbodiedConfig, "What is special to robots.")


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


@dataclass
class DagConfig:
    """The pipeline."""

    custom_pipeline_fn: str | None = key(None, "module:function(config) that returns a Graph; null: siirl.dag.pipelines.embodied.")


@dataclass
class ClusterConfig:
    """Slots, beside trainer.nnodes and trainer.n_gpus_per_node."""

    component_placement: dict[str, str] | None = key(
        None,
        "Which role lives on which slots: env, rollout, embedding and actor, several of them with commas between, each with all, 0, 0-3, 0-3,8-11 or a list of these. "
        "embedding lives with rollout unless placed itself; null: every role on every slot. One role alone: cluster.component_placement.actor=8-15 (docs/placement.md).",
    )
    num_cpu_slots_per_node: int = key(1, "Slots of a machine without accelerators, each an equal share of its CPU.", minimum=1)


@dataclass
class TrainerConfig:
    """The run: how long, where, on what, and what is kept."""

    total_epochs: int = key(1, "Where total_training_steps is null: train total_epochs × training prompts / data.train_batch_size steps (rounded down, at least 1). Oversampling and refills draw more prompts per step and so pass over them more often.", minimum=1)
    total_training_steps: int | None = key(None, "Training steps, whatever total_epochs says; null: as many as total_epochs gives.", minimum=1)
    save_freq: int = key(5, "Steps between checkpoints, and one at the end; −1: never.", minimum=-1)
    test_freq: int = key(5, "Steps between validations, and one at the end; −1: never.", minimum=-1)
    val_before_train: bool = key(True, "Validate before the first step.")
    val_only: bool = key(False, "Validate once and end: no update, no checkpoint. For policies that cannot be trained, too. The run folder must hold no other results.")
    max_actor_ckpt_to_keep: int = key(5, "Checkpoints kept; older ones are removed.", minimum=1)
    logger: list[str] = key(["console", "tensorboard"], "Where metrics go besides metrics.jsonl.", choices=("console", "tensorboard", "wandb", "swanlab", "trackio"))
    project_name: str = key("siirl_embodied", "Project name for the trackers.")
    experiment_name: str = key("openvla_oft_srpo", "Run name for the trackers.")
    report: bool = key(True, "Write report.html, one page about the run, into the run folder at its end; siirl report writes it at any time.")
    timeline_freq: int = key(5, "Steps between those of which timeline.jsonl holds what every simulator, policy and worker did when, from the first on; −1: none.", minimum=-1)
    max_staleness: int = key(
        0, "Training steps by which the weights that act may lag behind those that are updated: with 1, the next rollout runs while the update does; 0: strictly on-policy, only simulators are reset meanwhile.", minimum=0
    )
    nnodes: int = key(1, "Machines; slots are numbered machine by machine.", minimum=1)
    n_gpus_per_node: int = key(0, "Accelerators per machine, each a slot; 0: cluster.num_cpu_slots_per_node CPU slots.", minimum=0)
    default_local_dir: str = key("ckpts/siirl", "Run folder: checkpoints, metrics.jsonl, config.yaml.")
    tensorboard_dir: str | None = key(None, "TensorBoard log folder; null: $TENSORBOARD_DIR, else tensorboard/ in the run folder.")
    resume_mode: str = key("auto", "auto: newest checkpoint that verifies; disable: start anew; resume_path: trainer.resume_from_path.", choices=("auto", "disable", "resume_path"))
    resume_from_path: str | None = key(None, "global_step_N folder for resume_mode=resume_path.")
    backend: str = key("ray", "ray: node workers and simulators are Ray actors; inline: everything in this process, for a debugger.", choices=("ray", "inline"))
    seed: int = key(0, "Seeds prompts, simulators, sampling and shuffling.", minimum=0, maximum=2**32 - 1)
    deterministic: bool = key(False, "Bit-reproducible on the CPU whatever the timing: the policy acts on one row at a time; slower.")
    cpu_threads: int | None = key(None, "CPU threads of the update on each slot; null: the slot's share of the cores. Acting and embedding use one, because simulators need the others.", minimum=1)


@dataclass
class EvaluateConfig:
    """What siirl.client.evaluate measures; nothing else reads it (docs/evaluation.md)."""

    policy: str | None = key(None, "Policy folder, checkpoint global_step_N, or run folder, which stands for its newest checkpoint; null: actor_rollout_ref.model.path. With a checkpoint every key that is not given has the value of its run.")
    folder: str = key("evaluation", "Where results go. A folder that was begun with the same settings and weights is gone on with.")
    suites: list[str] | None = key(None, "Suites to run, in one table; null: env.env_name alone.")
    split: str = key("all", "all: the first env.num_trials_per_task trials of each task; holdout: the last env.num_holdout_trials of these, which training does not see.", choices=("all", "holdout"))
    rollout_epoch: int = key(1, "Episodes of each trial, each with seeds of its own. The first ones are those that validation in training runs.", minimum=1)
    do_sample: bool = key(False, "Sample; otherwise act greedily.")
    temperature: float = key(1.0, "Sampling temperature, with do_sample.", above=0)
    top_k: int = key(-1, "As rollout.top_k, with do_sample.", minimum=-1)
    top_p: float = key(1.0, "As rollout.top_p, with do_sample.", above=0, maximum=1)


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
