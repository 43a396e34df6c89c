#!/usr/bin/env bash
# Cross-builds the wheel for 64-bit ARM from the last commit (warnings are errors), and checks its size and what instructions its libraries
# hold.
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
python3 tests/arm/check_size.py "$work"/dist/*.whl
