"""A trained model from end to end, on every engine: its known text, and what quantising costs."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

import edgeslm
from edgeslm.bundle import Bundle
from edgeslm.converters.checkpoint import Checkpoint, open_checkpoint
from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options
from edgeslm.converters.verify import verify
from edgeslm.engines.reference import ReferenceEngine
from edgeslm.errors import ArgumentError
from edgeslm.weights import F32Array

TEXT = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
    "big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" "
    "Lily was sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\""
)


@pytest.fixture(scope="module")
def checkpoint(shared: Path) -> Checkpoint:
    return open_checkpoint(shared / "models/stories260K")


@pytest.fixture(scope="module")
def stories(shared: Path, checkpoint: Checkpoint) -> list[list[int]]:
    """The first hundred stories as ids, each cut to the context."""
    tokenizer = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    with lzma.open(shared / "corpora/tinystories-sample.txt.xz", "rt", encoding="utf-8") as file:
        texts = [text.strip() for text in file.read().split("<|endoftext|>")]
    return [tokenizer.encode(t).ids[: checkpoint.spec.context_length] for t in texts if t][:100]


def perplexity(logits_of: Callable[[list[int]], F32Array], texts: list[list[int]]) -> float:
    losses: list[Any] = []
    for ids in texts:
        logits = logits_of(ids[:-1]).astype(np.float64)
        top = logits.max(axis=-1)
        log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=-1))
        losses.extend(log_sum - logits[np.arange(len(logits)), ids[1:]])
    return float(np.exp(np.mean(losses)))


@pytest.fixture(scope="module")
def original(checkpoint: Checkpoint, stories: list[list[int]]) -> float:
    engine = ReferenceEngine(checkpoint.spec, checkpoint.weights)
    return perplexity(lambda ids: engine.new_session().forward(ids, "all"), stories)


@pytest.fixture(scope="module")
def float32(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stories") / "none"
    report = convert(checkpoint.folder, folder, to=("onnx", "litert"), options=Options("none"))
    assert report.verification is not None and report.verification.passed
    return folder


@pytest.mark.parametrize(
    ("engine", "kv_dtype"),
    [("native", "f16"), ("native", "f32"), ("onnxruntime", None), ("litert", None), ("reference", None)],
)
def test_float32_tells_the_known_story(float32: Path, engine: str, kv_dtype: str | None) -> None:
    with edgeslm.load(float32, engine=engine, kv_dtype=kv_dtype) as model:
        result = model.generate("Once upon a time", max_new_tokens=250)
    assert ("Once upon a time" + result.text)[: len(TEXT)] == TEXT
    assert result.finish_reason == "length" and len(result.tokens) == 250


def test_one_engine_is_verified_on_its_own_target(float32: Path) -> None:
    report = verify(Bundle.open(float32), engine="litert")
    assert report.passed and list(report.targets) == ["litert"]
    with pytest.raises(ArgumentError, match="expected one of native"):
        verify(Bundle.open(float32), engine="gpu")


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        (Options("none"), 1e-5),
        (Options("fp16"), 1e-3),
        (Options("int8"), 0.01),
        (Options("int4"), 0.12),
        (Options("int4", embed="int8"), 0.085),
    ],
    ids=lambda value: f"{value.quantize}-{value.embed}" if isinstance(value, Options) else "",
)
def test_quantising_costs_little(
    tmp_path: Path, checkpoint: Checkpoint, stories: list[list[int]], original: float, options: Options, limit: float
) -> None:
    assert original == pytest.approx(4.6, abs=0.05)
    report = convert(checkpoint.folder, tmp_path / "b", options=options)
    assert report.verification is not None and report.verification.passed
    for engine in ("native", "onnxruntime"):
        with edgeslm.load(tmp_path / "b", engine=engine) as model:
            assert abs(perplexity(model.logits, stories) / original - 1) < limit, engine


@pytest.mark.parametrize(("kv_dtype", "near_ties", "limit"), [("f16", 0, 2e-6), ("int8", 4, 1.5e-3)])
def test_rounded_keys_and_values_cost_little(float32: Path, kv_dtype: str, near_ties: int, limit: float) -> None:
    """Along the story that unrounded ones tell: the same choices but for near-ties, and mean KL. Heads of this model
    are 8 wide; measured: 0 and 5.7e-7 with f16, 3 and 7.4e-4 with int8."""
    logits = []
    for kept in ("f32", kv_dtype):
        with edgeslm.load(float32, engine="native", kv_dtype=kept) as model:
            if not logits:
                ids = model.prompts.ids("Once upon a time", None, {})
                ids += model.generate(ids, max_new_tokens=250).tokens
            logits.append(model.logits(ids).astype(np.float64))
    ours, rounded = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in logits)
    other = ours.argmax(axis=1) != rounded.argmax(axis=1)
    second, first = np.sort(logits[0], axis=1)[:, -2:].T
    assert other.sum() <= near_ties and (first - second <= 0.01 * np.abs(logits[0]).max(axis=1))[other].all()
    assert (np.exp(ours) * (ours - rounded)).sum(axis=1).mean() < limit
