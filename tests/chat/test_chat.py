"""Conversations: what they keep, and that reusing a cache changes no answer."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any

import pytest

import edgeslm
from edgeslm import ArgumentError, ContextLengthError, EngineError, Model, TemplateError
from edgeslm.generation.loop import Generation

TURNS = ("Hi", "The little cat sat on the mat.", "  你好, ✓  ", "", "Größe and the log")


def cold(model: Model, messages: list[dict[str, Any]], **options: Any) -> tuple[int, ...]:
    return model.generate(messages=messages, **options).tokens


@pytest.mark.parametrize("system", [None, "the dog"])
def test_a_turn_equals_a_cold_answer(model: Model, system: str | None) -> None:
    with model.chat(system) as chat:
        cached = []
        for turn, text in enumerate(TURNS):
            asked = [*chat.messages, {"role": "user", "content": text}]
            options: dict[str, Any] = {"max_new_tokens": 7, "temperature": 0.8, "seed": turn}
            result = chat.send(text, **options)
            assert result.tokens == cold(model, asked, **options)
            assert chat.messages == [*asked, {"role": "assistant", "content": result.text}]
            cached.append(result.timings.cached_tokens)
        assert cached[0] == 0
        if not any(block.mixer.window for block in model.spec.layers):
            assert all(later > earlier for earlier, later in pairwise(cached))


def test_going_back_stays_exact(model: Model) -> None:
    """Undoing and resetting rewind the cache, or empty it where a window has forgotten."""
    another = [{"role": "system", "content": "another"}]
    with model.chat("the log") as chat:
        for text in TURNS:
            chat.send(text, max_new_tokens=5)
        for step in (chat.undo, chat.undo, chat.reset, lambda: chat.reset(another)):
            step()
            asked = [*chat.messages, {"role": "user", "content": "and?"}]
            assert chat.send("and?", max_new_tokens=5).tokens == cold(model, asked, max_new_tokens=5)
            chat.undo()
        assert chat.messages == another


def test_a_stream_is_the_answer_in_pieces(native: Model) -> None:
    with native.chat() as chat, native.chat() as other:
        reply = chat.stream("Hi", max_new_tokens=12)
        assert isinstance(reply, Generation)
        text = "".join(reply)
        assert reply.result().text == text == other.send("Hi", max_new_tokens=12).text
        assert chat.messages == other.messages


def test_a_closed_answer_keeps_its_text(native: Model) -> None:
    with native.chat() as chat:
        reply = chat.stream("Hi", max_new_tokens=100)
        piece = next(reply)
        reply.close()
        assert reply.finish_reason == "cancelled"
        assert chat.messages[1] == {"role": "assistant", "content": reply.result().text}
        assert reply.result().text.startswith(piece)
        asked = [*chat.messages, {"role": "user", "content": "go on"}]
        assert chat.send("go on", max_new_tokens=9).tokens == cold(native, asked, max_new_tokens=9)


def test_the_next_turn_closes_an_answer_that_was_left(native: Model) -> None:
    with native.chat() as chat:
        for _ in chat.stream("Hi", max_new_tokens=50):
            break
        chat.send("again", max_new_tokens=3)
        assert [m["role"] for m in chat.messages] == ["user", "assistant", "user", "assistant"]


def test_a_turn_that_came_to_nothing_is_taken_back(native: Model) -> None:
    with native.chat("x") as chat:
        chat.stream("Hi").close()
        assert [m["role"] for m in chat.messages] == ["system"]


def test_cancel_from_another_thread_keeps_the_text(native: Model) -> None:
    with native.chat() as chat:
        reply = chat.stream("Hi", max_new_tokens=200)
        pieces = [next(reply)]
        thread = threading.Thread(target=native.cancel)
        thread.start()
        thread.join()
        pieces += reply
        assert reply.finish_reason == "cancelled"
        assert chat.messages[-1] == {"role": "assistant", "content": "".join(pieces)}


@pytest.mark.parametrize("error", [EngineError, KeyboardInterrupt])
def test_an_error_takes_the_turn_back_and_an_interrupt_keeps_it(
    native: Model, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    with native.chat() as chat:
        reply = chat.stream("Hi", max_new_tokens=50)
        piece = next(reply)

        def fail(*arguments: object) -> None:
            raise error

        monkeypatch.setattr(edgeslm.engines.session.Session, "forward", fail)
        with pytest.raises(error):
            list(reply)
        monkeypatch.undo()
        assert len(chat.messages) == (0 if error is EngineError else 2)
        assert error is EngineError or chat.messages[1]["content"].startswith(piece)
        asked = [*chat.messages, {"role": "user", "content": "and now?"}]
        assert chat.send("and now?", max_new_tokens=5).tokens == cold(native, asked, max_new_tokens=5)


def test_an_outgrown_context_is_an_error_before_work(native: Model) -> None:
    with native.chat() as chat:
        chat.send("Hi", max_new_tokens=3)
        before = chat.messages
        with pytest.raises(ContextLengthError, match=r"do not fit the context.*undo\(\) turns, or reset\(\)"):
            chat.send("a b " * native.spec.context_length)
        assert chat.messages == before
        assert chat.send("Hi", max_new_tokens=3).timings.cached_tokens > 0


def test_messages_to_go_on_from(native: Model) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    with native.chat("sys", messages=turns) as chat:
        asked = [{"role": "system", "content": "sys"}, *turns, {"role": "user", "content": "so"}]
        assert chat.send({"role": "user", "content": "so"}, max_new_tokens=4).tokens == cold(
            native, asked, max_new_tokens=4
        )
        chat.undo()
        chat.undo()  # what it began with stays
        assert chat.messages == asked[:3]


def test_begin_of_text_is_there_once(native: Model) -> None:
    """The template writes it, and the tokenizer would add it."""
    messages = [{"role": "user", "content": "Hi"}]
    ids = native.prompts.ids(None, messages, {})
    assert ids[0] == 1 and ids.count(1) == 1
    assert native.prompts.ids("Hi", None, {})[0] == 1


def test_the_template_gets_what_it_is_given(make_chat_bundle: Any) -> None:
    source = "{{ tools }}{{ mode }}{% for m in messages %}{{ m.content }}{% endfor %}"
    with edgeslm.load(make_chat_bundle(template=source), engine="native") as model:
        given: dict[str, Any] = {"tools": [{"name": "f"}], "chat_template_kwargs": {"mode": "!"}}
        text = model.prompts.render([{"role": "user", "content": "x"}], given)
        assert text == "[{'name': 'f'}]!x"
        expected = model.generate(native_ids(model, text), max_new_tokens=4).tokens
        assert model.generate(messages=[{"role": "user", "content": "x"}], max_new_tokens=4, **given).tokens == expected
        with model.chat(**given) as chat:
            assert chat.send("x", max_new_tokens=4).tokens == expected


def native_ids(model: Model, text: str) -> list[int]:
    assert model.tokenizer is not None
    return model.tokenizer.encode(text, special_tokens=False)


def test_a_bundle_without_a_template_says_so(make_chat_bundle: Any) -> None:
    with edgeslm.load(make_chat_bundle(template=None), engine="native") as model:
        for use in (model.chat, lambda: model.generate(messages=[{"role": "user", "content": "x"}])):
            with pytest.raises(TemplateError, match=r"no chat template.*convert again"):
                use()
        assert model.generate("x", max_new_tokens=2).tokens


def test_arguments_that_do_not_go_together(native: Model) -> None:
    messages = [{"role": "user", "content": "x"}]
    bad: list[dict[str, Any]] = [
        {},
        {"prompt": "x", "messages": messages},
        {"prompt": "x", "tools": []},
        {"prompt": "x", "chat_template_kwargs": {}},
        {"messages": []},
        {"messages": "x"},
        {"messages": messages, "chat_template_kwargs": []},
        {"messages": messages, "chat_template_kwargs": {"messages": []}},
        {"messages": messages, "tools": [object()]},
        {"messages": [{"role": "assistant", "content": "x"}]},
    ]
    for given in bad:
        with pytest.raises(ArgumentError):
            native.generate(**given)
        with pytest.raises(ArgumentError):
            native.stream(**given)
    for text in (3, None, b"x", ["x"]):
        with pytest.raises(ArgumentError):
            native.chat().send(text)  # type: ignore[arg-type]


def test_a_closed_chat_keeps_its_messages(native: Model) -> None:
    chat = native.chat()
    chat.send("Hi", max_new_tokens=2)
    chat.close()
    chat.close()
    assert len(chat.messages) == 2
    native.close()
    with pytest.raises(EngineError, match="closed"):
        native.chat()
