"""The keys of RLinf's configs (``examples/embodiment/config`` there) and what each is here: one table in five parts.

They are accepted wherever a key is, in YAML and on the command line. ``translate.py`` applies the parts that are more than
another spelling, ``docs/coming_from_rlinf.md`` is generated from all of them.
"""

import re
from dataclasses import dataclass
from typing import Any

ENV = "actor_rollout_ref.embodied.env"
EMBODIED = "actor_rollout_ref.embodied"
ROLLOUT = "actor_rollout_ref.rollout"
ACTOR = "actor_rollout_ref.actor"
MODEL = "actor_rollout_ref.model"
SAMPLING = "algorithm.embodied_sampling"
WORLD_MODEL = f"{ENV}.world_model"
VIDEOS = (
    ("env.train.video_cfg", f"{ENV}.video_cfg"),
    ("env.eval.video_cfg", f"{ENV}.val_video_cfg"),
    ("video_cfg", f"{ENV}.video_cfg"),
)
VIDEO_KEYS = ("save_video", "info_on_video", "video_base_dir", "fps", "max_per_task", "max_total_mb")

# Tables, one key a line:
# fmt: off

ALIASES = {
    "cluster.num_nodes": "trainer.nnodes",
    "cluster.num_gpus_per_node": "trainer.n_gpus_per_node",
    "runner.val_check_interval": "trainer.test_freq",
    "runner.save_interval": "trainer.save_freq",
    "runner.only_eval": "trainer.val_only",
    "runner.logger.log_path": "trainer.default_local_dir",
    "runner.logger.project_name": "trainer.project_name",
    "runner.logger.experiment_name": "trainer.experiment_name",
    "runner.max_prompt_length": "data.max_prompt_length",
    "trainer.logger.wandb.project_name": "trainer.project_name",
    "trainer.logger.wandb.experiment_name": "trainer.experiment_name",
    "algorithm.group_size": f"{ROLLOUT}.n",
    "algorithm.update_epoch": f"{ACTOR}.ppo_epochs",
    "algorithm.shuffle_samples": f"{ACTOR}.shuffle",
    "algorithm.entropy_bonus": f"{ACTOR}.entropy_coeff",
    "algorithm.clip_ratio_low": f"{ACTOR}.clip_ratio_low",
    "algorithm.clip_ratio_high": f"{ACTOR}.clip_ratio_high",
    "algorithm.clip_ratio_c": f"{ACTOR}.clip_ratio_c",
    "algorithm.kl_beta": f"{ACTOR}.kl_loss_coef",
    "algorithm.filter_rewards": f"{SAMPLING}.filter_accuracy",
    "env.train.env_type": f"{ENV}.env_type",
    "env.train.simulator_type": f"{ENV}.env_type",
    "env.train.task_suite_name": f"{ENV}.env_name",
    "env.train.init_params.id": f"{ENV}.env_name",
    "env.train.init_params.camera_heights": f"{ENV}.image_size",
    "env.train.init_params.camera_widths": f"{ENV}.image_size",
    "env.train.init_params.sim_backend": f"{ENV}.sim_backend",
    "env.train.init_params.max_episode_steps": f"{ENV}.max_steps",
    "env.train.max_episode_steps": f"{ENV}.max_steps",
    "env.train.num_images_in_input": f"{EMBODIED}.num_images_in_input",
    "env.eval.task_suite_name": f"{ENV}.env_name",
    "env.eval.init_params.id": f"{ENV}.env_name",
    "env.eval.init_params.camera_heights": f"{ENV}.image_size",
    "env.eval.init_params.camera_widths": f"{ENV}.image_size",
    "env.eval.init_params.sim_backend": f"{ENV}.sim_backend",
    "env.eval.num_images_in_input": f"{EMBODIED}.num_images_in_input",
    "env.train.action_steps_per_chunk": f"{EMBODIED}.num_executed_actions",
    "env.eval.action_steps_per_chunk": f"{EMBODIED}.num_executed_actions",
    "env.train.wm_env_type": f"{WORLD_MODEL}.wm_env_type",
    "env.train.opensora_wm_hf_ckpt_path": f"{WORLD_MODEL}.path",
    "env.train.initial_image_path": f"{WORLD_MODEL}.initial_image_path",
    "env.train.world_model_cfg.stats_path": f"{WORLD_MODEL}.stats_path",
    "env.train.world_model_cfg.chunk": f"{WORLD_MODEL}.chunk",
    "env.train.world_model_cfg.condition_frame_length": f"{WORLD_MODEL}.condition_frame_length",
    "env.train.world_model_cfg.dtype": f"{WORLD_MODEL}.dtype",
    "env.train.world_model_cfg.model.from_pretrained": f"{WORLD_MODEL}.model_path",
    "env.train.world_model_cfg.vae.from_pretrained": f"{WORLD_MODEL}.vae_path",
    "env.train.world_model_cfg.reward_model.from_pretrained": f"{WORLD_MODEL}.reward_model_path",
    "env.train.world_model_cfg.scheduler.num_sampling_steps": f"{WORLD_MODEL}.num_sampling_steps",
    "env.train.world_model_cfg.scheduler.use_timestep_transform": f"{WORLD_MODEL}.use_timestep_transform",
    "rollout.pipeline_stage_num": f"{ROLLOUT}.pipeline_stage_num",
    "rollout.model.model_path": f"{MODEL}.path",
    "rollout.model.precision": f"{MODEL}.dtype",
    "rollout.model_dir": f"{MODEL}.path",
    "rollout.unnorm_key": f"{EMBODIED}.unnorm_key",
    "rollout.sampling_params.do_sample": f"{ROLLOUT}.do_sample",
    "actor.checkpoint_load_path": f"{MODEL}.path",
    "actor.checkpoint_save_path": "trainer.default_local_dir",
    "actor.micro_batch_size": f"{ACTOR}.ppo_micro_batch_size_per_gpu",
    "actor.seed": "trainer.seed",
    "actor.model.model_path": f"{MODEL}.path",
    "actor.model.precision": f"{MODEL}.dtype",
    "actor.model.gradient_checkpointing": f"{MODEL}.enable_gradient_checkpointing",
    "actor.model.action_dim": f"{EMBODIED}.action_token_len",
    "actor.model.num_action_chunks": f"{EMBODIED}.action_chunks_len",
    "actor.model.num_executed_action_chunks": f"{EMBODIED}.num_executed_actions",
    "actor.model.action_stats_source": f"{MODEL}.starvla.action_stats_source",
    "actor.model.starvla.framework_name": f"{MODEL}.starvla.framework_name",
    "actor.model.starvla.expected_action_dim": f"{MODEL}.starvla.expected_action_dim",
    "actor.model.starvla.expected_num_action_chunks": f"{MODEL}.starvla.expected_num_action_chunks",
    "actor.model.starvla.ckpt_path": f"{MODEL}.path",
    "actor.model.center_crop": f"{EMBODIED}.center_crop",
    "actor.model.num_images_in_input": f"{EMBODIED}.num_images_in_input",
    "actor.model.unnorm_key": f"{EMBODIED}.unnorm_key",
    "actor.model.max_prompt_length": "data.max_prompt_length",
    "actor.model.add_value_head": "critic.use_critic_model",
    "actor.optim.lr": f"{ACTOR}.optim.lr",
    "actor.optim.weight_decay": f"{ACTOR}.optim.weight_decay",
    "actor.optim.adam_eps": f"{ACTOR}.optim.eps",
    "actor.optim.lr_warmup_steps": f"{ACTOR}.optim.lr_warmup_steps",
    "actor.optim.clip_grad": f"{ACTOR}.grad_clip",
    "actor.fsdp_config.gradient_checkpointing": f"{MODEL}.enable_gradient_checkpointing",
    **{f"{theirs}.{name}": f"{ours}.{name}" for theirs, ours in VIDEOS for name in VIDEO_KEYS},
}
"""Spelling → our key, with the same value. Both may be given at once as long as they agree."""

EARLIER = {
    "algorithm.rollout_epoch": "env.train.rollout_epoch",
    "algorithm.auto_reset": "env.train.auto_reset",
    "algorithm.ignore_terminations": "env.train.ignore_terminations",
    "algorithm.require_values": "actor.model.add_value_head",
    "algorithm.sampling_params.do_sample": "rollout.sampling_params.do_sample",
    "algorithm.sampling_params.temperature_train": "rollout.sampling_params.temperature_train",
    "algorithm.sampling_params.temperature_eval": "rollout.sampling_params.temperature_eval",
    "algorithm.sampling_params.top_k": "rollout.sampling_params.top_k",
    "algorithm.sampling_params.top_p": "rollout.sampling_params.top_p",
    "algorithm.sampling_params.repetition_penalty": "rollout.sampling_params.repetition_penalty",
    "actor.model.model_name": "actor.model.model_type",
    "rollout.generation_backend": "rollout.backend",
}
"""RLinf's own earlier spelling → its later one, with the same value."""

CHOICES: dict[str, tuple[str, dict[Any, Any]]] = {
    "runner.task_type": ("algorithm.workflow_type", {"embodied": "embodied"}),
    "algorithm.adv_type": (
        "algorithm.adv_estimator",
        {"gae": "gae", "embodied_gae": "gae", "ppo": "gae", "grpo": "grpo", "embodied_grpo": "grpo", "reinpp": "reinforce_plus_plus"},
    ),
    "algorithm.loss_type": (
        "critic.use_critic_model",
        {"actor": False, "embodied_grpo": False, "actor_critic": True, "embodied_ppo": True},
    ),
    "algorithm.kl_penalty": (
        f"{ACTOR}.kl_loss_type",
        {"kl": "k1", "k1": "k1", "mse": "k2", "k2": "k2", "low_var_kl": "k3", "k3": "k3"},
    ),
    "algorithm.sampling_params.use_greedy": (f"{ROLLOUT}.do_sample", {True: False, False: True}),
    "rollout.backend": (f"{ROLLOUT}.name", {"huggingface": "hf"}),
    "actor.model.model_type": (f"{EMBODIED}.embodied_type", {"openvla": "openvla", "openvla_oft": "openvla-oft", "starvla": "starvla"}),
}
"""Their key → ours, and their values → ours."""


@dataclass(frozen=True)
class Only:
    """A setting of theirs that siirl has no choice in: the ``values`` accepted, and why."""

    values: tuple[Any, ...]
    why: str


ONLY = {
    "env.train.ignore_terminations": Only((False,), "an episode ends when the environment says so"),
    "env.train.use_step_penalty": Only((False,), "no reward here has a penalty per step"),
    "env.train.specific_reset_id": Only((None,), f"tasks are chosen with {ENV}.task_ids"),
    "env.train.is_eval": Only((False,), "training draws its own trials"),
    "env.train.only_eval": Only((False,), "training draws its own trials"),
    "env.train.init_params.obj_set": Only(("train",), "a task's variants are environments of their own"),
    "env.eval.init_params.obj_set": Only(("train",), "validation runs the task that is trained; variants are environments of their own"),
    "env.*.init_params.use_multiple_plates": Only((False,), "the scene has one plate"),
    "env.train.world_model_cfg.vae.type": Only(("SDXL",), "frames are encoded one by one by a two-dimensional autoencoder"),
    "env.train.world_model_cfg.reward_model.type": Only(("ResnetRM",), "the classifier is a residual network"),
    "env.train.world_model_cfg.scheduler.type": Only(("rflow",), "frames are drawn by rectified flow"),
    "rollout.sampling_params.repetition_penalty": Only((1,), "action tokens are not penalised for coming again"),
    "actor.training_backend": Only(("fsdp",), "weights are sharded by FSDP2"),
    "actor.fsdp_config.strategy": Only(("fsdp", "fsdp2"), "weights are sharded by FSDP2"),
    "actor.fsdp_config.sharding_strategy": Only(("full_shard",), "weights are sharded over all actor slots"),
    "critic.use_critic_model": Only((False,), "in RLinf's own file it means a model beside the policy; here values come from a head on the policy (actor.model.add_value_head)"),
    "actor.fsdp_config.use_liger_kernel": Only((False,), "the policy runs PyTorch's own kernels"),
    "actor.model.starvla.clip_log_ratio_min": Only((None,), f"{ACTOR}.clip_ratio_low clips ratios"),
    "actor.model.starvla.clip_log_ratio_max": Only((None,), f"{ACTOR}.clip_ratio_high clips ratios"),
    "actor.model.use_film": Only((False,), "FiLM is not built"),
    "actor.model.lora_path": Only((None,), f"adapters start anew; merge earlier ones into the folder of {MODEL}.path"),
    "actor.model.ckpt_path": Only((None,), f"weights come from the folder of {MODEL}.path"),
    "runner.weight_sync_interval": Only((1,), "the next rollout acts with the weights of this step (trainer.max_staleness)"),
    "runner.ckpt_path": Only((None,), f"weights come from the folder of {MODEL}.path"),
    "runner.eval_policy_path": Only((None,), f"weights come from the folder of {MODEL}.path"),
    "reward.use_reward_model": Only((False,), "rewards are algorithm.reward's"),
}
"""Their key (``*``: anything) → the values accepted; another one is refused with the reason."""

UNREAD = {
    "*.group_name": "names of process groups",
    "*.channel.*": "names of queues",
    "*.enable_offload": f"costs memory only; {ACTOR}.fsdp_config and a placement that keeps roles apart save it",
    "weight_syncer.*": "weights are synchronised exactly, in buckets",
    "rollout.gpu_memory_utilization": "the policy's own modules act, without a server",
    "rollout.enforce_eager": f"{MODEL}.use_torch_compile says whether layers are compiled",
    "rollout.mode": "cluster.component_placement says what shares a slot",
    "actor.fsdp.*": "details of FSDP1",
    "actor.fsdp_config.amp.*": f"computation is in {MODEL}.dtype; weights and optimizer stay float32",
    "actor.fsdp_config.amp_autocast.*": f"computation is in {MODEL}.dtype; weights and optimizer stay float32",
    "actor.fsdp_config.mixed_precision.*": f"computation is in {MODEL}.dtype; weights and optimizer stay float32",
    "actor.fsdp_config.grad_scaler.*": "bf16 needs no scaled gradients",
    "actor.fsdp_config.backward_prefetch": "details of FSDP",
    "actor.fsdp_config.forward_prefetch": "details of FSDP",
    "actor.fsdp_config.limit_all_gathers": "details of FSDP",
    "actor.fsdp_config.reshard_after_forward": "details of FSDP",
    "actor.fsdp_config.use_orig_params": "details of FSDP",
    "actor.fsdp_config.fsdp_size": "details of FSDP",
    "actor.fsdp_config.cpu_offload": f"costs memory only; {ACTOR}.fsdp_config says what rests in host memory",
    "actor.fsdp_config.offload_pin_memory": f"costs memory only; {ACTOR}.fsdp_config says what rests in host memory",
    "actor.fsdp_config.enable_gradient_accumulation": "gradients of micro-batches are always added up",
    "actor.tokenizer.*": "the policy folder holds the tokenizer",
    "actor.model.policy_setup": "the environment knows the robot",
    "env.*.policy_setup": "the environment knows the robot",
    "actor.model.add_bias_linear": "the policy folder's config.json says it",
    "actor.model.add_qkv_bias": "the policy folder's config.json says it",
    "actor.model.hidden_size": "the policy folder's config.json says it",
    "actor.model.vocab_size": "the policy folder's config.json says it",
    "actor.model.image_size": "the policy folder's config.json says it",
    "actor.model.use_proprio": "the policy folder's config.json says it",
    "actor.model.implement_version": "both are one class here",
    "actor.model.num_steps": "nothing is denoised",
    "actor.model.rollout_prompt_seq_len": "prompts are padded batch by batch",
    "actor.model.starvla.expected_image_size": "the checkpoint's config.yaml says it",
    "actor.model.starvla.enable_state_input": "the checkpoint's config.yaml says it",
    "actor.model.starvla.clip_log_ratio_level": "algorithm.logprob_type says it",
    "rollout.recompute_logprobs": "log-probs of rollout and update are the same (actor/rollout_train_logprob_diff)",
    "actor.model.attn_implementation": "PyTorch chooses the kernel",
    "actor.model.low_cpu_mem_usage": "loading always holds one tensor beside the weights",
    "actor.model.trust_remote_code": "no code from a folder is ever run",
    "actor.model.do_sample": f"{ROLLOUT}.do_sample says it",
    "runner.seq_length": "a forward has the prompt's tokens and those of a chunk",
    "algorithm.sampling_params.add_BOS": "the policy builds its prompt",
    "algorithm.length_params.*": "a forward emits the tokens of a chunk",
    "rollout.sampling_params.max_new_tokens": "a forward emits the tokens of a chunk",
    "algorithm.n_eval_chunk_steps": "validation runs whole episodes",
    "algorithm.eval_rollout_epoch": f"validation runs every validation trial {ROLLOUT}.val_kwargs.n times",
    "env.eval.rollout_epoch": f"validation runs every validation trial {ROLLOUT}.val_kwargs.n times",
    "env.eval.total_num_envs": f"validation runs every validation trial, on {ENV}.num_envs simulators per rollout worker",
    "env.eval.num_envs": f"validation runs every validation trial, on {ENV}.num_envs simulators per rollout worker",
    "env.eval.num_group": f"validation runs every validation trial {ROLLOUT}.val_kwargs.n times",
    "env.eval.max_steps_per_rollout_epoch": "validation runs whole episodes",
    "env.*.group_size": "algorithm.group_size says it",
    "env.train.num_group": "algorithm.num_group_envs says it",
    "env.train.num_envs": "algorithm.num_group_envs says it",
    "env.*.init_params.num_envs": "env.train.total_num_envs says it",
    "env.eval.auto_reset": "a simulator takes the next episode as soon as it is free",
    "env.eval.ignore_terminations": "an episode ends with its success, which is what counts",
    "env.eval.reward_coef": "success is what counts in validation",
    "env.eval.specific_reset_id": "validation runs every validation trial",
    "env.eval.is_eval": "validation runs every validation trial",
    "env.eval.only_eval": "validation runs every validation trial",
    "env.eval.use_step_penalty": "success is what counts in validation",
    "env.*.use_rel_reward": "the environment says what a step's reward is",
    "env.*.use_fixed_reset_state_ids": "every trial is drawn once an epoch (data.shuffle), a group's episodes start alike",
    "env.*.use_ordered_reset_state_ids": "every trial is drawn once an epoch (data.shuffle), a group's episodes start alike",
    "algorithm.use_fixed_reset_state_ids": "every trial is drawn once an epoch (data.shuffle), a group's episodes start alike",
    "env.*.reset_gripper_open": f"after a reset the arm is kept still for {ENV}.num_steps_wait steps",
    "env.*.seed": "trainer.seed seeds everything",
    "env.train.enable_kir": "episodes start with first frames",
    "env.train.success_reward_threshold": f"the published classifier's probability is rounded before it is compared: {WORLD_MODEL}.success_threshold=0.5",
    "env.train.world_model_cfg.model.enable_*": "PyTorch chooses the kernel",
    "env.train.world_model_cfg.model.type": "the model folder's config.json says it",
    "env.train.world_model_cfg.model.qk_norm": "the model folder's config.json says it",
    "env.train.world_model_cfg.model.action_dim": "the model folder's config.json says it",
    "env.train.world_model_cfg.model.pad_action_num": "the model folder's config.json says it",
    "env.train.world_model_cfg.vae.micro_*": "frames pass the autoencoder in parts",
    "env.train.world_model_cfg.scheduler.sample_method": "a setting of the world model's training",
    "env.*.init_params.obs_mode": "the simulator's own, set by the environment",
    "env.*.init_params.control_mode": "the simulator's own, set by the environment",
    "env.*.init_params.sim_config*": "the simulator's own, set by the environment",
    "env.*.init_params.sensor_configs*": "the simulator's own, set by the environment",
    "env.*.init_params.render_mode": "the simulator's own, set by the environment",
    "env.*.video_cfg.extra_info_on_video": "a video shows instruction, step, reward and value",
}
"""Their key (``*``: anything) → why it means nothing here. Accepted, and told at the start of a run."""
# fmt: on

THEIR_MARK = "runner.task_type"
"""A file that sets this is RLinf's own."""
SAME_NAME = (
    "critic.use_critic_model",
    "algorithm.gamma",
    "algorithm.normalize_advantages",
    "algorithm.reward_type",
    "algorithm.bootstrap_type",
)
"""Keys of ours that mean in RLinf's own file what they mean there."""
THEIR_DEFAULTS: dict[str, Any] = {
    f"{SAMPLING}.filter_accuracy": False,
    f"{ACTOR}.optim.weight_decay": 0.01,
    "trainer.test_freq": -1,
    "trainer.val_before_train": False,
    "trainer.resume_mode": "disable",
    "data.train_files": f"data/${{{ENV}.env_name}}/train.parquet",
    "data.val_files": f"data/${{{ENV}.env_name}}/validate.parquet",
}
"""Our key → its value where RLinf's own file says nothing: what RLinf does then, and manifests of the suite."""


def our_key(name: str) -> str:
    """The key that ``name`` means: ``name`` itself, unless it is another spelling."""
    name = EARLIER.get(name, name)
    return ALIASES.get(name, name)


def holds_names(section: str) -> bool:
    """Whether names of the table lie below ``section``."""
    return any(name.startswith(f"{section}.") for name in (*ALIASES, *ONLY))


def match(name: str, table: dict[str, Any]) -> str | None:
    """The entry of ``table`` that ``name`` falls under, in which ``*`` stands for anything."""
    if name in table:
        return name
    patterns = (key for key in table if "*" in key)
    return next((key for key in patterns if re.fullmatch(re.escape(key).replace(r"\*", ".*"), name)), None)
