"""Blocks, and lines that keep their ends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


class Block(NamedTuple):
    """A part of a document: sentences to translate, or text to keep as it is."""

    text: str
    literal: bool = False


def lines(text: str) -> list[str]:
    """The lines of a text, with their ends: joined they are the text."""
    return _LINE.findall(text)


def paragraph(lines: Iterable[str]) -> Iterator[Block]:
    """Lines of one paragraph as a block, with the space around it literal."""
    text = "".join(lines)
    core = text.strip()
    if not core:
        yield Block(text, literal=True)
        return
    start = text.index(core)
    yield Block(text[:start], literal=True)
    yield Block(core)
    yield Block(text[start + len(core) :], literal=True)
