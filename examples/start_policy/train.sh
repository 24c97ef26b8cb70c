#!/usr/bin/env bash
# Makes a start policy like the one that siirl ships: demonstrations of a scripted expert, supervised fine-tuning from nothing
# (24 minutes on one core), and the calibration error that leaves RL something to find out.
# Usage: train.sh [work folder] [policy folder, empty or not there yet]
set -euo pipefail
cd "$(dirname "$0")/../.."
work="${1:-data/start_policy}"
out="${2:-runs/start_policy}"
mkdir -p "$work"

siirl collect-demos --suite libero_spatial --tasks 0,2 --trials 0-39 --noise 0.2,0.1,0.0 \
  --out "$work" --workers 2 --image-size 128 --no-antialiasing --max-texture-size 512 --seed 0

siirl sft --demos "$work" --suite libero_spatial --out "$out" --steps 2400 --threads 1 --seed 0 \
  --architecture examples/start_policy/architecture.json --vocabulary examples/start_policy/vocabulary.txt

python examples/start_policy/miscalibrate.py "$out" 0 0 0.015
