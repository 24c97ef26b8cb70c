#!/usr/bin/env bash
# SRPO with a published OpenVLA-OFT 7B checkpoint on LIBERO-Long (on another suite with DATASET=libero_spatial, …).
#
#   MODEL_PATH=…/OpenVLA-AC-PD-1traj-libero-long VJEPA_MODEL_PATH=…/vitg-384.pt bash run_openvla_oft_libero_long.sh [key=value …]
#
# Further arguments are config keys and win over the ones below; dry_run=true only prints the plan.
set -euo pipefail

DATASET=${DATASET:-libero_long}
MODEL_PATH=${MODEL_PATH:?folder of the SFT checkpoint, e.g. \$HOME/models/Sylvest/OpenVLA-AC-PD-1traj-libero-long}
VJEPA_MODEL_PATH=${VJEPA_MODEL_PATH:?V-JEPA 2 weights, e.g. \$HOME/models/vjepa2/vitg-384.pt}
HOME_PATH=${HOME_PATH:-$HOME}
NNODES=${PET_NNODES:-1}
N_GPUS_PER_NODE=${N_GPUS_PER_NODE:-1}
CKPT_PATH=${CKPT_PATH:-ckpts/openvla-oft-7b_srpo_${DATASET}_${NNODES}nodes}

export MUJOCO_GL=${MUJOCO_GL:-egl}
export TENSORBOARD_DIR=${TENSORBOARD_DIR:-tensorboard/openvla-oft-7b_srpo_${DATASET}/$(date +%Y%m%d_%H%M%S)}

# the environment that scripts/quickstart.sh makes, unless another one is active or named
venv=$(dirname "$0")/../../.venv/bin/python
[ -n "${VIRTUAL_ENV:-}" ] || [ ! -x "$venv" ] || PYTHON=${PYTHON:-$venv}

exec "${PYTHON:-python3}" -m siirl.client.main_dag \
    --config-name=embodied_srpo_trainer \
    data.train_files="$HOME_PATH/data/$DATASET/train.parquet" \
    data.val_files="$HOME_PATH/data/$DATASET/validate.parquet" \
    data.train_batch_size=64 \
    data.val_batch_size=496 \
    data.max_prompt_length=256 \
    data.max_response_length=128 \
    algorithm.workflow_type=embodied \
    algorithm.adv_estimator=grpo \
    algorithm.gamma=1.0 \
    algorithm.lam=1.0 \
    algorithm.norm_adv_by_std_in_grpo=True \
    algorithm.embodied_sampling.filter_accuracy=True \
    algorithm.embodied_sampling.accuracy_lower_bound=0.1 \
    algorithm.embodied_sampling.accuracy_upper_bound=0.9 \
    algorithm.embodied_sampling.filter_truncated=False \
    algorithm.embodied_sampling.oversample_factor=1 \
    actor_rollout_ref.model.path="$MODEL_PATH" \
    actor_rollout_ref.model.enable_gradient_checkpointing=True \
    actor_rollout_ref.actor.optim.lr=5e-6 \
    actor_rollout_ref.actor.optim.weight_decay=0.0 \
    actor_rollout_ref.actor.ppo_mini_batch_size=4 \
    actor_rollout_ref.actor.ppo_epochs=1 \
    actor_rollout_ref.actor.grad_clip=1.0 \
    actor_rollout_ref.actor.clip_ratio_high=0.28 \
    actor_rollout_ref.actor.clip_ratio_low=0.2 \
    actor_rollout_ref.actor.entropy_coeff=0.0 \
    actor_rollout_ref.actor.shuffle=True \
    actor_rollout_ref.actor.fsdp_config.param_offload=False \
    actor_rollout_ref.actor.fsdp_config.grad_offload=False \
    actor_rollout_ref.actor.fsdp_config.optimizer_offload=False \
    actor_rollout_ref.rollout.name=hf \
    actor_rollout_ref.rollout.n=8 \
    actor_rollout_ref.rollout.temperature=1.6 \
    actor_rollout_ref.rollout.do_sample=True \
    actor_rollout_ref.rollout.response_length=512 \
    actor_rollout_ref.embodied.embodied_type=openvla-oft \
    actor_rollout_ref.embodied.action_token_len=7 \
    actor_rollout_ref.embodied.action_chunks_len=8 \
    actor_rollout_ref.embodied.video_embedding_model_path="$VJEPA_MODEL_PATH" \
    actor_rollout_ref.embodied.embedding_img_size=384 \
    actor_rollout_ref.embodied.embedding_enable_fp16=True \
    actor_rollout_ref.embodied.embedding_model_offload=False \
    actor_rollout_ref.embodied.center_crop=True \
    actor_rollout_ref.embodied.num_images_in_input=1 \
    actor_rollout_ref.embodied.unnorm_key="$DATASET" \
    actor_rollout_ref.embodied.env.env_type=libero \
    actor_rollout_ref.embodied.env.env_name="$DATASET" \
    actor_rollout_ref.embodied.env.num_envs=16 \
    actor_rollout_ref.embodied.env.max_steps=512 \
    actor_rollout_ref.embodied.env.num_steps_wait=10 \
    actor_rollout_ref.embodied.env.num_trials_per_task=50 \
    actor_rollout_ref.embodied.env.model_family=openvla \
    critic.use_critic_model=False \
    trainer.total_epochs=1000 \
    trainer.save_freq=5 \
    trainer.test_freq=5 \
    trainer.max_actor_ckpt_to_keep=5 \
    trainer.logger="['console','tensorboard']" \
    trainer.project_name="siirl_embodied_$DATASET" \
    trainer.experiment_name=openvla_oft_srpo_fsdp \
    trainer.nnodes="$NNODES" \
    trainer.n_gpus_per_node="$N_GPUS_PER_NODE" \
    trainer.default_local_dir="$CKPT_PATH" \
    trainer.resume_mode=auto \
    trainer.val_before_train=True \
    "$@"
