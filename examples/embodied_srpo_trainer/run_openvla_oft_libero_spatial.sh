#!/usr/bin/env bash
# SRPO with OpenVLA-OFT 7B on LIBERO-Spatial; common.sh says what to set.
DATASET=libero_spatial
# shellcheck source=examples/embodied_srpo_trainer/common.sh
source "$(dirname "$0")/common.sh"
