"""Predictions: memory as the engine allocates it, times as the formula says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeslm import probe
from edgeslm.bundle import Bundle
from edgeslm.devices import Device, Rates, find_device
from edgeslm.engines.native import NativeEngine
from edgeslm.footprint import filled_tensors, footprint, weight_bytes
from edgeslm.memory import cache_bytes
from edgeslm.plan import CHUNK, PROCESS_BYTES, predict
from edgeslm.probe import measure_device
from edgeslm.spec import Attention, Block, DecoderSpec, Mlp, Rope, tensor_shapes

READ_PARTS = ("data", "scales_f16")  # of a stored tensor, by the native engine
FULL = Attention(n_heads=4, n_kv_heads=2, head_dim=32, scale=0.2, rope=0)
WINDOW = replace(FULL, window=300)
SPEC = DecoderSpec(
    vocab_size=512,
    hidden=128,
    norm_eps=1e-6,
    context_length=2048,
    blocks=(Block(FULL, Mlp(256)), Block(WINDOW, Mlp(256))),
    layout=(0, 1, 1),
    ropes=(Rope(tuple(float(x) for x in np.linspace(1, 0.01, 16))),),
    tied=True,
)
FORMATS = {n: ("q4", 32) if len(s) == 2 else ("f32", 0) for n, s in tensor_shapes(SPEC).items()}
# Round figures: a byte and a multiply-add take as long as their number of nanoseconds.
RATES = Rates(
    1e9, {"q4": 0.5, "q8": 0.5, "f32": 0.5, "f16": 0.5}, dict.fromkeys(("q4", "q8", "f32", "f16"), 1e9), 1e9, 1e9, 1e-3
)
DEVICE = Device("test", 10**9, 2, RATES, {})
KV = footprint(SPEC, FORMATS, 1).kv_dtype
LAYER_MACS = 128 * (128 + 64 + 64) + 128 * 128 + 3 * 128 * 256
HEAD_MACS = 512 * 128


def seconds(terms: object, word: str) -> float:
    return sum(t.seconds for t in terms if word in t.what)  # type: ignore[attr-defined]


def test_memory_is_what_the_engine_has_for_a_bundle(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    tensors = bundle.target("onnx").tensors
    formats = {name: (t.format, t.group_size) for name, t in tensors.items()}
    found = footprint(bundle.spec, formats, threads=3)
    engine = NativeEngine.open(bundle, 3)
    scratch, kv = engine.memory(bundle.spec.context_length)
    engine.close()
    assert (found.kv_bytes, found.scratch_bytes) == (kv, scratch + 4 * bundle.spec.vocab_size)
    read = [p.bytes for t in tensors.values() for name, p in t.parts.items() if name in READ_PARTS]
    assert found.weights_bytes == sum(read)
    assert found.total_bytes == found.weights_bytes + found.kv_bytes + found.scratch_bytes


def test_the_cache_of_a_window_is_its_ring() -> None:
    found = footprint(SPEC, FORMATS, 1)
    rows = 2048 + 2 * 768  # a window of 300 keeps 299 + 256 rows, in blocks of 256
    assert 0 <= found.kv_bytes - cache_rows_bytes(rows) < 64 * 3 * 8  # and a word for each block
    unbound = cache_bytes(SPEC, KV, 2048)
    assert unbound is not None and unbound < found.kv_bytes


def cache_rows_bytes(rows: int) -> int:
    return (cache_bytes(replace(SPEC, layout=(0,), blocks=SPEC.blocks[:1], context_length=1 << 20), KV, rows)) or 0


def test_scratch_grows_with_threads_and_weights_with_bits() -> None:
    assert footprint(SPEC, FORMATS, 4).scratch_bytes > footprint(SPEC, FORMATS, 1).scratch_bytes
    eight = {name: ("q8", 32) if form == "q4" else (form, group) for name, (form, group) in FORMATS.items()}
    assert footprint(SPEC, eight, 1).weights_bytes > 1.5 * footprint(SPEC, FORMATS, 1).weights_bytes


def test_a_large_model_needs_no_memory_to_be_planned() -> None:
    """Ten billion parameters in float32 on any machine."""
    block = Block(Attention(32, 8, 128, scale=0.1), Mlp(16384))
    spec = DecoderSpec(128256, 4096, 1e-6, 8192, (block,), (0,) * 40, (), tied=False)
    found = footprint(spec, dict.fromkeys(tensor_shapes(spec), ("f32", 0)), 4)
    assert found.weights_bytes > 40e9


def test_the_time_of_a_token() -> None:
    plan = predict(SPEC, FORMATS, replace(DEVICE, rates=replace(RATES, token_attention_macs_per_s=1e10)), prompt=1000)
    sizes = weight_bytes(SPEC, FORMATS)
    layers = sum(size for name, size in sizes.items() if FORMATS[name][0] == "q4" and name != "embed")
    assert seconds(plan.decode, "layers:") == pytest.approx(layers / 0.5e9)
    assert seconds(plan.decode, "output head") == pytest.approx(sizes["embed"] / 0.5e9)
    kv = cache_bytes(SPEC, KV, 1000)
    assert kv == cache_rows_bytes(1000 + 300 + 300)
    assert seconds(plan.decode, "attention") == pytest.approx(kv / 1e9)  # more than its multiply-adds take here
    assert seconds(plan.decode, "µs") == pytest.approx(3e-3)
    assert plan.bytes_per_token == layers + sizes["embed"] + kv
    assert plan.decode_tok_s == pytest.approx(1 / sum(t.seconds for t in plan.decode))


def test_the_time_of_a_prompt() -> None:
    plan = predict(SPEC, FORMATS, DEVICE, prompt=1000)
    behind = 128 * 128 + 3 * 128 * 256  # of the last layer: behind its attention
    assert seconds(plan.prefill, "(q4) / 1 G/s") == pytest.approx(1000 * (3 * LAYER_MACS - behind) / 1e9)
    width = 2 * FULL.n_heads * FULL.head_dim
    rows = 1000 * 1001 / 2 + 2 * (300 * 301 / 2 + 700 * 300)  # as the tokens see them, one by one
    assert rows == sum(i + 1 + 2 * min(i + 1, 300) for i in range(1000))
    assert seconds(plan.prefill, "attention") == pytest.approx(rows * width / 1e9)
    assert seconds(plan.prefill, "µs") == pytest.approx(-(-1000 // CHUNK) * 3e-3)
    assert plan.first_token_s == pytest.approx(sum(t.seconds for t in plan.prefill))
    assert plan.prefill_tok_s == pytest.approx(1000 / plan.first_token_s)


def test_attention_of_many_heads_may_be_bound_by_arithmetic() -> None:
    slow = replace(DEVICE, rates=replace(RATES, token_attention_macs_per_s=1e6))
    width = 2 * FULL.n_heads * FULL.head_dim
    found = seconds(predict(SPEC, FORMATS, slow, 1000).decode, "multiply-adds")
    assert found == pytest.approx((1001 + 300 + 300) * width / 1e6)


def test_an_untied_head_is_read_and_the_embedding_is_not() -> None:
    spec = replace(SPEC, tied=False)
    formats = {**FORMATS, "head": ("q8", 32)}
    plan = predict(spec, formats, DEVICE, 10)
    assert seconds(plan.decode, "output head") == pytest.approx(weight_bytes(spec, formats)["head"] / 0.5e9)
    assert plan.bytes_per_token < plan.memory.weights_bytes


def test_it_fits_to_the_byte() -> None:
    plan = predict(SPEC, FORMATS, DEVICE, 10)
    assert plan.total_bytes == plan.memory.total_bytes + PROCESS_BYTES
    for spare, fits in ((0, True), (-1, False)):
        assert predict(SPEC, FORMATS, replace(DEVICE, memory_bytes=plan.total_bytes + spare), 10).fits is fits


def test_this_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "MACS", 1e8)
    monkeypatch.setattr(probe, "SECONDS", 0)
    device = measure_device(SPEC, [FORMATS], threads=2)
    rates = device.rates
    assert set(rates.efficiency) == set(rates.macs_per_s) == {"q4"}
    assert min(rates.read_bytes_per_s, rates.efficiency["q4"], rates.macs_per_s["q4"], rates.layer_s) > 0
    assert device.memory_bytes > 0 and device.threads == 2


def test_what_a_probe_runs_on_gives_finite_numbers() -> None:
    """Not-a-numbers and denormals would make kernels look slower or faster than they are."""
    for form in (("q4", 32), ("q8", 128), ("f16", 0), ("f32", 0)):
        formats = {n: form if len(s) == 2 else ("f32", 0) for n, s in tensor_shapes(SPEC).items()}
        engine = NativeEngine.from_tensors(SPEC, *filled_tensors(SPEC, formats), 1)
        logits = engine.new_session().forward([1, 2, 3])
        engine.close()
        assert np.isfinite(logits).all() and (np.abs(logits) > 1e-6).all()


def test_boards_are_ordered_as_they_are_fast() -> None:
    speeds = [predict(SPEC, FORMATS, find_device(n), 256).decode_tok_s for n in ("pi-zero-2w", "rpi4-4gb", "rpi5-8gb")]
    assert speeds == sorted(speeds)
