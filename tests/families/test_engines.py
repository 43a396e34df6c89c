"""Every golden through conversion and engine: what a family means must survive the targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from genai_greedy import genai_ids, import_genai
from golden_files import golden
from tiny_decoders import relative_error
from tiny_models import CASES, write_checkpoint

from edgeslm.bundle import Bundle
from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options
from edgeslm.engines.registry import open_engine

ENGINES = {"native": "onnx", "onnxruntime": "onnx", "litert": "litert"}  # by the target that they run
PROMPT_TOKENS = 24  # of a golden
CUTS = (3, 4, 13, 29, 30)  # pieces below and above the windows, and single tokens
TOLERANCE = 1e-4  # of max |logit|; measured: at most 1e-5
# Random weights amplify the rounding of int8 activations; a wrong scale or layout gives errors of the order of 1.
INT8_TOLERANCE = 0.15  # root mean square over that of the logits; measured: at most 0.10


def converted(case: str, folder: Path, options: Options, to: tuple[str, ...] = ("onnx",)) -> Bundle:
    checkpoint = write_checkpoint(folder / "checkpoint", CASES[case])
    convert(checkpoint, folder / "bundle", to=to, options=options, check=False)
    return Bundle.open(folder / "bundle")


@pytest.fixture(autouse=True)
def small_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded caches so small that the goldens outgrow them."""
    monkeypatch.setattr("edgeslm.engines.onnxruntime.WINDOW_SLACK", 2)


@pytest.mark.parametrize("case", CASES)
def test_float32_engines_equal_transformers(case: str, tmp_path: Path) -> None:
    bundle = converted(case, tmp_path, Options("none"), tuple(dict.fromkeys(ENGINES.values())))
    ids, expected = golden(case)
    for name in ENGINES:
        engine = open_engine(bundle, name, threads=1, kv_dtype="f32")
        cold = engine.new_session().forward(ids, "all")
        session = engine.new_session()
        cut = np.concatenate([session.forward(piece, "all") for piece in np.split(ids, CUTS)])
        warm = engine.new_session()
        warm.forward(ids[:-4])  # where only the last row is wanted, engines may go another way
        last = warm.forward(ids[-4:])
        errors = [relative_error(*pair) for pair in ((cold, expected), (cut, expected), (last, expected[-1:]))]
        print(f"{case} on {name}: error {max(errors):.1e} of max |logit|")
        assert max(errors) <= TOLERANCE, name


@pytest.mark.parametrize("case", CASES)
def test_int8_engines_stay_near_the_oracle(case: str, tmp_path: Path) -> None:
    bundle = converted(case, tmp_path, Options("int8"))
    ids, _ = golden(case)
    expected = open_engine(bundle, "reference").new_session().forward(ids, "all")  # on the dequantised weights
    for name in (n for n, target in ENGINES.items() if target == "onnx"):
        found = open_engine(bundle, name, threads=1, kv_dtype="f32").new_session().forward(ids, "all")
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        print(f"{case} on {name}: int8 error {error:.1e}")
        assert error < INT8_TOLERANCE, name


@pytest.mark.parametrize("case", CASES)
def test_genai_continues_like_transformers(case: str, tmp_path: Path) -> None:
    ids = golden(case)[0].tolist()
    bundle = converted(case, tmp_path, Options("none"))
    prompt, expected = ids[:PROMPT_TOKENS], ids[PROMPT_TOKENS:]
    ends = [i for i, token in enumerate(expected) if token in CASES[case]["eos_token_id"]]
    found = genai_ids(import_genai(), bundle.folder, prompt, len(expected))
    assert found == expected[: ends[0] if ends else None]
