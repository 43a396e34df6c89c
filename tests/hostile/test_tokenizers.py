"""Tokenizers from strangers: refused, or sensible in bounded time and memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from children import RAN, REFUSED, in_child

from edgeslm.errors import ModelFormatError
from edgeslm.tokenizer import Tokenizer
from edgeslm.tokenizer_pattern import check_pattern

MEMORY = 4 << 30  # address space of a child
TEXT = "Hello there, " + "a" * 3000 + " " * 300 + "!"

# What published tokenizers split with.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SOUND = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": _LLAMA3,
    "qwen2": _LLAMA3.replace("{1,3}", ""),
    "o200k": _O200K,
    "tekken": _O200K.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace("{1,3}", ""),
    "deepseek": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "deepseek ideographs": "[一-龥぀-ゟ゠-ヿ]+",
    "kimi": r"[\p{Han}]+|[\p{Lu}\p{Lt}&&[^\p{Han}]]*[\p{Ll}\p{M}&&[^\p{Han}]]+(?i:'s|'t)?|\s+",
    "exaone": r"(?:'[sS]|'[tT])|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}|\s+",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s+",
    "bloom": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "digits from the right": r"(?:^|[^\p{N}])\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))",
    "gemma": r"[^\n]+|[\n]+",
    "falcon": "[0-9][0-9][0-9]",
    "clip": r"<\|startoftext\|>|<\|endoftext\|>|'s|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
}
ENDLESS = [
    *(r"(a+)+$", r"(a|a)*b", r"(.*)*x", r"(?:a?){50}a{50}", r"((a*)b)*c", r"(?:(?:a|b)+)*c", r"(a{1,9}){9}b"),
    *(r"[ab]*[ab]*c", r"a+a+b", r"(a*|b)a*c", r"(?=a*a*b)", "(a|b)" * 20 + "c", "a?" * 12 + "b", "(?:a{1,9}){4}"),
    *(r"\s*\s*\s*\s*x", "a+" * 30, r"(a)\1", r"(?<x>a\g<x>?)", r"\k<x>", r"(?~a)", r"(?(1)a|b)", "a**", "a+{2}"),
    *("(?x:(a+#[\n)*b#])\n)", "(?x)a"),  # comments would hide what repeats
    *("(", ")", "[", "[[a]", "\\", "(?", "(" * 30 + ")" * 30, "[" * 30 + "]" * 30, "a" * 50_000),
]


def tokenizer_json(**parts: Any) -> dict[str, Any]:
    """A small sound one, but for ``parts``."""
    vocab = {chr(code): code - 32 for code in range(32, 127)}
    model = {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": "?"}
    return {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "model": model, **parts}


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def use(raw: bytes) -> None:
    tokenizer = Tokenizer(raw)
    tokenizer.decode(tokenizer.encode(TEXT))


def raw_of(**parts: Any) -> bytes:
    return json.dumps(tokenizer_json(**parts)).encode()


@pytest.mark.parametrize("name", SOUND)
def test_patterns_of_published_tokenizers_pass(name: str) -> None:
    use(raw_of(pre_tokenizer=split(SOUND[name])))


@pytest.mark.parametrize("pattern", ENDLESS, ids=lambda pattern: pattern[:20])
def test_patterns_that_could_backtrack_without_end_are_refused(pattern: str) -> None:
    for parts in (
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(pattern)]}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": pattern}, "content": "x"}},
        {"decoder": {"type": "Replace", "pattern": {"Regex": pattern}, "content": "x"}},
    ):
        with pytest.raises(ModelFormatError, match=r"^tokenizer\.json: "):
            Tokenizer(raw_of(**parts))


def test_a_panic_of_the_library_is_an_error_of_ours() -> None:
    class Panic(BaseException):
        pass

    class Backend:
        def encode(self, text: str, add_special_tokens: bool) -> None:
            raise Panic("retry-limit-in-match over")

    tokenizer = Tokenizer(raw_of())
    tokenizer._backend = Backend()  # type: ignore[assignment]
    with pytest.raises(ModelFormatError, match="fails on this text"):
        tokenizer.encode("a")


def test_every_character_of_ascii_in_a_pattern_is_read_or_refused() -> None:
    for code in range(128):
        for pattern in (
            chr(code),
            "\\" + chr(code),
            f"[{chr(code)}]",
            f"(?{chr(code)}a)",
            f"a{chr(code)}",
            f"a{{{chr(code)}}}",
        ):
            try:
                check_pattern(pattern, "test")
            except ModelFormatError as error:
                assert "test" in str(error)


def _doubling(count: int) -> dict[str, Any]:
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    return {"type": "Sequence", "normalizers": [step] * count, "decoders": [step] * count}


def _million(kind: str) -> bytes:
    """As text, which is quicker to write than objects are."""
    if kind == "merges":
        entries = ", ".join(['"a b"'] * 1_000_000)
        model = f'{{"type": "BPE", "vocab": {{"a": 0, "b": 1, "ab": 2}}, "merges": [{entries}]}}'
    elif kind == "vocab":
        entries = ", ".join(f'"{number}": {number}' for number in range(1_000_000))
        model = f'{{"type": "WordLevel", "vocab": {{{entries}}}, "unk_token": "0"}}'
    else:
        entries = ", ".join(f'["{number}", -1.0]' for number in range(1_000_000))
        model = f'{{"type": "Unigram", "unk_id": 0, "vocab": [{entries}]}}'
    return raw_of(model=0).replace(b'"model": 0', b'"model": ' + model.encode())


def _template(pieces: int, ids: int) -> dict[str, Any]:
    token = {"id": "x", "ids": [0] * ids, "tokens": ["x"] * ids}
    single = [{"SpecialToken": {"id": "x", "type_id": 0}}] * pieces
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": {"x": token}}


def _added(count: int, length: int) -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    return [{"id": 95 + i, "content": f"<{i}>" + "a" * length, **flags} for i in range(count)]


HOSTILE: dict[str, tuple[Callable[[], bytes], int]] = {
    "doubling normalizer": (lambda: raw_of(normalizer=_doubling(60)), REFUSED),
    "doubling normalizer of added tokens": (
        lambda: raw_of(normalizer=_doubling(60), added_tokens=_added(1, 9)),
        REFUSED,
    ),
    "the same behind the model": (
        lambda: json.dumps(tokenizer_json() | {"x": 1, "normalizer": _doubling(60)}).encode(),
        REFUSED,
    ),
    "the same, named twice": (
        lambda: raw_of()[:-1] + b', "normalizer": ' + json.dumps(_doubling(60)).encode() + b"}",
        REFUSED,
    ),
    "the same, name escaped": (
        lambda: raw_of(normalizer=_doubling(60)).replace(b'"normalizer"', b'"normal\\u0069zer"'),
        REFUSED,
    ),
    "doubling decoder": (lambda: raw_of(decoder=_doubling(60)), REFUSED),
    "giant prefix": (lambda: raw_of(normalizer={"type": "Prepend", "prepend": "a" * 1000}), REFUSED),
    "giant replacement": (
        lambda: raw_of(normalizer={"type": "Replace", "pattern": {"Regex": "a"}, "content": "b" * 10_000}),
        REFUSED,
    ),
    "template of many pieces": (lambda: raw_of(post_processor=_template(100_000, 1)), REFUSED),
    "template of many ids": (lambda: raw_of(post_processor=_template(1, 100_000)), REFUSED),
    "a million merges": (lambda: _million("merges"), REFUSED),
    "a million pieces": (lambda: _million("pieces"), REFUSED),
    "a million tokens": (lambda: _million("vocab"), REFUSED),
    "many added tokens": (lambda: raw_of(added_tokens=_added(200_000, 0)), REFUSED),
    "long added tokens": (lambda: raw_of(added_tokens=_added(30, 1_000_000)), REFUSED),
    "an added token of a megabyte": (lambda: raw_of(added_tokens=_added(1, 1_000_000)), RAN),
    "long words": (
        lambda: raw_of(
            model={
                "type": "WordPiece",
                "vocab": {"?": 0},
                "unk_token": "?",
                "continuing_subword_prefix": "#",
                "max_input_chars_per_word": 10**9,
            }
        ),
        REFUSED,
    ),
    "unknown piece out of range": (
        lambda: raw_of(model={"type": "Unigram", "unk_id": 9, "vocab": [["a", -1.0]]}),
        REFUSED,
    ),
    "deep normalizers": (
        lambda: raw_of().replace(
            b'"normalizer": null',
            b'"normalizer": ' + b'{"type":"Sequence","normalizers":[' * 20_000 + b"]}" * 20_000,
        ),
        REFUSED,
    ),
    "brackets": (lambda: b"[" * 10_000_000, REFUSED),
    "many brackets": (lambda: b'{"a":[' + b"[]," * 8_000_000 + b"[]]}", REFUSED),
    "quotes": (lambda: b'{"a":"' + b'\\"' * 10_000_000 + b'"}', REFUSED),
    "one open text": (lambda: b'{"' + b"a" * 10_000_000, REFUSED),
    "large": (lambda: b'{"a":"' + b"a" * (65 << 20) + b'"}', REFUSED),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_or_used_within_bounds(name: str, tmp_path: Path) -> None:
    make, expected = HOSTILE[name]
    raw, log = make(), tmp_path / "log"
    status = in_child(lambda: use(raw), log, MEMORY)
    assert status == expected, log.read_text() if log.exists() else f"exit status {status} (negative: a signal)"


@pytest.mark.parametrize("text", ["a" * 1_000_000, "\u200d" * 200_000, " " * 1_000_000, "ab" * 500_000])
def test_a_long_text_of_one_character_takes_no_square(text: str) -> None:
    """Square in its length would be hours; this needs a second."""
    assert Tokenizer(raw_of(pre_tokenizer=split(SOUND["llama3"]))).encode(text)
