#!/usr/bin/env bash
# Train a small VLA policy with SRPO on LIBERO, on a laptop's CPU, with nothing downloaded but packages.
# Run again, it goes on from its checkpoint for as many steps.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh
siirl_setup libero

steps=6
run=runs/quickstart
done_so_far=0
[ -f $run/latest_checkpointed_iteration.txt ] && done_so_far=$(cat $run/latest_checkpointed_iteration.txt)
total=$((done_so_far + steps))
if [ "$done_so_far" -gt 0 ]; then
    echo "continuing $run from step $done_so_far to step $total"
fi
.venv/bin/siirl train --config-name=quickstart trainer.total_training_steps=$total
cat <<END

curves:      .venv/bin/tensorboard --logdir $run/tensorboard
checkpoint:  $run/global_step_$(cat $run/latest_checkpointed_iteration.txt)
next:        bash scripts/quickstart.sh          (six more steps, from that checkpoint)
END
