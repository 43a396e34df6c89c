"""Options on real engines: the same seed, the same text; whatever the values, a completion or our error."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeslm import ArgumentError, Model, load
from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options
from edgeslm.generation.options import GenerationArguments

ENGINES = ("native", "onnxruntime", "litert", "reference")


@pytest.fixture(scope="module")
def bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of float32 weights, so that engines differ by rounding only."""
    folder = tmp_path_factory.mktemp("float") / "tiny"
    convert(tiny_checkpoint, folder, to=("onnx", "litert"), options=Options("none"), check=False)
    return folder


@pytest.fixture(scope="module")
def models(bundle: Path) -> Iterator[dict[str, Model]]:
    opened = {engine: load(bundle, engine=engine, threads=1, kv_dtype="f32") for engine in ENGINES}
    yield opened
    for model in opened.values():
        model.close()


SAMPLED: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 2.0, "top_k": 40, "top_p": 0.95, "min_p": 0.02},
    {"temperature": 1.0, "repetition_penalty": 1.2, "presence_penalty": 0.3, "frequency_penalty": 0.2},
    {"temperature": 1.5, "logit_bias": {5: 2.0, 9: -3.0}, "suppress_tokens": [2, 7]},
    {"temperature": 0.0, "repetition_penalty": 1.3},
]


@pytest.mark.parametrize("options", SAMPLED, ids=str)
def test_a_seed_gives_the_same_text_on_every_engine(models: dict[str, Model], options: dict[str, Any]) -> None:
    tokens = 0
    for seed in (0, 1, 2):
        results = [
            model.generate("The little", max_new_tokens=24, seed=seed, logprobs=2, **options)
            for model in models.values()
        ]
        first = results[0]
        assert len({(r.text, r.tokens, r.finish_reason) for r in results}) == 1
        tokens += len(first.tokens)
        for result in results:
            assert result.logprobs is not None and first.logprobs is not None
            ours = [entry.logprob for entry in result.logprobs]
            np.testing.assert_allclose(ours, [entry.logprob for entry in first.logprobs], atol=1e-4)
    assert tokens > 20


def test_logprobs_are_those_of_the_models_logits(models: dict[str, Model]) -> None:
    model = models["native"]
    prompt = [1, 20, 30, 40]
    result = model.generate(prompt, max_new_tokens=6, temperature=1.5, seed=3, logprobs=3)
    logits = model.logits([*prompt, *result.tokens])[len(prompt) - 1 : -1].astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert result.logprobs is not None and len(result.logprobs) == len(result.tokens) == 6
    for row, entry in zip(expected, result.logprobs, strict=True):
        assert entry.logprob == pytest.approx(row[entry.token], abs=1e-5)
        assert [t.token for t in entry.top] == np.argsort(-row, kind="stable")[:3].tolist()
        assert [t.logprob for t in entry.top] == pytest.approx(np.sort(row)[::-1][:3].tolist(), abs=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_text_ends_before_a_stop_string(models: dict[str, Model], engine: str) -> None:
    model = models[engine]
    whole = model.generate("The little", max_new_tokens=40, temperature=1.0, seed=5).text
    for start in range(0, len(whole) - 3, 5):
        stop = whole[start : start + 3]
        with model.stream("The little", max_new_tokens=40, temperature=1.0, seed=5, stop=[stop, "\0"]) as stream:
            pieces = list(stream)
        expected = whole[: whole.index(stop)]
        assert "".join(pieces) == stream.result().text == expected and stream.finish_reason == "stop"


HOSTILE: list[Any] = [
    -1,
    0,
    math.nan,
    math.inf,
    -math.inf,
    1e308,
    2**63,
    2**64,
    10**400,
    "",
    "x",
    b"",
    None,
    [],
    {},
    True,
]
HOSTILE += [object(), 1j, [None], {1: None}, np.float32(0.5), np.int64(3), np.nan, np.array([]), np.array(1.5), [2**63]]


@pytest.mark.parametrize("option", GenerationArguments.__annotations__)
def test_every_value_of_every_option_runs_or_is_refused(models: dict[str, Model], option: str) -> None:
    runs = 0
    for value in HOSTILE:
        arguments: dict[str, Any] = {"max_new_tokens": 3, "temperature": 1.0, "seed": 0, option: value}
        if option == "max_tokens":
            del arguments["max_new_tokens"]
        try:
            result = models["native"].generate("The", **arguments)
        except ArgumentError as error:
            assert isinstance(error, ValueError)
            assert str(error).startswith((f"{option}", "4 prompt tokens and")), str(error)
        else:
            assert result.finish_reason in ("length", "eos", "stop")
            runs += 1
    assert 2 <= runs < len(HOSTILE)  # NumPy's scalars where numbers are meant, None everywhere


def test_cancel_stops_the_engine_and_leaves_the_model_sound(models: dict[str, Model]) -> None:
    model = models["native"]
    expected = model.generate("The little", max_new_tokens=30)
    for _ in range(20):
        timer = threading.Timer(0.002, model.cancel)
        timer.start()
        found = model.generate("The little", max_new_tokens=100, suppress_tokens=[2])
        timer.join()
        assert found.finish_reason in ("cancelled", "length")
        assert len(found.tokens) == 100 or found.finish_reason == "cancelled"
    assert model.generate("The little", max_new_tokens=30).tokens == expected.tokens


def test_threads_have_completions_of_their_own(models: dict[str, Model]) -> None:
    model = models["native"]
    expected = [model.generate("The little", max_new_tokens=20, temperature=1.0, seed=s).tokens for s in range(6)]
    found: dict[int, tuple[int, ...]] = {}

    def complete(seed: int) -> None:
        found[seed] = model.generate("The little", max_new_tokens=20, temperature=1.0, seed=seed).tokens

    threads = [threading.Thread(target=complete, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[seed] for seed in range(6)] == expected
