#!/usr/bin/env bash
# Makes small policies for ManiSkill's PickCube, an OpenVLA-OFT and an OpenVLA: demonstrations of a scripted expert that is pushed
# about, a vision tower that has learned where things are, then supervised fine-tuning. The maniskill_*_cpu_small configs start from them. See README.md for what was measured.
# Usage: train.sh [work folder] [folder of the policies]
set -euo pipefail
cd "$(dirname "$0")/../.."
work="${1:-data/pickcube}"
out="${2:-runs/pickcube}"
mkdir -p "$work" "$out"

# other seeds than 0 to 199, which train and validate
siirl collect-demos --env maniskill --suite PickCube-v1 --tasks 0 --trials 1000-1609 --noise 0.05 --pushes 0.06 \
  --out "$work" --workers 2 --image-size 128 --camera-fov 0.9 --seed 0

# both policies have the same tower
python examples/pickcube/vision.py --architecture examples/pickcube/openvla_oft.json --out "$out/vision.safetensors"

for kind in openvla_oft openvla; do
  siirl sft --demos "$work" --suite PickCube-v1 --gripper open --frame-every 1 --max-shift 0 \
    --vision "$out/vision.safetensors" --out "$out/$kind" --steps "${STEPS:-3500}" --threads 2 --seed 0 \
    --architecture "examples/pickcube/$kind.json" --vocabulary examples/pickcube/vocabulary.txt
done
