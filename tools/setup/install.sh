#!/usr/bin/env bash
# Makes .venv with the tested set of packages and mmv2m itself: `tools/setup/install.sh [all|demo]`.
#
# `all`, the default, is `make install`. `demo` does without mmcv's compiled operators, which
# classification does not need: it installs mmcv-lite, unless onedl-mmcv is there already. Both
# packages own the folder mmcv/; `all` takes mmcv-lite away before it installs onedl-mmcv.
#
# The set-up goes in steps. A finished step leaves a stamp in .venv/.setup with the hash of what it
# was made from: a second run skips it, a run after an interruption resumes there, and a changed
# file in requirements/ repeats only the steps made from it.
#
# Environment: PYTHON (default: the first of Python 3.11, 3.12 and 3.13 that is there), MAX_JOBS
# (compilers at once, default one a core), and pip's own variables, such as PIP_FIND_LINKS for a
# folder with a ready wheel of onedl-mmcv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tools/setup/pythons.sh

readonly base_python=${PYTHON:-$(find_python)}
readonly python=.venv/bin/python stamps=.venv/.setup log=.venv/.setup/pip.log
export PIP_DISABLE_PIP_VERSION_CHECK=1

main() {
    case ${1:-all} in
    all | demo) ;;
    -h | --help)
        sed -n '2,/^set/{s/^# \?//p}' tools/setup/install.sh
        exit
        ;;
    *) die "there is no set $1" 'there are all and demo' ;;
    esac
    exec 9<requirements
    flock --nonblock 9 || { say 'waiting for another set-up in this folder'; flock 9; }
    trap 'die "interrupted" "run the same command again: finished steps are kept"' INT TERM

    [ -x $python ] || rm -rf $stamps
    ! both_mmcv || rm -f $stamps/mmcv*
    step environment
    step build_tools requirements/build.txt
    if [ "${1:-all}" = demo ]; then
        step packages requirements/lock.txt
        { has onedl_mmcv && ! both_mmcv; } || step mmcv_lite requirements/mmcv-lite.txt
    else
        step mmcv_wheel requirements/mmcv.txt <(torch_pin)
        step packages requirements/lock.txt
        step mmcv requirements/mmcv.txt <(torch_pin)
    fi
    step this_package setup.py pyproject.toml mmv2m/version.py <(pwd)
    if has onedl_mmcv; then
        step imports requirements/*.txt
    else
        step demo_imports requirements/*.txt
    fi
}

# --- the steps, in order -------------------------------------------------------------------------

environment() {
    check_system
    check_python
    check_space
    say "making .venv with $base_python; with its downloads this takes some 5 minutes, on a slow"
    say 'network 10, and 6 GB of disk in the end'
    "$base_python" -m venv .venv ||
        die "$base_python could not make .venv" 'see its words above; if a .venv is there, remove it'
    mkdir -p $stamps
}

build_tools() {
    pip_install -r requirements/build.txt
}

# A wheel of onedl-mmcv needs no torch to be installed. So this can come before the big downloads,
# and a missing compiler stops the set-up before them.
mmcv_wheel() {
    rm -f $stamps/mmcv $stamps/mmcv_lite
    remove_mmcv
    if ! $python -m pip --quiet --log $log install --no-deps --only-binary onedl-mmcv \
        -r requirements/mmcv.txt 2>/dev/null; then
        check_compiler
        say 'pip finds no ready wheel of onedl-mmcv for this Python: it will be built from source,'
        say 'after the other packages. The build takes about 17 minutes on 2 cores.'
    fi
}

mmcv_lite() {
    rm -f $stamps/mmcv $stamps/mmcv_wheel
    remove_mmcv
    pip_install -r requirements/mmcv-lite.txt
}

packages() {
    pip_install -r requirements/lock.txt
}

mmcv() {
    if has onedl_mmcv; then return; fi
    check_compiler
    say 'building onedl-mmcv from source: about 17 minutes on 2 cores'
    # Without CUDA's compiler only the operators for the CPU can be built, even where there is a GPU.
    command -v nvcc >/dev/null || export CUDA_VISIBLE_DEVICES=
    # pip's cache does not tell builds for one torch from builds for another.
    MAX_JOBS=${MAX_JOBS:-$(nproc)} pip_install --no-cache-dir -r requirements/mmcv.txt
}

this_package() {
    pip_install --editable .
}

imports() {
    try_imports 'torch, torchvision, cv2, mmcv.ops, mmengine, mmdet, mmseg, mmpretrain, mmv2m'
}

demo_imports() {
    try_imports 'torch, torchvision, cv2, mmcv, mmengine, mmpretrain, mmv2m'
}

try_imports() {
    $python -c "import $1" ||
        die 'the installed packages do not import together' \
            'see the error above; remove .venv and run the same command again'
    say 'finished'
}

# --- what the steps are made of ------------------------------------------------------------------

# step NAME [FILE...]: runs the function NAME unless its stamp says it was done from these files.
step() {
    current=$1
    local name=$1 key
    shift
    key=$(cat /dev/null "$@" | sha256sum)
    [ "$(cat "$stamps/$name" 2>/dev/null)" != "$key" ] || return 0
    rm -f "$stamps/$name"
    forget_half_installed
    "$name"
    echo "$key" >"$stamps/$name"
}

# pip_install ARG...: exactly what is named, as requirements/ is complete; builds use build.txt.
pip_install() {
    rm -f $log
    $python -m pip --log $log install --no-deps --no-build-isolation "$@" || explain_pip_failure
}

# pip writes INSTALLER and RECORD last, and takes a package without them for installed.
forget_half_installed() {
    local info
    for info in .venv/lib/python3.*/site-packages/*.dist-info; do
        [ -f "$info/INSTALLER" ] && [ -f "$info/RECORD" ] || rm -rf "$info"
    done
}

# has NAME: whether a distribution is installed, by the name of its folder.
has() {
    compgen -G ".venv/lib/python3.*/site-packages/$1-*.dist-info" >/dev/null
}

both_mmcv() {
    has onedl_mmcv && has mmcv_lite
}

# Both distributions with a folder mmcv/, whichever are there: one is never installed over the other.
remove_mmcv() {
    $python -m pip --quiet uninstall --yes onedl-mmcv mmcv-lite 2>/dev/null
}

torch_pin() {
    grep '^torch==' requirements/lock.txt
}

explain_pip_failure() {
    local fix="see pip's words above, and all of them in $log"
    if grep -q 'No space left on device' $log; then
        fix="the disk is full: free some 10 GB (pip's downloads go to ${TMPDIR:-/tmp})"
    elif grep -qE 'NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError' $log; then
        fix="the package index was not reached: check the network, or pip's index and proxy settings"
    fi
    die "pip failed in the step '$current'" "$fix; then run the same command again"
}

# --- what this needs of the machine --------------------------------------------------------------

check_system() {
    [ "$(uname -s)" = Linux ] ||
        die 'the tested set is pinned for Linux' 'elsewhere, install the OpenMMLab libraries and then: pip install -e .'
}

check_python() {
    command -v "$base_python" >/dev/null ||
        die "there is no $base_python" \
            'install Python 3.11, 3.12 or 3.13 (Debian and Ubuntu: apt-get install python3-venv), or name it: make install PYTHON=/path/to/python3'
    case " $PYTHONS " in
    *" $(minor_of "$base_python") "*) ;;
    *)
        die "$base_python is none of Python 3.11, 3.12 and 3.13, which the tested set is pinned for" \
            'name one with PYTHON=/path/to/python3'
        ;;
    esac
    [ ! -x $python ] || [ "$(minor_of $python)" = "$(minor_of "$base_python")" ] ||
        die "there is a .venv of another Python than $base_python" 'remove .venv'
    "$base_python" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$base_python has no venv module" \
            "Debian and Ubuntu: apt-get install python3.$(minor_of "$base_python")-venv"
}

# minor_of PYTHON: such as 11 for Python 3.11.
minor_of() {
    "$1" -c 'import sys; print(sys.version_info[1] if sys.version_info[0] == 3 else "")' 2>/dev/null || true
}

check_compiler() {
    local needed='onedl-mmcv has no ready wheel here and must be built from source'
    command -v "${CXX:-c++}" >/dev/null ||
        die "$needed, but there is no C++ compiler" 'Debian: apt-get install g++'
    [ -f "$($python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
        die "$needed, but Python's headers are missing" 'Debian and Ubuntu: apt-get install python3-dev'
}

check_space() {
    local tmp=${TMPDIR:-/tmp} here=7 there=4
    [ "$(stat -c %d .)" != "$(stat -c %d "$tmp")" ] || here=$((here + there))
    check_free . "$here"
    check_free "$tmp" "$there"
}

# check_free FOLDER GIGABYTES
check_free() {
    [ "$(df -Pk "$1" | awk 'NR == 2 { print int($4 / 1e6) }')" -ge "$2" ] ||
        die "less than $2 GB free in $(realpath "$1")" 'free some, or set TMPDIR to a folder on a larger disk'
}

say() {
    echo "set-up: $*"
}

# die WHAT_FAILED WHAT_TO_DO
die() {
    echo "set-up: $1: $2" >&2
    exit 1
}

[ "${BASH_SOURCE[0]}" != "$0" ] || main "$@"
