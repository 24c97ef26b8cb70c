#!/usr/bin/env bash
# Makes a small StarVLA (QwenOFT) start policy: the demonstrations of examples/start_policy, supervised fine-tuning from nothing with
# the L1 loss, and a calibration error that leaves RL something to find out. The libero_*_starvla_cpu_small configs start from one made like that,
# assets/start_policy_starvla.
# Usage: train.sh [folder of demonstrations, made if it is not there] [policy folder, empty or not there yet]
set -euo pipefail
cd "$(dirname "$0")/../.."
work="${1:-data/start_policy}"
out="${2:-runs/starvla}"

if [ ! -e "$work/meta/info.json" ]; then
  mkdir -p "$work"
  siirl collect-demos --suite libero_spatial --tasks 0,2 --trials 0-39 --noise 0.2,0.1,0.0 \
    --out "$work" --workers 2 --image-size 128 --no-antialiasing --max-texture-size 512 --seed 0
fi

siirl sft --demos "$work" --suite libero_spatial --out "$out" --steps "${STEPS:-3000}" --threads "${THREADS:-1}" \
  --seed 0 --architecture examples/starvla/architecture.json --vocabulary examples/start_policy/vocabulary.txt

python examples/start_policy/miscalibrate.py "$out" 0 0 "${OFFSET:-0.12}" --of action
