"""Markdown: a parser tells which lines hold text; marks before it, code, frames of tables and addresses are kept."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgeslm.translation.formats import html
from edgeslm.translation.formats.blocks import Block, lines, paragraph

_FRONT = re.compile(r"\ufeff?---[ \t]*(?:\r\n|\r|\n)(?s:.{0,65536}?)(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\r|\n|$)")
_BEFORE = re.compile(
    r"(?:[ \t]*(?:>|[-*+](?=[ \t])|\d{1,9}[.)](?=[ \t])|\[\^[^\[\]\s]{1,64}\]:(?=[ \t])))*"
    r"[ \t]*(?:#{1,6}[ \t]+)?(?:\[[ xX]\][ \t]+)?"
)
_CELL = re.compile(r"(?:[^|\\`]|\\.?|`[^`\n]*+`|`)+|\|", re.DOTALL)


def blocks(text: str) -> Iterator[Block]:
    """Cut a Markdown document."""
    front = _FRONT.match(text)
    if front:
        yield Block(front[0], literal=True)
        text = text[front.end() :]
    found, at = lines(text), 0
    for kind, start, end in _parts(text):
        if start < at or end > len(found):
            continue
        yield Block("".join(found[at:start]), literal=True)
        if kind == "html":
            yield from html.blocks("".join(found[start:end]))
        elif kind == "row":
            yield from _row(found[start])
        else:
            yield from _paragraph(found[start:end])
        at = max(end, start)
    yield Block("".join(found[at:]), literal=True)


def _parts(text: str) -> Iterator[tuple[str, int, int]]:
    """Kinds and lines of what holds text: "text", "html", or a "row" of a table."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    parser.disable(["inline", "text_join"], ignoreInvalid=True)  # blocks alone are wanted
    in_table = False
    for token in parser.parse(text):
        in_table = (in_table or token.type == "table_open") and token.type != "table_close"
        if token.map is None:
            continue
        if token.type == "tr_open":
            yield "row", token.map[0], token.map[0] + 1
        elif token.type == "html_block":
            yield "html", token.map[0], token.map[1]
        elif token.type == "inline" and not in_table:
            yield "text", token.map[0], token.map[1]


def _paragraph(found: list[str]) -> Iterator[Block]:
    """Lines of a paragraph; quoted ones, with a mark before each, one by one."""
    held: list[str] = []
    for line in found:
        before = _BEFORE.match(line)
        mark = before[0] if before and (not held or ">" in before[0]) else ""
        if mark.strip() or not held:
            yield from paragraph(held)
            yield Block(mark, literal=True)
            held = []
            line = line[len(mark) :]
        held.append(line)
    yield from paragraph(held)


def _row(line: str) -> Iterator[Block]:
    for cell in _CELL.findall(line):
        if cell == "|":
            yield Block(cell, literal=True)
        else:
            yield from paragraph([cell])
