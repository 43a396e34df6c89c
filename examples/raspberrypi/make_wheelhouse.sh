#!/bin/sh
# All that edgeslm[translate] needs on a 64-bit Raspberry Pi OS, in ./wheelhouse, to be installed there without a network:
#
#     make_wheelhouse.sh EDGESLM_WHEEL [PYTHON_VERSION]        such as dist/edgeslm-0.1.0-cp311-abi3-linux_aarch64.whl 3.11
#
# Only ready wheels are taken, so that nothing has to be compiled on the board.
set -eu
case "${1-}" in
*aarch64*.whl) wheel=$1 ;;
*) echo "usage: $0 EDGESLM_WHEEL [PYTHON_VERSION]; the wheel must be for aarch64" >&2; exit 2 ;;
esac
python=${2-3.11}
mkdir -p wheelhouse
cp "$wheel" wheelhouse/
# Every tag that Raspberry Pi OS (glibc 2.36 and later) accepts; pip knows them only on the board itself.
platforms="--platform linux_aarch64"
for glibc in 17 24 26 27 28 31 34 35 36; do platforms="$platforms --platform manylinux_2_${glibc}_aarch64"; done
# shellcheck disable=SC2086
python3 -m pip download --only-binary :all: --dest wheelhouse --find-links wheelhouse $platforms --platform manylinux2014_aarch64 \
    --platform any --implementation cp --python-version "$python" --abi "cp$(echo "$python" | tr -d .)" --abi abi3 --abi none \
    "edgeslm[translate] @ file://$(realpath "$wheel")"
du -sh wheelhouse
