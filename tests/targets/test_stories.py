"""A trained model through the ONNX target: its known text, and what quantising costs."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_decoders import write_bundle
from tokenizers import Tokenizer

from edgeslm.converters.checkpoint import Checkpoint, open_checkpoint
from edgeslm.converters.policy import Options
from edgeslm.engines.onnxruntime import OnnxRuntimeEngine
from edgeslm.engines.protocol import Engine
from edgeslm.engines.reference import ReferenceEngine

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


def perplexity(engine: Engine, texts: list[list[int]]) -> float:
    losses: list[Any] = []
    for ids in texts:
        logits = engine.new_session().forward(ids[:-1], "all").astype(np.float64)
        top = logits.max(axis=-1)
        log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=-1))
        losses.extend(log_sum - logits[np.arange(len(logits)), ids[1:]])
    return float(np.exp(np.mean(losses)))


@pytest.fixture(scope="module")
def original(checkpoint: Checkpoint, stories: list[list[int]]) -> float:
    return perplexity(ReferenceEngine(checkpoint.spec, checkpoint.weights), stories)


def test_float32_tells_the_known_story(tmp_path: Path, checkpoint: Checkpoint) -> None:
    bundle = write_bundle(tmp_path / "b", checkpoint.spec, checkpoint.weights, Options("none"))
    tokenizer = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    session = OnnxRuntimeEngine.open(bundle, 1).new_session()
    ids = tokenizer.encode("Once upon a time").ids
    while len(text := tokenizer.decode(ids)) < len(TEXT):
        ids.append(int(session.forward(ids[session.length :])[0].argmax()))
    assert text.strip()[: len(TEXT)] == TEXT


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
    bundle = write_bundle(tmp_path / "b", checkpoint.spec, checkpoint.weights, options)
    assert abs(perplexity(OnnxRuntimeEngine.open(bundle), stories) / original - 1) < limit
