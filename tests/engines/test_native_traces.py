"""A native run must not depend on how it was cut, to the bit: random traces. EDGESLM_TRACES sets how many (150)."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from traces import lengths_around, run_traces

from edgeslm.engines.native import NativeEngine
from edgeslm.spec import Mlp

from .tiny import FILE, make_spec, make_weights, store

COUNT = int(os.environ.get("EDGESLM_TRACES", "150"))
FULL, WINDOW, NARROW = (make_spec(context=1100, attention={"window": w}) for w in (0, 40, 1))
MIXED = make_spec(context=1100, blocks=(*FULL.blocks, *WINDOW.blocks), layout=(0, 1, 0))
CASES = {
    "full": (FULL, "f32", "int8", [*lengths_around(40), 255, 256, 257]),
    "window": (WINDOW, "q8", "f16", [*lengths_around(40), 256, 257, 300, 600]),
    "narrow": (NARROW, "f32", "f32", [*lengths_around(2), 255, 256, 257, 300]),
    "mixed": (MIXED, "q4", "int8", [*lengths_around(40), 256, 257, 300, 600]),
}


@pytest.mark.parametrize("case", CASES)
def test_random_traces_equal_cold_runs_to_the_bit(case: str, tmp_path: Path) -> None:
    spec, form, kv_dtype, lengths = CASES[case]
    spec = dataclasses.replace(spec, blocks=tuple(dataclasses.replace(b, mlp=Mlp(33)) for b in spec.blocks))
    entries, file, _ = store(make_weights(spec), form)
    files = {FILE: memoryview(file)}
    engine = NativeEngine.from_tensors(spec, entries, files, 2, fingerprint="tiny", kv_dtype=kv_dtype)
    counts = run_traces(engine, -(-COUNT // len(CASES)), lengths, tmp_path, exact=True)
    print(case, dict(counts))
    assert min(counts[what] for what in ("forward", "truncate", "fork", "reload")) > 10
    assert (counts["rewind refused"] > 0) == (case != "full")
