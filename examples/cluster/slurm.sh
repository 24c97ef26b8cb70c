#!/usr/bin/env bash
#SBATCH --job-name=siirl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --output=%x-%j.log
# Runs COMMAND on all machines of a Slurm job; submit it from the repository, on a file system that all machines share:
#   sbatch examples/cluster/slurm.sh bash examples/embodied_srpo_trainer/run_openvla_oft_libero_long.sh
#   sbatch examples/cluster/slurm.sh scripts/launch_cluster.sh .venv/bin/siirl train trainer.nnodes=2 …
# Every machine runs COMMAND, and launch_cluster.sh in it makes them a cluster.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: sbatch [options] examples/cluster/slurm.sh COMMAND …" >&2; exit 2; }

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR PET_NNODES=$SLURM_JOB_NUM_NODES RAY_MASTER_PORT=${RAY_MASTER_PORT:-$((20000 + SLURM_JOB_ID % 10000))}

# a token for this job alone, in a file that only this user reads
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$PWD/.ray_token_$SLURM_JOB_ID
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT
(umask 077 && head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH")

# not killed by Slurm when one fails: rank 0 tells the others how it ended
# shellcheck disable=SC2016  # each machine expands its own number
srun --kill-on-bad-exit=0 bash -c 'PET_NODE_RANK=$SLURM_NODEID exec "$@"' launch "$@"
