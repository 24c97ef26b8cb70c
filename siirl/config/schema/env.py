"""Config keys of simulators, world models, cameras and videos."""

from dataclasses import dataclass

from siirl.config.schema.keys import key, section

# A table, one key a line:
# fmt: off


@dataclass
class VideoConfig:
    """Videos of episodes."""

    save_video: bool = key(False, "Write MP4 files of chosen episodes (docs/videos_and_trackers.md).")
    info_on_video: bool = key(False, "Below each frame: instruction, step, reward so far, what the value head expects, and how the episode ended.")
    video_base_dir: str | None = key(None, "Folder of the videos, with a folder for each step; outside the run folder in a part of its own, named like the run folder with a digest of its path, and in that by split. null: videos/train, videos/val or videos/eval in the run folder.")
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
    cpu_threads: int | None = key(None, "CPU threads that imagine, with sim_backend=cpu; null: one for each core of the machine, for no simulator needs them meanwhile. Name fewer where several slots of env share it.", minimum=1)
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
    real_fraction: float = key(0.0, "Share of a training step's groups that are rolled out in val_env instead of env: real ones beside imagined ones (docs/world_model.md). They start from the trials that val_env does not hold out. 0: none.", minimum=0, maximum=1)
