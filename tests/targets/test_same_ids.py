"""The embedded translator's prompts are the same ids in every runtime that opens its bundles."""

from __future__ import annotations

import lzma
from itertools import islice
from pathlib import Path

import pytest
from genai_greedy import import_genai
from litertlm_greedy import LitertLm
from tokenizers import Tokenizer

from edgeslm import embedded
from edgeslm.bundle import Bundle
from edgeslm.converters.convert import convert

EACH = 500
ODD = ["", "Größe: 3 × 4½", "naïve café", "你好, Tom!", "🙂", "A  B", "<b>Hi</b>", "it's {name}", "tab\tend", "¿Qué?"]
CORPORA = {"de": "eng-deu", "fr": "eng-fra", "es": "eng-spa"}  # their other side is English


@pytest.fixture(scope="module")
def prompts(shared: Path) -> list[str]:
    """As `edgeslm translate` writes them, of all directions."""
    found = []
    for language, corpus in CORPORA.items():
        with lzma.open(shared / "corpora" / f"{corpus}.test.tsv.xz", "rt", encoding="utf-8") as file:
            lines = list(islice(file, EACH))
        english, other = zip(*(line.rstrip("\n").split("\t")[:2] for line in lines), strict=True)
        assert len(english) == EACH
        found += [f"<s><2{language}> {text}<sep>" for text in (*english, *ODD)]
        found += [f"<s><2en> {text}<sep>" for text in (*other, *ODD)]
    return found


@pytest.fixture(scope="module")
def ids(prompts: list[str]) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(embedded.CHECKPOINT / "tokenizer.json"))
    found = [tokenizer.encode(prompt, add_special_tokens=False).ids for prompt in prompts]
    tags = {tokenizer.token_to_id(f"<2{language}>") for language in ("en", *CORPORA)}
    assert {row[0] for row in found} == {1} and {row[-1] for row in found} == {tokenizer.token_to_id("<sep>")}
    assert {row[1] for row in found} == tags
    return found


def test_onnxruntime_genai_reads_the_same_ids(prompts: list[str], ids: list[list[int]]) -> None:
    genai = import_genai()
    tokenizer = genai.Tokenizer(genai.Model(str(embedded.BUNDLE)))
    for prompt, expected in zip(prompts, ids, strict=True):
        assert [int(i) for i in tokenizer.encode(prompt)] == expected, prompt


def test_litert_lm_reads_the_same_ids(prompts: list[str], ids: list[list[int]], tmp_path: Path) -> None:
    convert(embedded.CHECKPOINT, tmp_path / "bundle", to=("litert",), check=False)
    engine = LitertLm(Bundle.open(tmp_path / "bundle").file("litert", "litertlm"), tmp_path).engine
    for prompt, expected in zip(prompts, ids, strict=True):
        assert list(engine.tokenize(prompt)) == expected, prompt
