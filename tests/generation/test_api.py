from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeslm import ArgumentError, ContextLengthError, EngineError, Model, load
from edgeslm.generation.options import GenerationDefaults
from edgeslm.tokenizer import Tokenizer

MakeEngine = Callable[..., Any]
MakeTokenizer = Callable[[str], Tokenizer]


def test_text_in_text_out(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("byte_fallback")
    script = tokenizer.encode("the naïve fox")[1:]
    with Model(make_engine(script), tokenizer) as model:
        result = model.generate("a", max_new_tokens=len(script))
        assert result.text == " the naïve fox"  # behind a prompt its first space stays
        assert result.tokens == tuple(script) and result.finish_reason == "length"


def test_the_tokenizer_begins_the_text(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    engine, tokenizer = make_engine([5]), make_tokenizer("byte_fallback")
    Model(engine, tokenizer).generate("a", max_new_tokens=1)
    assert engine.forwarded == [tokenizer.encode("a")] and engine.forwarded[0][0] == 0


def test_stream_is_generate_in_pieces(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("byte_level")
    script = [*tokenizer.encode("漢字 and 🚀"), 1]
    defaults = GenerationDefaults(eos_ids=frozenset({1}))
    whole = Model(make_engine(script), tokenizer, defaults).generate("b")
    pieces = list(Model(make_engine(script), tokenizer, defaults).stream("b"))
    assert whole.text == "".join(pieces) == "漢字 and 🚀" and whole.finish_reason == "eos"
    assert all(pieces) and len(pieces) > 5


@pytest.mark.parametrize("prompt", [[2, 3], (2, 3), np.array([2, 3]), np.array([2, 3], np.uint16)], ids=repr)
def test_ids_are_taken_as_they_are(make_engine: MakeEngine, prompt: Any) -> None:
    engine = make_engine([5, 6])
    result = Model(engine).generate(prompt, max_tokens=2)
    assert (result.text, result.tokens) == ("", (5, 6))
    assert engine.forwarded[0] == [2, 3]


BAD_IDS: list[Any] = [[], [400], [-1], [1.5], ["a"], [None], [[2]], [2**63], [2**70], [True, False], b"ab", 3, None, {}]


@pytest.mark.parametrize("prompt", BAD_IDS, ids=repr)
@pytest.mark.parametrize("method", ["generate", "logits"])
def test_what_are_no_ids_is_refused(make_engine: MakeEngine, method: str, prompt: Any) -> None:
    engine = make_engine([5])
    with pytest.raises(ArgumentError):
        getattr(Model(engine), method)(prompt)
    assert not engine.forwarded and all(session.closed for session in engine.sessions)


def test_text_needs_a_tokenizer(make_engine: MakeEngine) -> None:
    model = Model(make_engine([5]))
    with pytest.raises(ArgumentError, match="no tokenizer"):
        model.generate("text")
    with pytest.raises(ArgumentError, match="no tokenizer"):
        model.stream([2])


def test_an_empty_prompt_is_refused_unless_the_tokenizer_begins_the_text(
    make_engine: MakeEngine, make_tokenizer: MakeTokenizer
) -> None:
    assert Model(make_engine([1]), make_tokenizer("byte_fallback")).generate("", max_tokens=1).tokens == (1,)
    with pytest.raises(ArgumentError, match="it has no tokens"):
        Model(make_engine([1]), make_tokenizer("byte_level")).generate("")


def test_stream_refuses_at_the_call_not_at_the_first_piece(
    make_engine: MakeEngine, make_tokenizer: MakeTokenizer
) -> None:
    model = Model(make_engine(), make_tokenizer("byte_level"))
    with pytest.raises(ArgumentError):
        model.stream("b", temperature=-1)
    with pytest.raises(ContextLengthError):
        model.stream("b", max_new_tokens=64)


def test_closing_a_stream_frees_its_session(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    engine = make_engine([100, 101, 102])
    stream = Model(engine, make_tokenizer("byte_level")).stream("b")
    next(stream)
    stream.close()
    assert engine.sessions[0].closed
    Model(engine, make_tokenizer("byte_level")).stream("b").close()  # never begun: nothing to free
    assert len(engine.sessions) == 1


def test_cancel_ends_what_is_under_way(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("byte_level")
    model = Model(make_engine([*tokenizer.encode("xyzxyz"), *[5] * 300]), tokenizer)
    model.cancel()  # nothing is: nothing happens
    seen = []
    with model.stream("b", max_tokens=50) as stream:
        for piece in stream:
            seen.append(piece)
            if piece == "z":
                model.cancel()
    assert seen == ["x", "y", "z"]
    assert (stream.result().text, stream.result().finish_reason) == ("xyz", "cancelled")
    assert model.generate("b", max_tokens=2).finish_reason == "length"  # those that come later are not


def test_cancel_from_another_thread_ends_generate(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    engine = make_engine([5] * 50_000, context_length=60_000)
    model = Model(engine, make_tokenizer("byte_level"))

    def cancel_once_it_runs() -> None:
        while len(engine.forwarded) < 3:
            time.sleep(0.001)
        model.cancel()

    other = threading.Thread(target=cancel_once_it_runs)
    other.start()
    result = model.generate("b", max_tokens=50_000)
    other.join()
    assert result.finish_reason == "cancelled" and 2 <= len(result.tokens) < 50_000
    assert result.text and engine.sessions[0].closed


def test_an_interrupted_stream_keeps_what_came(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("byte_level")
    engine = make_engine(tokenizer.encode("xyz"))
    stream = Model(engine, tokenizer).stream("b")
    with pytest.raises(KeyboardInterrupt):
        for piece in stream:
            if piece == "y":
                raise KeyboardInterrupt
    assert stream.result().text == "xy" and stream.result().finish_reason == "cancelled"
    assert engine.sessions[0].closed


def test_unknown_options_are_named(make_engine: MakeEngine) -> None:
    with pytest.raises(ArgumentError, match="unknown option 'top_n'"):
        Model(make_engine()).generate([2], top_n=3)  # type: ignore[call-arg]


def test_logits_of_every_position(make_engine: MakeEngine) -> None:
    engine = make_engine()
    logits = Model(engine).logits([3, 4, 3])
    assert logits.shape == (3, 400) and logits.dtype == np.float32
    assert logits.argmax(axis=1).tolist() == [3, 4, 3]
    assert engine.sessions[0].closed
    with pytest.raises(ContextLengthError):
        Model(engine).logits([3] * 65)


def test_a_closed_model_says_so(make_engine: MakeEngine, make_tokenizer: MakeTokenizer) -> None:
    engine = make_engine()
    with Model(engine, make_tokenizer("byte_level")) as model:
        assert model.engine.name == "scripted"
    model.close()  # again: nothing happens
    assert engine.closed
    uses: list[Callable[[], Any]] = [
        lambda: model.generate([2]),
        lambda: model.stream([2]),
        lambda: model.logits([2]),
        lambda: model.engine,
        model.__enter__,
    ]
    for use in uses:
        with pytest.raises(EngineError, match="closed"):
            use()
    assert model.spec.vocab_size == 400


def test_load_checks_its_arguments() -> None:
    with pytest.raises(ArgumentError, match="check"):
        load("anywhere", check="slow")  # type: ignore[arg-type]
