"""Where templates and special tokens are found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgeslm.errors import TemplateError
from edgeslm.templates.files import CONFIG, TEMPLATE_FILE, TOKENS_MAP, ChatTemplates

USER = [{"role": "user", "content": "Hi"}]


def templates(**files: Any) -> ChatTemplates:
    """Files given as ``config``, ``jinja`` and ``tokens``: bytes, or what JSON can hold."""
    names = {"config": CONFIG, "jinja": TEMPLATE_FILE, "tokens": TOKENS_MAP}
    held = {names[k]: v if isinstance(v, bytes) else json.dumps(v).encode() for k, v in files.items()}
    return ChatTemplates(held.get)


def test_a_file_of_its_own_comes_before_the_configuration() -> None:
    found = templates(config={"chat_template": "config"}, jinja="größer".encode())
    assert found.choose().render(USER) == "größer"
    assert templates(config={"chat_template": "config"}).choose().render(USER) == "config"


def test_named_templates() -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    for form in (named, {"default": "plain", "tool_use": "tools"}):
        found = templates(config={"chat_template": form})
        assert found.choose().render(USER) == found.choose(None).render(USER) == "plain"
        assert found.choose([]).render(USER) == found.choose([{}]).render(USER) == "tools"
    with pytest.raises(TemplateError, match="no chat template named default; it has rag, tool_use"):
        templates(config={"chat_template": {"tool_use": "a", "rag": "b"}}).choose()


def test_special_tokens_are_texts_or_objects() -> None:
    config = {
        "chat_template": "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}",
        "bos_token": {"content": "<bos>", "special": True},
        "eos_token": "<eos>",
        "unk_token": None,
    }
    tokens = {"eos_token": "<other>", "pad_token": {"content": "<pad>"}}
    assert templates(config=config, tokens=tokens).choose().render(USER) == "<bos><eos><pad>"


def test_a_model_without_a_template_says_so() -> None:
    for found in (templates(), templates(config={"chat_template": None})):
        with pytest.raises(TemplateError, match=r"no chat template.*chat_template\.jinja"):
            found.choose()


@pytest.mark.parametrize(
    "files",
    [
        {"config": b"{"},
        {"config": []},
        {"config": b'{"a":' * 100_000},
        {"config": {"chat_template": 3}},
        {"config": {"chat_template": [3]}},
        {"config": {"chat_template": [{"name": "default"}]}},
        {"config": {"chat_template": {"default": None}}},
        {"tokens": b"\xff"},
        {"jinja": b"\xff"},
    ],
    ids=repr,
)
def test_malformed_files_are_refused(files: Any) -> None:
    with pytest.raises(TemplateError):
        templates(**files).choose()


@pytest.mark.parametrize("source", ["{{", "{% if %}", "{% nonsense %}", "{{ 1|nonsense }}", "{{ 1 is nonsense }}"])
def test_what_is_no_template_is_refused_with_its_line(source: str) -> None:
    with pytest.raises(TemplateError, match=r"^chat template, line 2: "):
        templates(jinja=f"\n{source}".encode()).choose()
