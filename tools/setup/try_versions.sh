#!/usr/bin/env bash
# Tests on another PyTorch or Python: `tools/setup/try_versions.sh TORCH [TEST...]`.
#
# TORCH is a version of PyTorch, such as 2.8.0, or `pinned` for that of requirements/lock.txt; TEST
# are arguments of pytest, by default the tests of the operators and models.
#
# The environment is a folder of its own below ${TMPDIR:-/tmp}, which is removed at the end: the
# packages of requirements/lock.txt, TORCH with the torchvision that fits it, and mmcv-lite, so that
# nothing is compiled. That takes 6 GB of disk, and some 4 minutes of downloads.
#
# Environment: PYTHON (default: the one that `make install` takes), WORKERS (processes of the tests,
# default 2), KEEP=1 to keep the environment for the next time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tools/setup/pythons.sh

main() {
    case ${1:---help} in
    -h | --help)
        sed -n '2,/^set/{s/^# \?//p}' tools/setup/try_versions.sh
        exit $(($# == 0))
        ;;
    esac
    local torch=$1 python=${PYTHON:-$(find_python)}
    shift
    [ $# -gt 0 ] || set -- tests/test_ops tests/test_models tests/test_utils/test_complexity.py
    folder=${TMPDIR:-/tmp}/mmv2m-$(basename "$python")-torch-$torch
    [ -n "${KEEP:-}" ] || trap 'rm -rf "$folder"' EXIT
    if [ ! -f "$folder/ready" ]; then
        rm -rf "$folder"
        "$python" -m venv "$folder"
        install_packages "$torch"
        touch "$folder/ready"
    fi
    export OMP_NUM_THREADS=1 PYTHONPATH=$PWD
    "$folder/bin/python" -c 'import sys, torch; print("Python", sys.version, "PyTorch", torch.__version__)'
    "$folder/bin/python" -m pytest -q -n "${WORKERS:-2}" --dist loadfile -p no:cacheprovider "$@"
}

install_packages() {
    local left_out='#'
    pip_install -r requirements/build.txt
    if [ "$1" != pinned ]; then
        pip_install "torch==$1" torchvision
        left_out='#|(torch|torchvision|triton|sympy|nvidia-[a-z0-9-]*|cuda-[a-z-]*)=='
    fi
    grep -vE "^($left_out)" requirements/lock.txt >"$folder/packages.txt"
    pip_install --no-deps --no-build-isolation -r "$folder/packages.txt" -r requirements/mmcv-lite.txt
}

pip_install() {
    "$folder/bin/python" -m pip --quiet --disable-pip-version-check install "$@"
}

main "$@"
