#!/usr/bin/env bash
# SRPO with OpenVLA-OFT 7B on LIBERO-Long; common.sh says what to set.
DATASET=libero_long
# shellcheck source=examples/embodied_srpo_trainer/common.sh
source "$(dirname "$0")/common.sh"
