"""Bundles in LiteRT-LM, Google's runtime for Android, iOS and desktops: its text is our engine's and transformers'."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden_files import golden
from litertlm_greedy import LitertLm
from tiny_models import CASES, FAMILIES, write_checkpoint
from tokenizers import Tokenizer, decoders, models

import edgeslm
from edgeslm.bundle import Bundle
from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options

STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
    "big, red ball. "
)
PROMPT_TOKENS = 24  # of a golden
CONTEXT = 512  # of stories260K


class Story:
    """stories260K as a bundle, opened by LiteRT-LM and by our own engine."""

    def __init__(self, checkpoint: Path, folder: Path, level: str) -> None:
        convert(checkpoint, folder / "bundle", to=("litert",), options=Options(level), check=False)
        self.model = edgeslm.load(folder / "bundle", engine="litert")
        self.runtime = LitertLm(Bundle.open(folder / "bundle").file("litert", "litertlm"), folder)
        self._tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))

    def ids(self, text: str, first: bool = True) -> list[int]:
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=first).ids
        return found

    def prompt(self, tokens: int) -> str:
        """Text of so many tokens."""
        text = self._tokenizer.decode(self.ids(20 * STORY)[:tokens])
        assert len(self.ids(text)) == tokens
        return str(text)

    def texts(self, turns: list[str], count: int) -> list[str]:
        """By our engine, what LiteRT-LM gives; both stop at the end of the context."""
        ids: list[int] = []
        texts = []
        for turn in turns:
            ids += self.ids(turn, first=not texts)
            result = self.model.generate(ids, max_new_tokens=min(count, CONTEXT - len(ids)), temperature=0)
            ids += result.tokens
            texts.append(self._tokenizer.decode(result.tokens))  # without the space between prompt and text
        return texts


@pytest.fixture(scope="module")
def story(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(shared / "models" / "stories260K", tmp_path_factory.mktemp("story"), "none")


@pytest.mark.parametrize("tokens", [5, 46, 150, 300, 480, 505, 509, 511])
def test_the_text_is_ours(story: Story, tokens: int) -> None:
    """Prompts within one call, longer than the largest one, and such that padding or the text reach the end."""
    prompt = story.prompt(tokens)
    texts = story.runtime.texts([prompt], 40)
    assert texts == story.texts([prompt], 40)
    assert texts[0]


def test_a_second_turn_goes_on(story: Story) -> None:
    turns = [STORY, " She was", " Then her mom said"]
    texts = story.runtime.texts(turns, 20)
    assert texts == story.texts(turns, 20)
    assert len(set(texts)) == 3


@pytest.mark.parametrize("level", ["int8", "int4"])
def test_quantised_bundles_generate(shared: Path, tmp_path: Path, level: str) -> None:
    quantised = Story(shared / "models" / "stories260K", tmp_path, level)
    assert quantised.runtime.texts([STORY], 30) == quantised.texts([STORY], 30)


def test_metadata_reaches_the_runtime(story: Story) -> None:
    engine = story.runtime.engine
    assert engine.bos_token_id == 1 and engine.eos_token_ids == [[2]]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_continues_like_transformers(tmp_path: Path, family: str) -> None:
    case = next(name for name in reversed(CASES) if CASES[name]["model_type"] == family)
    ids = golden(case)[0].tolist()
    checkpoint = write_checkpoint(tmp_path / "checkpoint", CASES[case])
    tokenizer = write_characters(checkpoint, CASES[case]["vocab_size"])
    convert(checkpoint, tmp_path / "bundle", to=("litert",), options=Options("none"), check=False)
    runtime = LitertLm(Bundle.open(tmp_path / "bundle").file("litert", "litertlm"), tmp_path)
    expected = ids[PROMPT_TOKENS:]
    ends = [i for i, token in enumerate(expected) if token in CASES[case]["eos_token_id"]]
    prompt = "".join(tokenizer.id_to_token(i) for i in ids[:PROMPT_TOKENS])
    text = runtime.texts([prompt], len(expected))[0]
    assert tokenizer.encode(text).ids == expected[: ends[0] if ends else None]


def write_characters(folder: Path, vocab_size: int) -> Tokenizer:
    """A tokenizer of one character a token, so that text tells the tokens."""
    vocab = {chr(0x4E00 + i): i for i in range(vocab_size)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer
