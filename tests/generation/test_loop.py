from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgeslm.errors import ContextLengthError, EngineError
from edgeslm.generation.loop import Generation, new_token_limit
from edgeslm.generation.options import GenerationOptions
from edgeslm.tokenizer import Tokenizer

MakeEngine = Callable[..., Any]
EOS = frozenset({1, 9})


def test_tokens_come_until_the_limit(make_engine: MakeEngine) -> None:
    engine = make_engine([5, 6, 7, 8])
    generation = Generation(engine, [2, 3, 4], GenerationOptions(max_new_tokens=3))
    assert [step.token for step in generation] == [5, 6, 7]
    assert generation.tokens == [5, 6, 7] and generation.finish_reason == "length"
    assert engine.forwarded == [[2, 3, 4], [5], [6]]  # the last token needs no pass of its own
    assert engine.sessions[0].closed


@pytest.mark.parametrize("eos", [1, 9])
def test_end_of_text_ends_it_and_is_not_part_of_it(make_engine: MakeEngine, eos: int) -> None:
    generation = Generation(make_engine([5, eos, 7]), [2], GenerationOptions(max_new_tokens=10, eos_ids=EOS))
    assert [step.token for step in generation] == [5, eos]
    assert generation.tokens == [5] and generation.finish_reason == "eos"


def test_end_of_text_at_once(make_engine: MakeEngine) -> None:
    generation = Generation(make_engine([1]), [2], GenerationOptions(eos_ids=EOS))
    assert [step.text for step in generation] == [""]
    assert generation.tokens == [] and generation.finish_reason == "eos"
    assert generation.timings.decode_tok_s is None


def test_an_unfinished_character_comes_out_at_the_end(
    make_engine: MakeEngine, make_tokenizer: Callable[[str], Tokenizer]
) -> None:
    tokenizer = make_tokenizer("byte_level")
    first = tokenizer.encode("€")[0]
    for script, options in (
        ([first], GenerationOptions(max_new_tokens=1)),
        ([first, 1], GenerationOptions(max_new_tokens=5, eos_ids=EOS)),
    ):
        generation = Generation(make_engine(script), [2], options, tokenizer.stream([2]))
        assert "".join(step.text for step in generation) == "\ufffd"


@pytest.mark.parametrize(
    ("context", "prompt", "asked", "limit"),
    [(1000, 10, None, 256), (100, 10, None, 90), (100, 99, None, 1), (100, 10, 90, 90), (100, 10, 5, 5)],
)
def test_limits(context: int, prompt: int, asked: int | None, limit: int) -> None:
    assert new_token_limit(context, prompt, asked) == limit


@pytest.mark.parametrize(("prompt", "asked"), [(100, None), (101, None), (10, 91), (10, 2**63), (100, 1)])
def test_what_does_not_fit_is_refused_before_any_work(make_engine: MakeEngine, prompt: int, asked: int | None) -> None:
    engine = make_engine(context_length=100)
    with pytest.raises(ContextLengthError, match="context of 100"):
        Generation(engine, [2] * prompt, GenerationOptions(max_new_tokens=asked))
    assert not engine.sessions


def test_closing_the_iterator_frees_the_session(make_engine: MakeEngine) -> None:
    engine = make_engine([5, 6, 7])
    steps = iter(Generation(engine, [2], GenerationOptions(max_new_tokens=3)))
    next(steps)
    assert not engine.sessions[0].closed
    steps.close()
    assert engine.sessions[0].closed


def test_a_failing_engine_leaves_no_session(make_engine: MakeEngine) -> None:
    engine = make_engine([5, 6, 7])
    steps = iter(Generation(engine, [2], GenerationOptions(max_new_tokens=3)))
    next(steps)
    engine.close()
    with pytest.raises(EngineError):
        next(steps)
    assert engine.sessions[0].closed


def test_the_seed_decides_the_tokens(make_engine: MakeEngine) -> None:
    def tokens(seed: int) -> list[int]:
        options = GenerationOptions(max_new_tokens=20, temperature=20.0, seed=seed)
        generation = Generation(make_engine([5] * 20), [2], options)
        list(generation)
        return generation.tokens

    assert tokens(1) == tokens(1) != tokens(2)


def test_timings_add_up(make_engine: MakeEngine) -> None:
    generation = Generation(make_engine([5, 6, 7]), [2, 3], GenerationOptions(max_new_tokens=3))
    list(generation)
    t = generation.timings
    assert (t.prompt_tokens, t.new_tokens) == (2, 3)
    assert 0 < t.prompt_s <= t.first_token_s and t.decode_s > 0
    assert t.decode_tok_s == pytest.approx(2 / t.decode_s)
