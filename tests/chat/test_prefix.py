"""What many prompts begin with, run once: here and in another process, with the same result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import edgeslm
from edgeslm import ArgumentError, ContextLengthError, Model, SessionFileError

SYSTEM = "The little cat sat on the mat and the little dog sat on the log."
QUESTIONS = ("Hi", "", "naïve?")


def test_answers_are_the_same_with_a_prefix(model: Model) -> None:
    messages = [{"role": "system", "content": SYSTEM}]
    with model.prefix(messages=messages) as prefix:
        assert len(prefix.tokens) > 10
        for question in QUESTIONS:
            asked = [*messages, {"role": "user", "content": question}]
            with_it = model.generate(messages=asked, prefix=prefix, max_new_tokens=6)
            assert with_it.tokens == model.generate(messages=asked, max_new_tokens=6).tokens
            border = 1  # a token there may merge with what comes
            assert len(prefix.tokens) - border <= with_it.timings.cached_tokens <= len(prefix.tokens)
            with model.chat(SYSTEM, prefix=prefix) as chat:
                first = chat.send(question, max_new_tokens=6)
                assert first.tokens == with_it.tokens and first.timings.cached_tokens == with_it.timings.cached_tokens


@pytest.mark.parametrize("cut", range(1, len(SYSTEM), 9))
def test_a_border_within_a_token_changes_nothing(native: Model, cut: int) -> None:
    """The text before the border alone has other tokens than within the whole."""
    with native.prefix(SYSTEM[:cut]) as prefix:
        result = native.generate(SYSTEM, prefix=prefix, max_new_tokens=6)
        assert result.tokens == native.generate(SYSTEM, max_new_tokens=6).tokens
        assert 0 < result.timings.cached_tokens <= len(prefix.tokens)


def test_prompts_shorter_equal_or_foreign(model: Model) -> None:
    with model.prefix(SYSTEM) as prefix:
        for prompt in (SYSTEM, SYSTEM[:10], "你好", list(prefix.tokens), list(prefix.tokens[:3]), [5, 6]):
            assert (
                model.generate(prompt, prefix=prefix, max_new_tokens=4).tokens
                == model.generate(prompt, max_new_tokens=4).tokens
            )
        assert model.generate(SYSTEM + "!", prefix=prefix, max_new_tokens=4).timings.cached_tokens > 0  # unharmed


def test_saved_and_loaded(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "prefix"
    with model.prefix(SYSTEM) as prefix:
        prefix.save(path)
    with model.load_prefix(path) as loaded:
        assert loaded.tokens == prefix_tokens(model, SYSTEM)
        result = model.generate(SYSTEM + " Hi", prefix=loaded, max_new_tokens=6)
        assert result.tokens == model.generate(SYSTEM + " Hi", max_new_tokens=6).tokens
        assert result.timings.cached_tokens > 0


def prefix_tokens(model: Model, text: str) -> tuple[int, ...]:
    assert model.tokenizer is not None
    return tuple(model.tokenizer.encode(text))


def test_a_foreign_or_damaged_file_is_refused(native: Model, make_chat_bundle: Any, tmp_path: Path) -> None:
    path = tmp_path / "prefix"
    with pytest.raises(SessionFileError):
        native.load_prefix(path)
    with native.prefix(SYSTEM) as prefix:
        prefix.save(path)
    with edgeslm.load(make_chat_bundle("mistral"), engine="native") as other, pytest.raises(SessionFileError):
        other.load_prefix(path)
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(SessionFileError, match="damaged"):
        native.load_prefix(path)


def test_a_stream_frees_its_copy(native: Model) -> None:
    with native.prefix(SYSTEM) as prefix:
        for finish in (list, lambda stream: stream.close()):
            stream = native.stream(SYSTEM + "!", prefix=prefix, max_new_tokens=3)
            finish(stream)
        assert native.generate(SYSTEM + "!", prefix=prefix, max_new_tokens=3).timings.cached_tokens > 0


def test_wrong_uses(native: Model, make_chat_bundle: Any) -> None:
    bad: list[dict[str, Any]] = [{}, {"prompt": "a", "messages": []}, {"messages": [3]}, {"prompt": "a", "tools": []}]
    for given in bad:
        with pytest.raises(ArgumentError):
            native.prefix(**given)
    with pytest.raises(ContextLengthError):
        native.prefix("a b " * native.spec.context_length)
    with native.prefix("a") as prefix, edgeslm.load(make_chat_bundle(), engine="native") as other:
        with pytest.raises(ArgumentError, match="another model"):
            other.generate("ab", prefix=prefix)
        with pytest.raises(ContextLengthError):
            native.generate("ab", prefix=prefix, max_new_tokens=native.spec.context_length)


def test_a_template_that_wants_no_user_next(native: Model) -> None:
    """Then the messages as they are, without an answer's beginning."""
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "y"},
        {"role": "user", "content": "z"},
    ]
    with native.prefix(messages=messages) as prefix:
        result = native.generate(messages=messages, prefix=prefix, max_new_tokens=4)
        assert result.tokens == native.generate(messages=messages, max_new_tokens=4).tokens
        assert result.timings.cached_tokens > 5
