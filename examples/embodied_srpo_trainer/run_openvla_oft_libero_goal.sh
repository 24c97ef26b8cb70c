#!/usr/bin/env bash
# SRPO with OpenVLA-OFT 7B on LIBERO-Goal; common.sh says what to set.
DATASET=libero_goal
# shellcheck source=examples/embodied_srpo_trainer/common.sh
source "$(dirname "$0")/common.sh"
