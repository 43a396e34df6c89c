"""What a document has to translate: each format cuts a text into blocks, which joined are the text."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import PurePath
from typing import Literal, get_args

from edgeslm.errors import ArgumentError
from edgeslm.translation.formats.blocks import Block

Format = Literal["text", "markdown", "html", "srt"]
_MODULES: dict[Format, str] = {"text": "text", "markdown": "markdown", "html": "html", "srt": "subtitles"}
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
    if form not in _MODULES:
        raise ArgumentError(f"format: expected one of {', '.join(get_args(Format))}; found {form!r}")
    found: Iterator[Block] = import_module(f"{__name__}.{_MODULES[form]}").blocks(document)  # only what is needed
    return found


def format_of(path: PurePath) -> Format:
    """By the ending of its name; plain text where that tells nothing."""
    return _SUFFIXES.get(path.suffix.lower(), "text")
