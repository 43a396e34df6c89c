"""SubRip (.srt) and WebVTT: numbers and times are kept, the lines of a cue are translated together."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgeslm.translation.formats.blocks import Block, lines, paragraph

_TIMES = re.compile(r"\s*(?:\d+:)?\d+:\d+[.,]\d+\s*-->")
_HEAD = re.compile(r"\ufeff?(?:WEBVTT|NOTE|STYLE|REGION)(?:\s|$)")
_SPEAKER = re.compile(r"\s*(?:<[^<>\n]*>)*[-–—]")  # a line of its own, not the next one of a sentence


def blocks(text: str) -> Iterator[Block]:
    """Cut a file of subtitles."""
    cue: list[str] = []
    found = lines(text)
    kept = False  # within the head of the file or a note, up to an empty line
    for line, following in zip(found, [*found[1:], ""], strict=False):
        kept = bool(line.strip()) and (kept or _HEAD.match(line) is not None)
        if kept or not line.strip() or _TIMES.match(line) or _TIMES.match(following):
            yield from paragraph(cue)
            yield Block(line, literal=True)
            cue = []
            continue
        if cue and _SPEAKER.match(line):
            yield from paragraph(cue)
            cue = []
        cue.append(line)
    yield from paragraph(cue)
