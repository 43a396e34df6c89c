from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from edgeslm.errors import ArgumentError, CancelledError, ContextLengthError, EngineError
from edgeslm.generation.loop import Generation, new_token_limit
from edgeslm.generation.options import GenerationOptions
from edgeslm.tokenizer import Tokenizer

MakeEngine = Callable[..., Any]
MakeTokenizer = Callable[[str], Tokenizer]
EOS = frozenset({1, 9})


def test_tokens_come_until_the_limit(make_engine: MakeEngine) -> None:
    engine = make_engine([5, 6, 7, 8])
    result = Generation(engine, [2, 3, 4], GenerationOptions(max_new_tokens=3)).run()
    assert (result.tokens, result.finish_reason, result.text) == ((5, 6, 7), "length", "")
    assert engine.forwarded == [[2, 3, 4], [5], [6]]  # the last token needs no pass of its own
    assert engine.sessions[0].closed


@pytest.mark.parametrize("eos", [1, 9])
def test_end_of_text_ends_it_and_is_not_part_of_it(make_engine: MakeEngine, eos: int) -> None:
    result = Generation(make_engine([5, eos, 7]), [2], GenerationOptions(max_new_tokens=10, eos_ids=EOS)).run()
    assert (result.tokens, result.finish_reason) == ((5,), "eos")


def test_a_stop_token_ends_it_and_is_not_part_of_it(make_engine: MakeEngine) -> None:
    options = GenerationOptions(max_new_tokens=10, stop_token_ids=frozenset({8, 7}), eos_ids=EOS)
    result = Generation(make_engine([5, 6, 7, 4]), [2], options).run()
    assert (result.tokens, result.finish_reason) == ((5, 6), "stop")


def test_end_of_text_at_once(make_engine: MakeEngine) -> None:
    result = Generation(make_engine([1]), [2], GenerationOptions(eos_ids=EOS)).run()
    assert (result.text, result.tokens, result.finish_reason) == ("", (), "eos")
    assert result.timings.decode_tok_s is None and result.timings.first_token_s is not None


def test_an_unfinished_character_comes_out_at_the_end(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("byte_level")
    first = tokenizer.encode("€")[0]
    for script, options in (
        ([first], GenerationOptions(max_new_tokens=1)),
        ([first, 1], GenerationOptions(max_new_tokens=5, eos_ids=EOS)),
    ):
        generation = Generation(make_engine(script), [2], options, tokenizer.stream([2]))
        assert list(generation) == ["\ufffd"] and generation.result().text == "\ufffd"


@pytest.mark.parametrize(
    ("context", "prompt", "asked", "limit"),
    [(1000, 10, None, 256), (100, 10, None, 90), (100, 99, None, 1), (100, 10, 90, 90), (100, 10, 5, 5)],
)
def test_limits(context: int, prompt: int, asked: int | None, limit: int) -> None:
    assert new_token_limit(context, prompt, asked) == limit


@pytest.mark.parametrize(("prompt", "asked"), [(100, None), (101, None), (10, 91), (10, 2**62), (100, 1)])
def test_what_does_not_fit_is_refused_before_any_work(make_engine: MakeEngine, prompt: int, asked: int | None) -> None:
    engine = make_engine(context_length=100)
    with pytest.raises(ContextLengthError, match="context of 100"):
        Generation(engine, [2] * prompt, GenerationOptions(max_new_tokens=asked))
    assert not engine.sessions


def text_engine(make_engine: MakeEngine, tokenizer: Tokenizer, text: str, **options: Any) -> tuple[Any, Generation]:
    """An engine that says ``text``, byte by byte, and the completion of it."""
    tokens = [*tokenizer.encode(text), 1]
    engine = make_engine(tokens)
    checked = GenerationOptions(max_new_tokens=len(tokens), eos_ids=EOS, **options)
    return engine, Generation(engine, [2], checked, tokenizer.stream([2]))


def test_closing_ends_it_and_keeps_what_came(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    engine, generation = text_engine(make_engine, make_tokenizer("byte_level"), "xyz€", stop=["yx", "zz"])
    assert next(generation) == "x" and not engine.sessions[0].closed
    generation.close()
    assert engine.sessions[0].closed and list(generation) == []
    result = generation.result()
    assert (result.text, len(result.tokens), result.finish_reason) == ("x", 1, "cancelled")
    assert result is generation.result()  # nothing more happens


def test_what_was_withheld_is_part_of_what_came(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    _, generation = text_engine(make_engine, make_tokenizer("byte_level"), "xyab", stop=["ab"])
    assert [next(generation), next(generation)] == ["x", "y"]
    generation.cancel()
    assert list(generation) == [] and generation.result().text == "xy"
    _, generation = text_engine(make_engine, make_tokenizer("byte_level"), "xyacde", stop=["ac?"])
    for piece in generation:
        if piece == "y":
            break
    assert next(generation) == "acd"
    _, generation = text_engine(make_engine, make_tokenizer("byte_level"), "xyac", stop=["yac!"])
    assert next(generation) == "x"
    assert list(generation) == ["yac"] and generation.finish_reason == "eos"


def test_one_that_was_not_begun_is_cancelled_without_work(make_engine: MakeEngine) -> None:
    for end in (Generation.cancel, Generation.close):
        engine = make_engine([5])
        generation = Generation(engine, [2], GenerationOptions())
        end(generation)
        assert generation.run().finish_reason == "cancelled" and not engine.forwarded


def test_cancel_stops_a_pass_under_way(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine([5])
    session = engine.new_session()
    entered, stopped = threading.Event(), threading.Event()

    def forward(ids: list[int]) -> None:
        entered.set()
        assert stopped.wait(60)
        raise CancelledError

    monkeypatch.setattr(session, "forward", forward)
    monkeypatch.setattr(session, "cancel", stopped.set)
    generation = Generation(engine, [2, 3], GenerationOptions(), session=session)
    other = threading.Thread(target=lambda: (entered.wait(60), generation.cancel()))
    other.start()
    result = generation.run()
    other.join()
    assert (result.tokens, result.finish_reason) == ((), "cancelled")
    assert result.timings.first_token_s is None and result.timings.prompt_tok_s is None


def test_a_cancel_is_not_for_the_next_completion(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    engine, tokenizer = make_engine([100, 101, 102]), make_tokenizer("byte_level")
    session = engine.new_session()
    generation = Generation(engine, [2], GenerationOptions(), tokenizer.stream(), session)
    next(generation)
    generation.cancel()
    assert generation.run().finish_reason == "cancelled" and session.length == 1
    generation.cancel()  # too late: nothing happens
    assert not session.cancelled
    assert Generation(engine, [2, 100], GenerationOptions(max_new_tokens=1), session=session).run().tokens == (101,)


def test_the_owner_of_a_session_may_cancel_it(make_engine: MakeEngine) -> None:
    engine = make_engine([5])
    session = engine.new_session()
    session.cancel()
    assert Generation(engine, [2], GenerationOptions(), session=session).run().finish_reason == "cancelled"


def test_leaving_the_block_closes_it(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    engine, generation = text_engine(make_engine, make_tokenizer("byte_level"), "xyz")
    with generation:
        next(generation)
    assert engine.sessions[0].closed and generation.finish_reason == "cancelled"


def test_an_interrupt_within_the_engine_keeps_what_came(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    engine, generation = text_engine(make_engine, make_tokenizer("byte_level"), "xyz")
    assert next(generation) == "x"
    engine.failure = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        next(generation)
    result = generation.result()
    assert (result.text, result.finish_reason) == ("x", "cancelled") and engine.sessions[0].closed


def test_a_failing_engine_leaves_no_session(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    engine, generation = text_engine(make_engine, make_tokenizer("byte_level"), "xyz")
    next(generation)
    engine.close()
    with pytest.raises(EngineError):
        next(generation)
    assert engine.sessions[0].closed


def test_a_session_may_hold_the_start_of_the_prompt(make_engine: MakeEngine) -> None:
    engine = make_engine([9, 5, 6])
    session = engine.new_session()
    session.forward([2, 3])
    result = Generation(engine, [2, 3, 4], GenerationOptions(max_new_tokens=2), session=session).run()
    assert engine.forwarded == [[2, 3], [4], [5]] and result.tokens == (5, 6)
    assert (result.timings.prompt_tokens, result.timings.cached_tokens) == (3, 2)
    assert not session.closed and session.length == 4


def test_the_seed_decides_the_tokens(make_engine: MakeEngine) -> None:
    def tokens(seed: int) -> tuple[int, ...]:
        options = GenerationOptions(max_new_tokens=20, temperature=20.0, seed=seed)
        return Generation(make_engine([5] * 20), [2], options).run().tokens

    assert tokens(1) == tokens(1) != tokens(2)


def test_options_reach_the_sampler(make_engine: MakeEngine) -> None:
    """The script's token has 10 more than the others, which are equal: the lowest id comes next."""

    def tokens(**options: Any) -> list[int]:
        checked = GenerationOptions(max_new_tokens=3, **options)
        return list(Generation(make_engine([7, 7, 7]), [0, 7], checked).run().tokens)

    assert tokens() == [7, 7, 7]
    assert tokens(repetition_penalty=2, logit_bias={3: 9}) == [3, 7, 7]
    assert tokens(suppress_tokens={7, 0}) == [1, 1, 1]
    assert tokens(logit_bias={5: 10.5}) == [5, 5, 5]
    assert tokens(presence_penalty=11) == [7, 0, 1]
    assert tokens(frequency_penalty=6) == [7, 7, 0]
    assert tokens(temperature=1e3, top_k=1, seed=0) == [7, 7, 7]
    assert tokens(temperature=1e3, top_p=0, seed=0) == [7, 7, 7]
    assert tokens(temperature=1.0, min_p=0.01, seed=0) == [7, 7, 7]


def test_ids_outside_the_vocabulary_are_refused_before_any_work(make_engine: MakeEngine) -> None:
    engine = make_engine([5])
    for options in (
        GenerationOptions(logit_bias={400: 1}),
        GenerationOptions(suppress_tokens=frozenset({400})),
        GenerationOptions(stop_token_ids=frozenset({400})),
        GenerationOptions(stop=("x",)),  # and no tokenizer
    ):
        with pytest.raises(ArgumentError):
            Generation(engine, [2], options)
    assert not engine.sessions


def test_logprobs_are_the_models_own(make_engine: MakeEngine) -> None:
    options = GenerationOptions(max_new_tokens=2, logprobs=2, logit_bias={3: 20}, temperature=0.5, eos_ids=EOS)
    result = Generation(make_engine([7, 8, 1]), [2], options).run()
    assert result.tokens == (3, 3) and result.logprobs is not None
    rest = -math.log(math.exp(10) + 399)
    for found, script in zip(result.logprobs, (7, 8), strict=True):
        assert found.token == 3 and found.logprob == pytest.approx(rest, abs=1e-5)
        assert [t.token for t in found.top] == [script, 0]
        assert [t.logprob for t in found.top] == pytest.approx([10 + rest, rest], abs=1e-5)
    none = GenerationOptions(max_new_tokens=2, logprobs=0)
    found_none = Generation(make_engine([7, 8]), [2], none).run().logprobs
    assert found_none is not None and [t.top for t in found_none] == [(), ()]


def test_timings_add_up(make_engine: MakeEngine) -> None:
    t = Generation(make_engine([5, 6, 7]), [2, 3], GenerationOptions(max_new_tokens=3)).run().timings
    assert (t.prompt_tokens, t.cached_tokens, t.new_tokens) == (2, 0, 3)
    assert t.first_token_s is not None and 0 < t.prompt_s <= t.first_token_s and t.decode_s > 0
    assert t.prompt_tok_s == pytest.approx(2 / t.prompt_s) and t.decode_tok_s == pytest.approx(2 / t.decode_s)


def test_memory_is_that_of_the_tokens_and_of_the_process(make_engine: MakeEngine) -> None:
    result = Generation(make_engine([5, 6, 7]), [2, 3], GenerationOptions(max_new_tokens=3)).run()
    assert result.memory.cache_bytes == 5 * 2 * 2 * 4  # keys and values of one head of 2, float32
    assert result.memory.peak_rss_bytes is None or result.memory.peak_rss_bytes > 2**20
