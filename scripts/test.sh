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
if [ $# -gt 0 ]; then
  exec .venv/bin/python -m pytest "$@"
fi
# clusters of two hosts mostly wait for each other: they do so beside all the others
.venv/bin/python -m pytest tests/cluster >.cluster-tests.log 2>&1 &
others=0
.venv/bin/python -m pytest --ignore=tests/cluster || others=$?
clusters=0
wait $! || clusters=$?
cat .cluster-tests.log
exit $((others | clusters))
