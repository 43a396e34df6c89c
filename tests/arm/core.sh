#!/usr/bin/env bash
# What must work on one emulated core (QEMU_CPU) with pages of some size (QEMU_PAGESIZE): import with the right instruction set, doctor,
# run, translate, and the fast tests.
#
#   tests/arm/core.sh ISA KERNELS BUNDLE PYTHON...     from the tree; KERNELS is pytest's -k; PYTHON runs in the tree too
set -euo pipefail
isa=$1 kernels=$2 bundle=$3
shift 3
step() { printf '  %4ss  %s: %s\n' "$SECONDS" "$QEMU_CPU" "$1"; }
expect() { [ "$1" = "$2" ] || { echo "$QEMU_CPU: expected '$2', found '$1'" >&2; exit 1; }; }

step "import"
expect "$("$@" -c 'import mmap; from edgeslm import _native; print(_native.isa(), mmap.PAGESIZE)')" "$isa $QEMU_PAGESIZE"
step "doctor"
found=$("$@" -m edgeslm doctor --timeout 900 --json) # emulated, all engines at once
python3 - "$isa" "$found" <<'PYTHON'
import json, sys
isa, found = sys.argv[1], json.loads(sys.argv[2])
for name, engine in found["engines"].items():
    print(f"           {name}: {engine['reason'] or 'works'}")
sys.exit(found["isa"] != isa or found["machine"] != "aarch64" or not found["engines"]["native"]["available"])
PYTHON
step "run"
expect "$("$@" -m edgeslm run "$bundle" '<s><2de> I need new shoes.<sep>')" " Ich brauche neue Schuhe."
step "translate"
expect "$("$@" -m edgeslm translate "I need new shoes." --from en --to de)" "Ich brauche neue Schuhe."
step "fast tests"
pytest=("$@" -m pytest -q -p no:cacheprovider)
"${pytest[@]}" --confcutdir=tests/engines tests/engines/test_native_cuts.py -k "threads_do_not_change_a_bit and q4"
"${pytest[@]}" --confcutdir=tests/kernels tests/kernels/test_{attend,embed,linear,pack,quantize,small_ops}.py -k "$kernels"
step "done"
