"""Texts into sentences, long sentences into clauses, and line breaks put back. What is cut, joined, is the text."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from edgeslm.translation.protect import Kind, Span

# What the splitter is shown: it knows letters, digits and plain punctuation, and has failed on rarer spaces and signs.
_UNUSUAL = re.compile(r"[^\w .,;:!?'\"()\-–—…“”‘’«»„。！？]")
# The best places to cut a clause: the first kind that a text has.
_CUTS = (re.compile(r"[;:–—]\s+|\s[–—-]\s+"), re.compile(r",\s+"), re.compile(r"\s+"))


def sentences(text: str, spans: Sequence[Span], language: str) -> list[str]:
    """The sentences of a text, each with the space behind it."""
    import sentencex  # type: ignore[import-untyped]

    shown = list(_UNUSUAL.sub(lambda found: " " if found[0].isspace() else "x", text))
    for span in spans:  # a placeholder or number stands like a word in its sentence, a mark does not
        length = span.end - span.start
        if span.kind is not Kind.MARK and length > 1:
            shown[span.start : span.end] = "X" + "x" * (length - 1)
        elif span.kind is Kind.MARK:
            shown[span.start : span.end] = " " * length
    found, start = [], 0
    for sentence in sentencex.segment(language, "".join(shown)):
        found.append(text[start : start + len(sentence)])
        start += len(sentence)
    return [*found, text[start:]] if start < len(text) else found


def clauses(text: str, max_words: int) -> list[str]:
    """A text in pieces of at most ``max_words`` words, cut where that hurts least, as near the middle as may be."""
    pieces, rest = [], [text]
    while rest:
        piece = rest.pop()
        at = _cut(piece) if len(piece.split()) > max_words else 0
        if at:
            rest += [piece[at:], piece[:at]]
        else:
            pieces.append(piece)
    return pieces


def _cut(text: str) -> int:
    """Where to cut it: behind what separates clauses, or else words; not in the outer tenths of the text."""
    inside = range(len(text) // 10, len(text) - len(text) // 10)
    for cut in _CUTS:
        places = [found.end() for found in cut.finditer(text) if found.end() in inside]
        if places:
            return min(places, key=lambda place: abs(place - len(text) // 2))
    return 0


_BREAK = re.compile(r"[ \t]{0,64}(?:\r\n|[\n\r\x0b\x0c\x85\u2028\u2029])[ \t]{0,64}")


def has_breaks(text: str) -> bool:
    """Is there a line break in it?"""
    return len(text.splitlines()) > 1


def unwrap(text: str, spans: Sequence[Span]) -> tuple[str, list[str], list[float]]:
    """A text with its line breaks as spaces; the breaks with the spaces around them; where each stood, from 0 to 1.

    Breaks within spans stay where they are.
    """
    pieces, breaks, places, start, length = [], [], [], 0, 0
    ends = iter([*spans, Span(len(text) + 1, len(text) + 1, Kind.MARK)])
    span = next(ends)
    for found in _BREAK.finditer(text):
        while span.end <= found.start():
            span = next(ends)
        if span.start < found.end():
            continue
        pieces += [text[start : found.start()], " "]
        length += found.start() - start + 1
        start = found.end()
        breaks.append(found[0])
        places.append(float(length - 1))
    pieces.append(text[start:])
    flat = "".join(pieces)
    return flat, breaks, [place / len(flat) for place in places]


def wrap(text: str, breaks: Sequence[str], places: Sequence[float], whole: Sequence[str] = ()) -> str:
    """A translation with the breaks that :func:`unwrap` found, each at the space nearest to where it stood.

    They keep their order, and do not come within what is to stay whole; where there are too few spaces the last ones
    stand at the end.
    """
    open_text = text
    for piece in sorted(whole, key=len, reverse=True):  # one may be a part of another
        open_text = open_text.replace(piece, "x" * len(piece))
    spaces = [i for i, character in enumerate(open_text) if character == " "]
    pieces, start, first = [], 0, 0
    for number, (mark, place) in enumerate(zip(breaks, places, strict=True)):
        last = max(first, len(spaces) - (len(breaks) - number))  # later breaks need spaces too
        if first == len(spaces):
            pieces += [text[start:], mark]
            start = len(text)
            continue
        at = min(bisect_left(spaces, place * len(text), first, last + 1), last)
        if at > first and place * len(text) - spaces[at - 1] < spaces[at] - place * len(text):
            at -= 1
        pieces += [text[start : spaces[at]], mark]
        start, first = spaces[at] + 1, at + 1
    return "".join([*pieces, text[start:]])
