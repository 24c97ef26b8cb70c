#!/usr/bin/env bash
# Install everything the tests need, run linters, type checker and tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh
siirl_setup libero,lora,maniskill,docs,dev
# two hosts in network namespaces, tests/cluster
PATH=$PATH:/sbin:/usr/sbin command -v ip >/dev/null || siirl_apt iproute2 || echo "no iproute2: two hosts will not be tested" >&2
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/lint-imports
.venv/bin/mypy
.venv/bin/hadolint docker/Dockerfile docker/Dockerfile.cpu
NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet # its theme advertises its successor
if [ $# -eq 0 ]; then
  set -- --numprocesses=2 --dist=loadfile # two tests at a time, each file's in one process, in which they share fixtures
fi
exec .venv/bin/python -m pytest "$@"
