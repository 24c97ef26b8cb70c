# shellcheck shell=bash
# Sourced by run_openvla_oft_libero_*.sh, with DATASET set: SRPO with a published OpenVLA-OFT 7B checkpoint on that LIBERO suite.
#
#   HOME_PATH=/data bash run_openvla_oft_libero_long.sh [key=value …]
#
# HOME_PATH holds models/Sylvest/OpenVLA-AC-PD-1traj-libero-…, models/vjepa2/vitg-384.pt and, made by siirl, data/; MODEL_PATH and
# VJEPA_MODEL_PATH name the models elsewhere. Every variable below can be exported; arguments are config keys and win over them;
# dry_run=true only prints the plan. On several machines: scripts/launch_cluster.sh says which variables to set.
set -euo pipefail

export SIIRL_DIR=${SIIRL_DIR:-$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")}

# --- paths ---------------------------------------------------------------------------------------------------------------------------
HOME_PATH=${HOME_PATH:-$HOME}
MODEL_PATH=${MODEL_PATH:-$HOME_PATH/models/Sylvest/OpenVLA-AC-PD-1traj-${DATASET/_/-}}
VJEPA_MODEL_PATH=${VJEPA_MODEL_PATH:-$HOME_PATH/models/vjepa2/vitg-384.pt}
TRAIN_DATA_PATH=${TRAIN_DATA_PATH:-$HOME_PATH/data/$DATASET/train.parquet}
TEST_DATA_PATH=${TEST_DATA_PATH:-$HOME_PATH/data/$DATASET/validate.parquet}

need() { # FILE VARIABLE WHAT
    [ -e "$1" ] || { echo "$2=$1 is not there: it names $3" >&2; exit 2; }
}
need "$MODEL_PATH" MODEL_PATH "the folder of the SFT checkpoint (hf download Sylvest/OpenVLA-AC-PD-1traj-${DATASET/_/-} --local-dir …)"
need "$VJEPA_MODEL_PATH" VJEPA_MODEL_PATH "the file of the V-JEPA 2 weights (hf download Sylvest/vjepa2-vit-g --local-dir …)"

# --- machines; torchrun counts them itself ----------------------------------------------------------------------------------------------
NNODES=${GROUP_WORLD_SIZE:-${PET_NNODES:-${NNODES:-1}}}
N_GPUS_PER_NODE=${N_GPUS_PER_NODE:-8}

# --- output --------------------------------------------------------------------------------------------------------------------------
BASE_CKPT_PATH=${BASE_CKPT_PATH:-ckpts}
BASE_TENSORBOARD_PATH=${BASE_TENSORBOARD_PATH:-tensorboard}
CKPT_PATH=${CKPT_PATH:-$BASE_CKPT_PATH/openvla-oft-7b_srpo_${DATASET}_${NNODES}nodes}
export TENSORBOARD_DIR=${TENSORBOARD_DIR:-$BASE_TENSORBOARD_PATH/openvla-oft-7b_srpo_$DATASET/$(date +%Y%m%d_%H%M%S)}

settings=(
    data.train_files="$TRAIN_DATA_PATH"
    data.val_files="$TEST_DATA_PATH"
    data.train_batch_size="${TRAIN_BATCH_SIZE:-64}"
    data.val_batch_size="${VAL_BATCH_SIZE:-496}"
    data.max_prompt_length="${MAX_PROMPT_LENGTH:-256}"
    data.max_response_length="${MAX_RESPONSE_LENGTH:-128}"

    algorithm.workflow_type=embodied
    algorithm.adv_estimator=grpo
    algorithm.gamma="${GAMMA:-1.0}"
    algorithm.lam="${LAM:-1.0}"
    algorithm.norm_adv_by_std_in_grpo=True
    algorithm.embodied_sampling.filter_accuracy="${FILTER_ACCURACY:-True}"
    algorithm.embodied_sampling.accuracy_lower_bound="${ACCURACY_LOWER_BOUND:-0.1}"
    algorithm.embodied_sampling.accuracy_upper_bound="${ACCURACY_UPPER_BOUND:-0.9}"
    algorithm.embodied_sampling.filter_truncated="${FILTER_TRUNCATED:-False}"
    algorithm.embodied_sampling.oversample_factor="${OVERSAMPLE_FACTOR:-1}"

    actor_rollout_ref.model.path="$MODEL_PATH"
    actor_rollout_ref.model.enable_gradient_checkpointing=True

    actor_rollout_ref.actor.optim.lr="${LEARNING_RATE:-5e-6}"
    actor_rollout_ref.actor.optim.weight_decay="${WEIGHT_DECAY:-0.0}"
    actor_rollout_ref.actor.ppo_mini_batch_size="${PPO_MINI_BATCH_SIZE:-4}" # prompts: times ROLLOUT_N_SAMPLES episodes
    actor_rollout_ref.actor.ppo_epochs="${PPO_EPOCHS:-1}"
    actor_rollout_ref.actor.grad_clip="${GRAD_CLIP:-1.0}"
    actor_rollout_ref.actor.clip_ratio_high="${CLIP_RATIO_HIGH:-0.28}"
    actor_rollout_ref.actor.clip_ratio_low="${CLIP_RATIO_LOW:-0.2}"
    actor_rollout_ref.actor.entropy_coeff="${ENTROPY_COEFF:-0.0}"
    actor_rollout_ref.actor.shuffle=True
    actor_rollout_ref.actor.fsdp_config.param_offload=False
    actor_rollout_ref.actor.fsdp_config.grad_offload=False
    actor_rollout_ref.actor.fsdp_config.optimizer_offload=False

    actor_rollout_ref.rollout.name=hf
    actor_rollout_ref.rollout.n="${ROLLOUT_N_SAMPLES:-8}"
    actor_rollout_ref.rollout.temperature="${TEMPERATURE:-1.6}"
    actor_rollout_ref.rollout.do_sample=True
    actor_rollout_ref.rollout.response_length=512

    actor_rollout_ref.embodied.embodied_type="${MODEL_TYPE:-openvla-oft}"
    actor_rollout_ref.embodied.action_token_len="${ACTION_TOKEN_LEN:-7}"
    actor_rollout_ref.embodied.action_chunks_len="${ACTION_CHUNKS_LEN:-8}"
    actor_rollout_ref.embodied.video_embedding_model_path="$VJEPA_MODEL_PATH"
    actor_rollout_ref.embodied.embedding_img_size="${IMG_SIZE:-384}"
    actor_rollout_ref.embodied.embedding_enable_fp16="${ENABLE_FP16:-True}"
    actor_rollout_ref.embodied.embedding_model_offload="${EMBEDDING_MODEL_OFFLOAD:-False}"
    actor_rollout_ref.embodied.center_crop="${CENTER_CROP:-True}"
    actor_rollout_ref.embodied.num_images_in_input="${NUM_IMAGES_IN_INPUT:-1}"
    actor_rollout_ref.embodied.unnorm_key="$DATASET"
    actor_rollout_ref.embodied.env.env_type=libero
    actor_rollout_ref.embodied.env.env_name="$DATASET"
    actor_rollout_ref.embodied.env.num_envs="${NUM_ENVS:-16}" # per rollout worker
    actor_rollout_ref.embodied.env.max_steps="${MAX_EPISODE_STEPS:-512}"
    actor_rollout_ref.embodied.env.num_steps_wait="${NUM_STEPS_WAIT:-10}"
    actor_rollout_ref.embodied.env.num_trials_per_task=50
    actor_rollout_ref.embodied.env.model_family=openvla

    critic.use_critic_model=False

    trainer.total_epochs="${TOTAL_EPOCHS:-1000}"
    trainer.save_freq="${SAVE_FREQ:-5}"
    trainer.test_freq="${TEST_FREQ:-5}"
    trainer.max_actor_ckpt_to_keep="${MAX_CKPT_KEEP:-5}"
    trainer.logger="['console','tensorboard']"
    trainer.project_name="${PROJECT_NAME:-siirl_embodied_$DATASET}"
    trainer.experiment_name="${EXPERIMENT_NAME:-openvla_oft_srpo_fsdp}"
    trainer.nnodes="$NNODES"
    trainer.n_gpus_per_node="$N_GPUS_PER_NODE"
    trainer.default_local_dir="$CKPT_PATH"
    trainer.resume_mode=auto
    trainer.val_before_train="${VAL_BEFORE_TRAIN:-True}"
)
exec "$SIIRL_DIR/examples/embodiment/run_embodiment.sh" embodied_srpo_trainer "${settings[@]}" "$@"
