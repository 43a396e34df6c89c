"""How targets are measured: pieces and single steps, beyond windows, and what is said of interpreted programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_decoders import make_spec, make_weights

from edgeslm.bundle import Bundle
from edgeslm.cli import main
from edgeslm.converters import verify as module
from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options
from edgeslm.converters.reference_answer import compute_answer, reference_ids
from edgeslm.converters.verify import LIMITS, measure, verify
from edgeslm.engines.reference import ReferenceEngine


@pytest.fixture(scope="module")
def coreml_bundle(make_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    window = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 8}
    checkpoint = make_checkpoint(folder / "checkpoint", "gemma3_text", num_hidden_layers=4, **window)
    convert(checkpoint, folder / "b", to=("coreml",), options=Options("fp16"), check=False)
    return folder / "b"


def test_the_last_tokens_are_given_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(context=300)
    weights = make_weights(spec)
    answer = compute_answer(spec, weights, reference_ids(spec, None))
    engine = ReferenceEngine(spec, weights)
    pieces: list[int] = []
    session = engine.new_session()
    forward = session.forward

    def counted(ids: Any, rows: Any = "last") -> Any:
        pieces.append(len(ids))
        return forward(ids, rows)

    monkeypatch.setattr(session, "forward", counted)
    monkeypatch.setattr(engine, "new_session", lambda: session)
    found = measure(engine, answer, "none")
    assert pieces == [64, 64, 64, 32] + [1] * 32
    assert found.passed and found.tokens == 256 and found.top1_agreement == 1


@pytest.mark.parametrize(
    ("shift", "passed", "limits"), [(0.0, True, "int8"), (0.1, True, "fp16"), (0.7, False, "int8")]
)
def test_the_limits_of_a_finer_level_suffice(
    monkeypatch: pytest.MonkeyPatch, shift: float, passed: bool, limits: str
) -> None:
    """Half of the tokens gain a little: with 0.1, others are the likeliest in 3 % of the rows."""
    spec = make_spec(context=64)
    weights = make_weights(spec)
    answer = compute_answer(spec, weights, reference_ids(spec, None))
    engine = ReferenceEngine(spec, weights)
    session = engine.new_session()
    forward = session.forward

    def changed(ids: Any, rows: Any = "last") -> Any:
        logits = forward(ids, rows)
        logits[:, ::2] += shift
        return logits

    monkeypatch.setattr(session, "forward", changed)
    monkeypatch.setattr(engine, "new_session", lambda: session)
    found = measure(engine, answer, "int8")
    assert (found.passed, found.limits) == (passed, LIMITS[limits]), found
    assert (found.top1_agreement >= LIMITS["int8"]["top1_agreement"]) == (shift == 0)


@pytest.mark.parametrize(
    ("window", "context", "count"), [(0, 640, 256), (300, 640, 364), (300, 320, 320), (2000, 4096, 256)]
)
def test_the_answer_goes_beyond_windows(window: int, context: int, count: int) -> None:
    ids = reference_ids(make_spec(context=context, attention={"window": window}), None)
    assert len(ids) == count


def test_an_interpreted_program_is_called_so(
    coreml_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["verify", str(coreml_bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["targets"]["coreml"]
    assert (found["engine"], found["isa"], found["tokens"]) == ("coreml", "interpreter", 128)
    assert found["note"] == "its operations were interpreted in NumPy; Apple's compiler was not run"
    assert found["top1_agreement"] > 0.95
    monkeypatch.setattr(module, "INTERPRETED_BYTES", 1000)
    assert main(["verify", str(coreml_bundle), "--engine", "coreml"]) == 0
    table = capsys.readouterr().out
    assert "coreml (interpreter)" in table
    assert "Apple's compiler was not run; 16 tokens of 128 were tried, for its size" in table


def test_a_damaged_weight_fails(coreml_bundle: Path) -> None:
    """What is measured is the file: another value in it is seen."""
    bundle = Bundle.open(coreml_bundle)
    path = bundle.file("coreml", "weights")
    raw = path.read_bytes()
    first = np.frombuffer(raw[128:4096], np.float16)  # data of the first blob, behind its header
    try:
        path.write_bytes(raw[:128] + (-first).tobytes() + raw[4096:])
        report = verify(bundle)
    finally:
        path.write_bytes(raw)
    assert not report.passed
