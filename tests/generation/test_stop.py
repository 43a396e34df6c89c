from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from edgeslm import ArgumentError, Model
from edgeslm.generation.options import GenerationDefaults
from edgeslm.generation.stop import StopStrings
from edgeslm.tokenizer import Tokenizer


def before_stop(text: str, stops: list[str]) -> tuple[str, bool]:
    """The definition, restated plainly: the stop string that is complete first ends the text, the longest of equals."""
    for end in range(len(text) + 1):
        if found := [s for s in stops if text[:end].endswith(s)]:
            return text[: end - max(map(len, found))], True
    return text, False


def could_become_one(text: str, stops: list[str]) -> int:
    """How many characters at the end may belong to a stop string that is not complete."""
    return max((n for s in stops for n in range(len(s)) if text.endswith(s[:n])), default=0)


def cut(rng: random.Random, text: str) -> list[str]:
    """It in pieces, some of them empty."""
    borders = sorted(rng.choices(range(len(text) + 1), k=rng.randrange(len(text) + 3)))
    return [text[a:b] for a, b in zip([0, *borders], [*borders, len(text)], strict=True)]


def test_at_every_cut_as_defined_never_leaked_and_never_later_than_needed() -> None:
    rng = random.Random(0)
    stopped = 0
    for _ in range(6000):
        stops = ["".join(rng.choices("ab€", k=rng.randrange(1, 6))) for _ in range(rng.randrange(1, 4))]
        text = "".join(rng.choices("ab€", k=rng.randrange(25)))
        expected, found = before_stop(text, stops)
        stop, out, so_far = StopStrings(stops), "", ""
        for piece in cut(rng, text):
            out += stop.push(piece)
            so_far += piece
            certain, ended = before_stop(so_far, stops)
            if not ended:
                certain = certain[: len(certain) - could_become_one(certain, stops)]
            assert out == certain and expected.startswith(out)
        assert (out + stop.finish(), stop.found) == (expected, found)
        stopped += found
    assert 1000 < stopped < 5900


def test_without_stop_strings_all_passes() -> None:
    stop = StopStrings([])
    assert [stop.push("a"), stop.push(""), stop.finish()] == ["a", "", ""] and not stop.found


def test_nothing_comes_after_a_stop_string() -> None:
    stop = StopStrings(["b"])
    assert [stop.push("ab"), stop.push("a"), stop.finish()] == ["a", "", ""]


def test_a_long_stop_string_costs_no_more_than_its_length() -> None:
    stop = StopStrings(["a" * 50_000 + "b"])
    out = "".join(stop.push("a") for _ in range(100_000))
    assert out == "a" * 50_000  # quadratic work would take minutes
    assert stop.push("b") == "" and stop.found


MakeEngine = Callable[..., Any]
MakeTokenizer = Callable[[str], Tokenizer]


def model(make_engine: MakeEngine, tokenizer: Tokenizer, text: str) -> Model:
    """One that completes anything with ``text`` and ends it."""
    ids = tokenizer.encode(text)
    script = [*(ids[1:] if ids[:1] == [0] else ids), 1]
    return Model(make_engine(script), tokenizer, GenerationDefaults(eos_ids=frozenset({1})))


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("漢字", "a naïve fox, "),
        (["字!", "fo"], "a naïve "),
        ("ïve", "a na"),
        ("a", ""),
        ("fox,  ", "a naïve fox, 漢字!"),
        ("!?", "a naïve fox, 漢字!"),
        ([], "a naïve fox, 漢字!"),
    ],
)
def test_across_tokens_and_bytes(
    make_engine: MakeEngine, make_tokenizer: MakeTokenizer, kind: str, stop: Any, expected: str
) -> None:
    text, tokenizer = "a naïve fox, 漢字!", make_tokenizer(kind)
    result = model(make_engine, tokenizer, text).generate("b", stop=stop)
    assert result.text.removeprefix(" ") == expected
    assert result.finish_reason == ("eos" if expected == text else "stop")
    assert tokenizer.decode(result.tokens).removeprefix(" ").startswith(expected)
    pieces = list(model(make_engine, tokenizer, text).stream("b", stop=stop))
    assert "".join(pieces) == result.text and all(pieces)


def test_tokens_are_those_that_were_generated(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("byte_level")
    result = model(make_engine, tokenizer, "a fox jumps").generate("b", stop="ox")
    assert (result.text, tokenizer.decode(result.tokens)) == ("a f", "a fox")


def test_a_special_token_stops_as_a_token(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("byte_level")
    letter = tokenizer.encode("x")[0]
    engine = make_engine([letter, 0, letter])
    result = Model(engine, tokenizer).generate("b", stop=["<s>", "never"])
    assert (result.text, result.tokens, result.finish_reason) == ("x", (letter,), "stop")


def test_a_stop_string_at_the_limit_is_one(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("byte_level")
    result = model(make_engine, tokenizer, "xyz").generate("b", stop="y", max_tokens=2)
    assert (result.text, result.finish_reason) == ("x", "stop")
    partly = model(make_engine, tokenizer, "xyz").generate("b", stop="yz", max_tokens=2)
    assert (partly.text, partly.finish_reason) == ("xy", "length")


def test_a_character_cut_at_the_end_may_complete_one(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("byte_level")
    result = model(make_engine, tokenizer, "x€").generate("b", stop="\ufffd", max_tokens=2)
    assert (result.text, result.finish_reason) == ("x", "stop")


def test_stop_strings_need_a_tokenizer(make_engine: MakeEngine) -> None:
    with pytest.raises(ArgumentError, match=r"^stop: without a tokenizer"):
        Model(make_engine([5])).generate([2], stop="x")
