"""What a caller gives, as token ids: raw text, ids as they are, or messages through the model's chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from edgeslm.engines.checks import check_ids
from edgeslm.engines.protocol import TokenIds
from edgeslm.errors import ArgumentError
from edgeslm.spec import DecoderSpec
from edgeslm.templates.chat_template import Message
from edgeslm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from edgeslm.templates.files import ChatTemplates

Prompt: TypeAlias = "str | TokenIds"


class ChatArguments(TypedDict, total=False):
    """What a chat template is given beside the messages.

    * ``tools``: JSON schemas of functions that the model may call.
    * ``chat_template_kwargs``: other variables of the template, such as ``{"enable_thinking": False}``.
    """

    tools: Sequence[Mapping[str, Any]] | None
    chat_template_kwargs: Mapping[str, Any] | None


class Prompts:
    """The tokenizer and templates of a model, in front of its vocabulary."""

    def __init__(self, spec: DecoderSpec, tokenizer: Tokenizer | None, templates: ChatTemplates | None) -> None:
        self._spec, self._tokenizer, self._templates = spec, tokenizer, templates

    def ids(self, prompt: Prompt | None, messages: Sequence[Message] | None, chat: ChatArguments) -> list[int]:
        """Token ids of a prompt, or of messages up to where the model's answer begins.

        Raises:
            ArgumentError: both are given or none, or it has no tokens, or a text finds no tokenizer.
            TemplateError: the model has no chat template, or it fails.
        """
        if (prompt is None) == (messages is None):
            raise ArgumentError("expected either a prompt or messages=[…]")
        if messages is not None:
            return self.encode(self.render(messages, chat), special_tokens=False)
        if any(value is not None for value in chat.values()):
            raise ArgumentError(f"{', '.join(chat)}: only with messages=[…], for a chat template reads them")
        if isinstance(prompt, str):
            return self.encode(prompt)
        return [int(i) for i in check_ids(prompt, self._spec, 0)]  # type: ignore[arg-type]

    def render(self, messages: Sequence[Message], chat: ChatArguments, add_generation_prompt: bool = True) -> str:
        """The text of a conversation."""
        if self._templates is None:
            raise ArgumentError("messages: this bundle has no tokenizer, so it takes token ids, not messages")
        tools, others = chat.get("tools"), chat.get("chat_template_kwargs")
        others = {} if others is None else others
        if not isinstance(others, Mapping) or not all(isinstance(name, str) for name in others):
            raise ArgumentError(f"chat_template_kwargs: expected a dict of names, found {str(others)[:60]!r}")
        if clash := {"messages", "tools", "add_generation_prompt"} & others.keys():
            raise ArgumentError(f"chat_template_kwargs: {', '.join(sorted(clash))} cannot be given here")
        template = self._templates.choose(tools)
        return template.render(messages, tools=tools, add_generation_prompt=add_generation_prompt, **others)

    def check_chat(self, chat: ChatArguments) -> None:
        """Can conversations be rendered at all?

        Raises:
            ArgumentError: the bundle has no tokenizer.
            TemplateError: the model has no chat template, or it cannot be compiled.
        """
        if self._templates is None:
            raise ArgumentError("chat: this bundle has no tokenizer, so it takes token ids, not messages")
        self._templates.choose(chat.get("tools"))

    def encode(self, text: str, special_tokens: bool = True) -> list[int]:
        """Token ids of a text; a chat template writes begin-of-text itself, so it is not added to its text."""
        if self._tokenizer is None:
            raise ArgumentError("prompt: this bundle has no tokenizer, so it takes token ids, not text")
        ids = self._tokenizer.encode(text, special_tokens)
        if not ids:
            raise ArgumentError("prompt: it has no tokens; expected some text")
        return ids

    def beginning(self, messages: Sequence[Message], chat: ChatArguments) -> list[int]:
        """Token ids that every conversation which goes on from ``messages`` begins with.

        Found by going on in several ways, because a template may write the end of a conversation differently, and
        tokens at a border depend on both of its sides.
        """
        try:
            ways = [self.ids(None, [*messages, {"role": "user", "content": text}], chat) for text in ("a", "0", "")]
        except ArgumentError:  # the template wants no user's turn here
            return self.encode(self.render(messages, chat, add_generation_prompt=False), special_tokens=False)
        return ways[0][: min(common_length(ways[0], way) for way in ways)]


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids two sequences begin with alike."""
    for length, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return length
    return min(len(a), len(b))
