"""Plain text: a line is a block, but lines that were broken within a sentence belong together."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgeslm.translation.formats.blocks import Block, lines, paragraph

WRAPPED = 40  # characters: a shorter line was hardly broken because it was full
_GOES_ON = re.compile(r"[ \t]*[^\W\d_]")
_ENDS = re.compile(r"[.!?:;…\"”»)]\s*$")


def blocks(text: str) -> Iterator[Block]:
    """Cut plain text."""
    held: list[str] = []
    for line in lines(text):
        if held and not _continues(held[-1], line):
            yield from paragraph(held)
            held = []
        held.append(line)
    yield from paragraph(held)


def _continues(line: str, following: str) -> bool:
    first = _GOES_ON.match(following)
    return first is not None and first[0][-1].islower() and len(line) >= WRAPPED and not _ENDS.search(line[-80:])
