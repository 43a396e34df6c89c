"""Plain text: a line is a block, but lines that were broken within a sentence belong together; fenced code is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgeslm.translation.formats.blocks import Block, lines, paragraph

WRAPPED = 40  # characters: a shorter line was hardly broken because it was full
_GOES_ON = re.compile(r"[ \t]*[^\W\d_]")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
_ENDS = re.compile(r"[.!?:;…\"”»)]\s*$")


def blocks(text: str) -> Iterator[Block]:
    """Cut plain text."""
    held: list[str] = []
    fence = ""  # of the code that the line stands in
    for line in lines(text):
        found = _FENCE.match(line)
        if fence or (found and not _closed(line, found)):
            yield from paragraph(held)
            yield Block(line, literal=True)
            held = []
            fence = _after(fence, found)
            continue
        if held and not _continues(held[-1], line):
            yield from paragraph(held)
            held = []
        held.append(line)
    yield from paragraph(held)


def _closed(line: str, fence: re.Match[str]) -> bool:
    """Does the code end on the line that it begins on?"""
    return fence[1] in line[fence.end() :]


def _after(fence: str, found: re.Match[str] | None) -> str:
    """The fence that is open behind a line, which may have opened or closed it."""
    if found is None:
        return fence
    return found[1] if not fence else "" if found[1].startswith(fence) else fence


def _continues(line: str, following: str) -> bool:
    first = _GOES_ON.match(following)
    return first is not None and first[0][-1].islower() and len(line) >= WRAPPED and not _ENDS.search(line[-80:])
