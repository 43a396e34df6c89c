"""Which kernels run, and that EDGESLM_ISA decides it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from edgeslm import _native
from edgeslm.errors import ArgumentError, EngineError

ROWS = _native.kernel_rows()
USABLE = list(dict.fromkeys(isa for _, _, isa, runnable in ROWS if runnable))

# Float sums differ between instruction sets in the last bits, so bits tell which kernel ran, where a set has its own.
OWN_SUMS = [isa for op, format, isa, runnable in ROWS if runnable and (op, format) == ("linear", "f32")]
PROBE = """
import numpy as np
from edgeslm import _native
rng = np.random.default_rng(0)
w, x = rng.standard_normal((2, 64, 1000)).astype(np.float32)
y = np.zeros((64, 64), np.float32)
isa, packed = {isa}, _native.pack("f32", {isa}, x)
_native.linear("f32", isa, w.reshape(-1).view(np.uint8), None, 1.0, 64, 1000, 0, packed, y, 0, 64)
print(isa or _native.isa(), y.tobytes().hex())
"""


def probe(forced: str | None, isa: str | None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "EDGESLM_ISA"}
    if forced is not None:
        environment["EDGESLM_ISA"] = forced
    code = PROBE.format(isa=repr(isa))
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("isa", USABLE)
def test_forced_set_really_runs(isa: str) -> None:
    assert probe(isa, None).stdout == probe(None, isa).stdout != ""


def test_float_sums_tell_the_sets_apart() -> None:
    assert len({probe(None, isa).stdout.split()[1] for isa in OWN_SUMS}) == len(OWN_SUMS) > 1


@pytest.mark.parametrize("forced", [None, ""])
def test_highest_usable_set_is_the_default(forced: str | None) -> None:
    assert probe(forced, None).stdout.split()[0] == USABLE[-1]


def test_unknown_set_is_refused() -> None:
    failed = probe("avx9", None)
    assert failed.returncode == 1
    assert "EngineError: instruction set 'avx9' is unknown: set EDGESLM_ISA to one of ref" in failed.stderr


def test_ref_fills_every_slot_and_sets_rise() -> None:
    slots = {(op, format) for op, format, isa, _ in ROWS if isa == "ref"}
    assert {(op, format) for op, format, _, _ in ROWS} == slots
    assert {("linear", f) for f in ("f32", "f16", "q8", "q4")} <= slots
    order = list(dict.fromkeys(isa for _, _, isa, _ in ROWS))
    x86, arm = ["avx2", "avxvnni", "avx512vl", "avx512"], ["neon", "dotprod", "i8mm"]
    assert order == ["ref", *(x86 if "avx2" in order else arm)]
    assert len(set(ROWS)) == len(ROWS)


def test_arguments_are_checked() -> None:
    x = np.zeros((1, 32), np.float32)
    with pytest.raises(ArgumentError, match="format is 'q5'"):
        _native.pack("q5", "ref", x, 32)
    with pytest.raises(ArgumentError, match="group size of q8 is 48"):
        _native.pack("q8", "ref", x, 48)
    with pytest.raises(EngineError, match="unknown"):
        _native.pack("q8", "sse9", x, 32)
    y = np.zeros((1, 4), np.float32)
    with pytest.raises(ArgumentError, match="data has 16 bytes"):
        _native.linear(
            "f32", "ref", np.zeros(16, np.uint8), None, 1.0, 4, 32, 0, _native.pack("f32", "ref", x), y, 0, 4
        )
    good = np.zeros(4 * 32 * 4, np.uint8)
    for n0, n1 in ((-1, 2), (2, 2), (0, 5)):
        with pytest.raises(ArgumentError, match="outputs"):
            _native.linear("f32", "ref", good, None, 1.0, 4, 32, 0, _native.pack("f32", "ref", x), y, n0, n1)
