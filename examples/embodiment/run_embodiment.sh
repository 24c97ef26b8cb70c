#!/usr/bin/env bash
# Train what a config file describes: run_embodiment.sh CONFIG [key=value …], e.g. run_embodiment.sh libero_10_grpo_openvlaoft.
# CONFIG is a file of configs/ without .yaml, or with --config-dir FOLDER one of that folder, RLinf's for example
# (docs/coming_from_rlinf.md); dry_run=true only prints the plan. On several machines: scripts/launch_cluster.sh says which
# variables to set, and the config says how many machines there are.
set -euo pipefail

SIIRL_DIR=${SIIRL_DIR:-$(realpath "$(dirname "$0")/../..")}
export SIIRL_DIR PYTHONPATH=$SIIRL_DIR${PYTHONPATH:+:$PYTHONPATH}
# shellcheck source=scripts/python.sh
source "$SIIRL_DIR/scripts/python.sh"
if [ $# = 0 ] || [[ $1 == *=* ]]; then
    configs=("$SIIRL_DIR"/configs/*.yaml)
    configs=("${configs[@]##*/}")
    echo "usage: run_embodiment.sh CONFIG [--config-dir FOLDER] [key=value …]; CONFIG is one of: ${configs[*]%.yaml}" >&2
    exit 2
fi
config=${1%.yaml}
shift
export MUJOCO_GL=${MUJOCO_GL:-egl} PYOPENGL_PLATFORM=${PYOPENGL_PLATFORM:-egl}

launch=("$SIIRL_DIR/scripts/launch_cluster.sh")
case " $* " in *" dry_run="[Tt]rue" "*) launch=() ;; esac # a plan needs no cluster
exec "${launch[@]}" "$PYTHON" -m siirl.client.main_dag --config-name="$config" "$@"
