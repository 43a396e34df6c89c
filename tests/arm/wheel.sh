#!/usr/bin/env bash
# Cross-builds the wheel for 64-bit ARM from the last commit (warnings are errors), and checks its size and what instructions its libraries
# hold and how they are aligned.
#
#   tests/arm/wheel.sh WORK     leaves the tree in WORK/tree, the wheel in WORK/dist
set -euo pipefail
work=$(realpath "$1")
cd "$(dirname "$0")/../.."
for tool in aarch64-linux-gnu-gcc aarch64-linux-gnu-objdump; do
    command -v "$tool" >/dev/null && continue
    apt-get update -q >"$work/log" && apt-get install -qy --no-install-recommends \
        gcc-aarch64-linux-gnu libc6-dev-arm64-cross >>"$work/log" || { cat "$work/log"; exit 1; }
done
git clone -q . "$work/tree"
cd "$work/tree"
EDGESLM_WERROR=1 _PYTHON_HOST_PLATFORM=linux-aarch64 CC=aarch64-linux-gnu-gcc AR=aarch64-linux-gnu-ar \
    LDSHARED="aarch64-linux-gnu-gcc -shared" pip wheel -q --no-deps -w "$work/dist" .
python3 tests/arm/check_instructions.py build
# Kernels of Linux with pages of 16 or 64 KB map only what lies that far apart in the file.
find build -name '*.so' -exec aarch64-linux-gnu-readelf -lW {} + | awk '$1 == "LOAD" { n++; bad += $NF != "0x10000" } END { exit !n || bad }' ||
    { echo "a library's segments are not aligned to 64 KB" >&2; exit 1; }
python3 tests/arm/check_size.py "$work"/dist/*.whl
