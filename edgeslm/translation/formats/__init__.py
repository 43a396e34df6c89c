"""What a document has to translate: each format cuts a text into blocks, which joined are the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Literal, get_args

from edgeslm.errors import ArgumentError
from edgeslm.translation.formats import html, markdown, subtitles, text
from edgeslm.translation.formats.blocks import Block

Format = Literal["text", "markdown", "html", "srt"]
_BLOCKS: dict[Format, Callable[[str], Iterator[Block]]] = {
    "text": text.blocks,
    "markdown": markdown.blocks,
    "html": html.blocks,
    "srt": subtitles.blocks,
}
_SUFFIXES: dict[str, Format] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".srt": "srt",
    ".vtt": "srt",
}


def blocks(document: str, form: Format) -> Iterator[Block]:
    """Cut a document.

    Raises:
        ArgumentError: an unknown format.
    """
    if form not in _BLOCKS:
        raise ArgumentError(f"format: expected one of {', '.join(get_args(Format))}; found {form!r}")
    return _BLOCKS[form](document)


def format_of(path: PurePath) -> Format:
    """By the ending of its name; plain text where that tells nothing."""
    return _SUFFIXES.get(path.suffix.lower(), "text")
