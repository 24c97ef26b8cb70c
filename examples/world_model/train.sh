#!/usr/bin/env bash
# Makes what opensora_libero_spatial_grpo_openvlaoft_cpu_small needs, on a CPU and with nothing downloaded: a policy that sees pictures
# alone, rollouts of the expert and of that policy, and a small world model of them. See README.md.
# Usage: train.sh [work folder] [folder of policy and model]; called again, it goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."
work="${1:-data/world_model}"
out="${2:-runs/world_model}"
mkdir -p "$work" "$out"
collect=(siirl collect-demos --suite libero_spatial --tasks 0 --trials 0-39 --workers 2
  --image-size 128 --no-antialiasing --max-texture-size 512 --seed 0)

# the policy: demonstrations, and supervised fine-tuning without proprioception, which no world model knows
"${collect[@]}" --noise 0.2,0.1,0.0 --out "$work/demonstrations"
if [ ! -e "$out/policy" ]; then
  siirl sft --demos "$work/demonstrations" --suite libero_spatial --out "$out/policy.unfinished" --steps "${POLICY_STEPS:-2400}" \
    --threads 2 --seed 0 --architecture examples/world_model/architecture.json --vocabulary examples/start_policy/vocabulary.txt
  mv "$out/policy.unfinished" "$out/policy"
fi

# what the world model learns from: the expert, disturbed, and the policy, which fails in its own ways
"${collect[@]}" --rollouts --max-steps 160 --noise 0.3,0.1 --pushes 0.03 --out "$work/expert"
"${collect[@]}" --rollouts --max-steps 160 --policy "$out/policy" --out "$work/policy"

if [ ! -e "$out/model/training.json" ]; then
  siirl train-world-model --rollouts "$work/expert" "$work/policy" --out "$out/model" --sampling-steps 4 --threads 2 \
    --autoencoder-steps "${AUTOENCODER_STEPS:-4000}" --transformer-steps "${TRANSFORMER_STEPS:-6000}"
fi
