#!/usr/bin/env bash
# Makes the start policy that siirl ships: demonstrations of a scripted expert, then supervised fine-tuning from nothing.
# About 20 minutes for the demonstrations and 4 for the training, on two cores. Usage: train.sh [work folder] [policy folder]
set -euo pipefail
cd "$(dirname "$0")/../.."
work="${1:-data/start_policy}"
out="${2:-assets/start_policy}"
mkdir -p "$work"

python -m siirl.client.collect_demos --suite libero_spatial --tasks 0,2 --trials 0-39 --noise 0.2,0.1,0.0 \
  --out "$work" --workers 2 --image-size 128 --frame-every 3 --no-antialiasing --max-texture-size 512 --seed 0

python -m siirl.client.sft --demos "$work" --out "$out" --steps 600 --threads 2 --seed 0 \
  --architecture examples/start_policy/architecture.json --vocabulary examples/start_policy/vocabulary.txt
