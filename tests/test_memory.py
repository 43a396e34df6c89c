from __future__ import annotations

import dataclasses
import mmap
import os
import resource
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_decoders import make_spec, make_weights, write_bundle

from edgeslm.converters.policy import Options
from edgeslm.engines.native import NativeEngine, map_pages_soon
from edgeslm.memory import cache_bytes, process_memory, return_free_memory
from edgeslm.spec import Attention, Block, DecoderSpec, Mlp


def test_a_window_keeps_no_more_than_it_sees() -> None:
    full = Block(Attention(n_heads=4, n_kv_heads=2, head_dim=8, scale=1.0), Mlp(inner=2))
    window = dataclasses.replace(full, mixer=dataclasses.replace(full.mixer, window=10))
    spec = DecoderSpec(32, 16, 1e-5, 100, (full, window), (0, 1, 1), ())
    row = 2 * 2 * 8
    assert cache_bytes(spec, "f32", 7) == 4 * row * 3 * 7
    assert cache_bytes(spec, "f16", 50) == 2 * row * (50 + 10 + 10)
    assert cache_bytes(spec, "int8", 7) == (row + 4 * 2 * 2) * 3 * 7
    assert cache_bytes(spec, "unheard of", 50) is None


def test_the_process_knows_its_memory() -> None:
    peak, anonymous = process_memory()
    assert peak is None or peak > 2**20
    assert anonymous is None or (peak is not None and 0 < anonymous <= peak)


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")


def anonymous() -> int:
    return_free_memory()
    found = process_memory()[1]
    assert found is not None
    return found


@LINUX
def test_freed_memory_goes_back_to_the_system() -> None:
    """Also below something that is still in use, where the allocator would keep it."""
    pieces = [np.ones(1 << 12, np.uint8) for _ in range(1 << 13)]
    kept = pieces[-1]
    full = anonymous()
    del pieces
    assert full - anonymous() > 24 << 20
    assert kept.all()


@LINUX
@pytest.mark.parametrize("level", ["int4", "int8"])
def test_weights_stay_the_files_own(tmp_path: Path, level: str) -> None:
    """What an engine takes for itself is what it says, and no copy of its weights."""
    spec = make_spec(hidden=512, heads=8, kv_heads=2, head_dim=64, inner=1536, vocab=16000, context=1024, layers=4)
    bundle = write_bundle(tmp_path / "b", spec, make_weights(spec), Options(level))
    weights = bundle.file("onnx", "data").stat().st_size
    before = anonymous()
    engine = NativeEngine.open(bundle, threads=2)
    session = engine.new_session()
    for tokens in (8, 300, 1):
        session.forward(np.arange(tokens))
    taken, planned = anonymous() - before, sum(engine.memory(session.length))
    engine.close()
    assert weights > 10 << 20
    assert taken <= planned + (4 << 20)


@LINUX
@pytest.mark.skipif(tuple(int(n) for n in os.uname().release.split(".")[:2]) < (5, 14), reason="Linux 5.14 maps pages")
def test_mapped_pages_are_used_without_faults(tmp_path: Path) -> None:
    size, page = 16 << 20, mmap.PAGESIZE
    (tmp_path / "file").write_bytes(bytes(size))
    with (tmp_path / "file").open("rb") as file:
        area = np.frombuffer(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ), np.uint8)
    map_pages_soon([area.data[100:]])
    for thread in threading.enumerate():
        if thread.name == "edgeslm-pages":
            thread.join()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    assert not area[::page].any()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < size // page // 64
