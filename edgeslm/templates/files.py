"""A model's chat templates and special tokens, from the files that come with its tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from edgeslm.errors import TemplateError
from edgeslm.manifest import parse_json
from edgeslm.templates.chat_template import ChatTemplate

TEMPLATE_FILE = "chat_template.jinja"
CONFIG, TOKENS_MAP = "tokenizer_config.json", "special_tokens_map.json"
MAX_BYTES = 16 << 20
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

Read = Callable[[str], bytes | None]  # the content of a file by name, or None where there is none


class ChatTemplates:
    """The templates of a model by name; most have one, ``default``. Nothing is parsed before one is wanted."""

    def __init__(self, read: Read) -> None:
        """``read`` is called here, once for each file."""
        self._files = {name: read(name) for name in (TEMPLATE_FILE, CONFIG, TOKENS_MAP)}
        self._compiled: dict[str, ChatTemplate] = {}

    def choose(self, tools: object = None) -> ChatTemplate:
        """The template for a conversation: ``tool_use`` where there are tools and the model has it, or ``default``.

        As transformers finds them: in chat_template.jinja, else in ``chat_template`` of tokenizer_config.json.

        Raises:
            TemplateError: the model has none, or it cannot be compiled, or one of the files is malformed.
        """
        name = "tool_use" if tools is not None and "tool_use" in self._sources else "default"
        if not self._sources:
            raise TemplateError(
                "this bundle has no chat template, so how its model writes a conversation is not known: give the text "
                f"of the whole prompt, or put the model's {TEMPLATE_FILE} into the checkpoint and convert again"
            )
        if name not in self._sources:
            raise TemplateError(
                f"{CONFIG}: no chat template named default; it has {', '.join(sorted(self._sources))}: "
                f"put the one to use into {TEMPLATE_FILE} and convert again"
            )
        if name not in self._compiled:
            self._compiled[name] = ChatTemplate(self._sources[name], self._special_tokens)
        return self._compiled[name]

    @cached_property
    def _config(self) -> dict[str, Any]:
        return _object(self._files[CONFIG], CONFIG)

    @cached_property
    def _special_tokens(self) -> dict[str, str]:
        return {**_special_tokens(_object(self._files[TOKENS_MAP], TOKENS_MAP)), **_special_tokens(self._config)}

    @cached_property
    def _sources(self) -> dict[str, str]:
        raw = self._files[TEMPLATE_FILE]
        if raw is None:
            return _named(self._config.get("chat_template"))
        try:
            return {"default": raw.decode("utf-8")}
        except UnicodeDecodeError as error:
            raise TemplateError(f"{TEMPLATE_FILE}: byte {error.start} is not UTF-8; get the file again") from None


def _object(raw: bytes | None, where: str) -> dict[str, Any]:
    found = parse_json(raw or b"{}", where, TemplateError, MAX_BYTES)
    if not isinstance(found, dict):
        raise TemplateError(f"{where}: expected an object, found {type(found).__name__}")
    return found


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """A token is a string, or an object with its ``content``."""
    found = {name: config.get(name) for name in SPECIAL_TOKENS}
    texts = {name: token.get("content") if isinstance(token, dict) else token for name, token in found.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _named(found: object) -> dict[str, str]:
    """``chat_template``: a text, a list of {"name", "template"}, or name → text."""
    if found is None:
        return {}
    if isinstance(found, str):
        return {"default": found}
    if isinstance(found, list) and all(isinstance(entry, dict) for entry in found):
        found = {entry.get("name"): entry.get("template") for entry in found}
    if isinstance(found, dict) and all(isinstance(part, str) for pair in found.items() for part in pair):
        return found
    raise TemplateError(f"{CONFIG}: chat_template: expected a text, or a list of objects with name and template")
