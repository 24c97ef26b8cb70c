# shellcheck shell=bash
# Sourced: exports PYTHON, the interpreter that siirl runs in, unless the caller named one. An active environment wins over the
# .venv that scripts/quickstart.sh makes.
if [ -z "${PYTHON:-}" ]; then
    PYTHON=$(realpath -s "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../.venv/bin/python")
    if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || [ ! -x "$PYTHON" ]; then
        PYTHON=$(command -v python3) || { echo "no python3 on PATH; name one with PYTHON=…" >&2; exit 2; }
    fi
fi
export PYTHON
