#!/usr/bin/env bash
# Runs COMMAND on one machine or on a Ray cluster of several: start this script on every machine, with the same COMMAND.
#
#   PET_NNODES=2 PET_NODE_RANK=0 MASTER_ADDR=10.0.0.1 scripts/launch_cluster.sh COMMAND …      (and PET_NODE_RANK=1 on the other)
#   torchrun --nnodes=2 --node-rank=0 --master-addr=10.0.0.1 --no-python scripts/launch_cluster.sh COMMAND …
#
# Rank 0 starts a Ray head, waits for the others, runs COMMAND with RAY_ADDRESS set and exits with its code. The others join and
# exit with that code too, or with 1 when rank 0 or the link to it is lost. What was started here is ended on every way out; other
# Ray clusters of the machine are left alone. One machine, or a RAY_ADDRESS that is set: COMMAND runs on rank 0, and nothing is started.
#
#   PET_NNODES, NNODES        machines; torchrun's own count wins (default 1)
#   PET_NODE_RANK, NODE_RANK  this machine's number from 0; torchrun's own wins
#   MASTER_ADDR               name or address of rank 0
#   RAY_MASTER_PORT           port of the Ray head on it (6379); not 10002 to 19999, which Ray's workers use
#   NODE_IP                   this machine's own address, where the one on the way to MASTER_ADDR is not the right one
#   CLUSTER_TIMEOUT           seconds to wait for the head, and for all machines (600)
#   LINK_TIMEOUT              seconds without rank 0 after which the others give up (60)
#   RAY_START_ARGS            more options of "ray start", e.g. --num-cpus=8
#   RAY_AUTH_TOKEN_PATH       file with Ray's token, the same on all machines (~/.ray/auth_token); see docs/cluster.md
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=scripts/python.sh
source "$here/python.sh"

say() { echo "launch_cluster: $*" >&2; }
fail() {
    say "error: $*"
    exit 2
}

[ $# -gt 0 ] || fail "usage: launch_cluster.sh COMMAND …"
nnodes=${GROUP_WORLD_SIZE:-${PET_NNODES:-${NNODES:-1}}}
rank=${GROUP_RANK:-${PET_NODE_RANK:-${NODE_RANK:-0}}}
[[ $nnodes =~ ^[1-9][0-9]*$ ]] || fail "PET_NNODES=$nnodes: allowed: a number of machines from 1"
[[ $rank =~ ^(0|[1-9][0-9]*)$ && $rank -lt $nnodes ]] || fail "PET_NODE_RANK=$rank: allowed with PET_NNODES=$nnodes: 0 to $((nnodes - 1))"
[ "${LOCAL_WORLD_SIZE:-1}" = 1 ] || fail "torchrun starts $LOCAL_WORLD_SIZE processes here: allowed: one per machine, --nproc-per-node=1"

if [ -n "${RAY_ADDRESS:-}" ] && [ "$rank" != 0 ]; then
    say "RAY_ADDRESS is set: rank 0 uses that cluster, and nothing is left to do on rank $rank"
    exit 0
fi
if [ -n "${RAY_ADDRESS:-}" ] || [ "$nnodes" = 1 ]; then
    exec "$@"
fi

[ -n "${MASTER_ADDR:-}" ] || fail "MASTER_ADDR is not set: allowed: the name or address of rank 0, as the other machines reach it"
port=${RAY_MASTER_PORT:-6379}
[[ $port =~ ^[1-9][0-9]{0,4}$ ]] && ((port <= 65535 && (port < 10002 || port > 19999))) ||
    fail "RAY_MASTER_PORT=$port: allowed: a port but for 10002 to 19999, which Ray's workers use"
limit=${CLUSTER_TIMEOUT:-600}
# torchrun's variables describe its own group: what runs in Ray's workers must not take them for its own
unset RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK GROUP_WORLD_SIZE ROLE_RANK ROLE_WORLD_SIZE ROLE_NAME MASTER_PORT
unset "${!TORCHELASTIC_@}"

check_token() {
    export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}
    [ "$RAY_AUTH_MODE" = token ] && [ -z "${RAY_AUTH_TOKEN:-}" ] || return 0
    local file=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
    [ -s "$file" ] || fail "no Ray token in $file: make one with: ray get-auth-token --generate >/dev/null && chmod 600 ~/.ray/auth_token;" \
        "give all machines the same file, or name another with RAY_AUTH_TOKEN_PATH"
    [ "$(stat -Lc %a "$file")" = 600 ] || [ "$(stat -Lc %a "$file")" = 400 ] ||
        fail "$file has mode $(stat -Lc %a "$file"), and others may read Ray's token: chmod 600 $file"
}

# --- what runs beside this script: each in a process group of its own, and ended by the kernel if this script is killed -------------
ray=""     # "ray start --block"
job=""     # what rank 0 waits for
stopped="" # the exit code that a signal asks for

# shellcheck disable=SC2329  # called by traps, like finish
on_signal() { # NAME NUMBER: passed on to the job once; the second signal kills it
    local signal=$1
    [ -z "$stopped" ] || signal=KILL
    stopped=$((128 + $2))
    [ -z "$job" ] || kill "-$signal" -- "-$job" 2>/dev/null || true
}

run() { # COMMAND …: returns its exit code
    set -m
    setpriv --pdeathsig TERM "$@" &
    set +m
    job=$!
    while kill -0 "$job" 2>/dev/null; do wait "$job" 2>/dev/null || true; done # a trapped signal ends wait early
    local code=0
    wait "$job" 2>/dev/null || code=$?
    job=""
    return "$code"
}

start_ray() { # OPTION …
    read -r address interface < <("$PYTHON" "$here/cluster_nodes.py" address "$MASTER_ADDR") && [ -n "$interface" ] ||
        fail "this machine's address is unknown: name it with NODE_IP"
    export SIIRL_GOODBYE=$work/goodbye GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-$interface}
    local more
    read -ra more <<<"${RAY_START_ARGS:-}"
    say "rank $rank of $nnodes: starting Ray on $address"
    set -m
    setpriv --pdeathsig TERM "$PYTHON" -m ray.scripts.scripts start --block --temp-dir="$work/ray" --node-ip-address="$address" \
        --resources="{\"node_rank_$rank\": 1}" "$@" "${more[@]}" >"$work/start.log" 2>&1 </dev/null &
    set +m
    ray=$!
}

# shellcheck disable=SC2329
finish() {
    local code=$? tries=100
    trap - EXIT
    trap '' INT TERM HUP
    if [ -n "$ray" ]; then
        kill -TERM "$ray" 2>/dev/null || true
        while kill -0 "$ray" 2>/dev/null && ((tries-- > 0)); do sleep 0.1; done
        kill -KILL -- "-$ray" 2>/dev/null || true
        wait "$ray" 2>/dev/null || true
    fi
    if [ "$code" = 0 ]; then rm -rf "$work"; else say "rank $rank ends with code $code; Ray's logs are in $work"; fi
    exit "$code"
}

# --- the two parts -------------------------------------------------------------------------------------------------------------------
# shellcheck disable=SC2016  # the inner shell expands them
head_answers() { timeout 2 bash -c ': <>"/dev/tcp/$0/$1"' "$MASTER_ADDR" "$port" 2>/dev/null; }

await_head() {
    local deadline=$((SECONDS + limit))
    until head_answers; do
        [ -z "$stopped" ] || exit "$stopped"
        [ -z "$ray" ] || kill -0 "$ray" 2>/dev/null || lost
        ((SECONDS < deadline)) || fail "no Ray head at $MASTER_ADDR:$port after $limit s: is rank 0 running, is its port open to this machine?"
        sleep 0.5
    done
}

lost() { # Ray ended on this machine
    ray=""
    tail -n 20 "$work/start.log" | sed 's/^/    /' >&2
    if grep -qi 'authentication\|InvalidAuthToken\|auth token' "$work/start.log"; then
        say "error: rank 0 refused Ray's token of rank $rank: all machines need the same one, in RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
    elif grep -q 'Ray runtime started' "$work/start.log"; then
        unreachable
    else
        say "error: Ray did not start on rank $rank"
    fi
    exit 1
}

unreachable() {
    say "error: rank $rank lost rank 0 without a goodbye: that machine is gone, or the link to $MASTER_ADDR is cut"
    exit 1
}

lead() { # COMMAND …
    ! head_answers || fail "something listens on $MASTER_ADDR:$port already: choose a free port with RAY_MASTER_PORT on all machines"
    start_ray --head --port="$port" --include-dashboard=false --disable-usage-stats
    await_head
    local code=0
    run "$PYTHON" "$here/cluster_nodes.py" wait "$address:$port" "$nnodes" "$limit" || code=$?
    [ "$code" != 0 ] || [ -n "$stopped" ] || run env RAY_ADDRESS="$address:$port" "$@" || code=$?
    [ "$code" != 0 ] || code=${stopped:-0}
    run "$PYTHON" "$here/cluster_nodes.py" goodbye "$address:$port" "$nnodes" "$code" || true # it has said who was not reached
    exit "$code"
}

follow() {
    await_head
    start_ray --address="$MASTER_ADDR:$port"
    local heard=$SECONDS
    until [ -s "$work/goodbye" ]; do
        [ -z "$stopped" ] || exit "$stopped"
        kill -0 "$ray" 2>/dev/null || lost
        # Ray itself takes minutes to notice that a cable was cut
        if head_answers; then heard=$SECONDS; fi
        ((SECONDS - heard <= ${LINK_TIMEOUT:-60})) || unreachable
        sleep 0.5
    done
    exit "$(<"$work/goodbye")"
}

check_token
work=$(mktemp -d "${RAY_TMPDIR:-/tmp}/siirl.XXXXXX") # only for us, as what Ray makes in it is not; short, as sockets lie in it
trap finish EXIT
trap 'on_signal INT 2' INT
trap 'on_signal TERM 15' TERM
trap 'on_signal HUP 1' HUP
if [ "$rank" = 0 ]; then lead "$@"; else follow; fi
