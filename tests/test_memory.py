from __future__ import annotations

import dataclasses

from edgeslm.memory import cache_bytes, process_memory
from edgeslm.spec import Attention, Block, DecoderSpec, Mlp


def test_a_window_keeps_no_more_than_it_sees() -> None:
    full = Block(Attention(n_heads=4, n_kv_heads=2, head_dim=8, scale=1.0), Mlp(inner=2))
    window = dataclasses.replace(full, mixer=dataclasses.replace(full.mixer, window=10))
    spec = DecoderSpec(32, 16, 1e-5, 100, (full, window), (0, 1, 1), ())
    row = 2 * 2 * 8
    assert cache_bytes(spec, "f32", 7) == 4 * row * 3 * 7
    assert cache_bytes(spec, "f16", 50) == 2 * row * (50 + 10 + 10)
    assert cache_bytes(spec, "unheard of", 50) is None


def test_the_process_knows_its_memory() -> None:
    peak, anonymous = process_memory()
    assert peak is None or peak > 2**20
    assert anonymous is None or (peak is not None and 0 < anonymous <= peak)
