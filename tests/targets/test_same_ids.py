"""The embedded translators' prompts are the same ids in every runtime that opens its bundles."""

from __future__ import annotations

import lzma
from dataclasses import dataclass
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
MORE = Path(__file__).parents[2] / "examples" / "translation" / "everyday-multi"


@dataclass(frozen=True)
class Model:
    checkpoint: Path
    bundle: Path
    corpora: dict[str, str]  # language → corpus, whose other side is English


MODELS = {
    "en-de": Model(embedded.CHECKPOINT, embedded.BUNDLE, {"de": "eng-deu"}),
    "multi": Model(MORE, embedded.MORE, {"de": "eng-deu", "fr": "eng-fra", "es": "eng-spa"}),
}


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]


@pytest.fixture(scope="module")
def prompts(shared: Path, model: Model) -> list[str]:
    """As `edgeslm translate` writes them, of all directions."""
    found = []
    for language, corpus in model.corpora.items():
        with lzma.open(shared / "corpora" / f"{corpus}.test.tsv.xz", "rt", encoding="utf-8") as file:
            lines = list(islice(file, EACH))
        english, other = zip(*(line.rstrip("\n").split("\t")[:2] for line in lines), strict=True)
        assert len(english) == EACH
        found += [f"<s><2{language}> {text}<sep>" for text in (*english, *ODD)]
        found += [f"<s><2en> {text}<sep>" for text in (*other, *ODD)]
    return found


@pytest.fixture(scope="module")
def ids(prompts: list[str], model: Model) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(model.checkpoint / "tokenizer.json"))
    found = [tokenizer.encode(prompt, add_special_tokens=False).ids for prompt in prompts]
    tags = {tokenizer.token_to_id(f"<2{language}>") for language in ("en", *model.corpora)}
    assert {row[0] for row in found} == {1} and {row[-1] for row in found} == {tokenizer.token_to_id("<sep>")}
    assert {row[1] for row in found} == tags
    return found


def test_onnxruntime_genai_reads_the_same_ids(prompts: list[str], ids: list[list[int]], model: Model) -> None:
    genai = import_genai()
    tokenizer = genai.Tokenizer(genai.Model(str(model.bundle)))
    for prompt, expected in zip(prompts, ids, strict=True):
        assert [int(i) for i in tokenizer.encode(prompt)] == expected, prompt


def test_litert_lm_reads_the_same_ids(prompts: list[str], ids: list[list[int]], model: Model, tmp_path: Path) -> None:
    convert(model.checkpoint, tmp_path / "bundle", to=("litert",), check=False)
    engine = LitertLm(Bundle.open(tmp_path / "bundle").file("litert", "litertlm"), tmp_path).engine
    for prompt, expected in zip(prompts, ids, strict=True):
        assert list(engine.tokenize(prompt)) == expected, prompt
