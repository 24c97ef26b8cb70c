# Sourced by quickstart.sh and test.sh: makes .venv on a bare Debian 12 (or any Linux with Python 3.11 to 3.13 and EGL).
# usage: siirl_setup EXTRAS   e.g. siirl_setup libero,lora,dev

siirl_find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.13 python3; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

siirl_apt() {
    command -v apt-get >/dev/null || { echo "please install: $*" >&2; return 1; }
    local sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    $sudo apt-get update -q
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -yq --no-install-recommends "$@"
}

# Mesa's software renderer for Vulkan, with which ManiSkill draws; nothing where one is that can do it. Debian 12's own (Mesa 22) is
# too old. Of the backports this package alone (and libdrm) is taken: OpenGL, with which LIBERO draws, stays as it is.
siirl_vulkan() {
    local package=mesa-vulkan-drivers backports=/etc/apt/sources.list.d/siirl-backports.list sudo="" python=.venv/bin/python mirror
    [ -x "$python" ] || python=python3
    "$python" -m siirl.envs.maniskill 2>/dev/null && return
    [ "$(id -u)" = 0 ] || sudo="sudo"
    if grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release; then
        package+=/bookworm-backports
        if ! apt-cache policy 2>/dev/null | grep -q bookworm-backports; then
            mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1)
            [ -n "$mirror" ] || { echo "no Debian mirror among apt's sources" >&2 && return 1; }
            echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror% } bookworm-backports main" |
                $sudo tee "$backports" >/dev/null || return
        fi
    fi
    siirl_apt libvulkan1 "$package" &&
        "$python" -m siirl.envs.maniskill
}

siirl_setup() {
    local extras=$1 python stamp
    python=$(siirl_find_python) || { siirl_apt python3 python3-venv && python=$(siirl_find_python); } || {
        echo "siirl needs Python 3.11, 3.12 or 3.13 with venv" >&2
        return 1
    }
    # EGL and Mesa's software renderer must be there to draw; /sbin is on root's path only
    if ! PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -q 'libEGL\.so\.1' ||
        { ! compgen -G '/usr/lib/*/dri/swrast_dri.so' >/dev/null && ! command -v nvidia-smi >/dev/null; }; then
        siirl_apt libegl1 libgl1 libgl1-mesa-dri libglib2.0-0
    fi
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    stamp=.venv/siirl-$(cat setup.py pyproject.toml scripts/setup.sh | sha256sum | cut -c1-16)-$extras
    if [ ! -e "$stamp" ]; then
        echo "installing siirl[$extras] into .venv"
        # PyTorch first, in the release that was tested; pip takes the CPU build where PIP_FIND_LINKS or an index offers one
        .venv/bin/python -m pip install -q --disable-pip-version-check "torch==2.13.0"
        .venv/bin/python -m pip install -q --disable-pip-version-check -e ".[$extras]"
        .venv/bin/python -m pip check
        touch "$stamp"
    fi
    case ",$extras," in *,maniskill,*)
        siirl_vulkan || printf '%s\n' "" "*** ManiSkill CANNOT DRAW on this machine (see above): its tests will be skipped ***" "" >&2 ;;
    esac
    export MUJOCO_GL=${MUJOCO_GL:-egl}
}
