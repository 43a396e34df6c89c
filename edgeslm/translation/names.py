"""Which words are names to a model: words with a capital that it has hardly seen, and would answer with another.

Its tokenizer cuts them, and its card does not list them among those that it translates nonetheless.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from edgeslm.translation.protect import Kind, Span

NOUN_CAPITALS = ("de", "lb")  # languages in which a capital need not mean anything within a sentence

# Tokens that a name is cut into, at least: what occurs often in the texts that a vocabulary was made from is one token.
# Where ordinary words have capitals, too, it takes more of them. Measured: docs/measured.md.
PIECES, PIECES_OPENING, PIECES_NOUNS = 2, 3, 3
CACHED = 4096  # words

# "Anna-Lena" is one; "Allons-y" and "Suis-je", with which French sentences begin, are not.
CAPITAL = re.compile(r"(?<![\w'’])[A-ZÀ-ÖØ-Þ][^\W\d_]{1,40}(?:-[A-ZÀ-ÖØ-Þ][^\W\d_]{1,40}){0,4}(?!-?\w)")


class Names:
    """Tells names by how a tokenizer cuts them."""

    def __init__(self, encode: Callable[[str], Sequence[int]], capitals: frozenset[str] | None) -> None:
        """
        Args:
            encode: gives the tokens of a text.
            capitals: as a card has them; None: nothing is a name.
        """
        self._encode, self._capitals = encode, capitals
        self._pieces = lru_cache(CACHED)(self._count)

    def spans(self, text: str, taken: Sequence[Span], opens: bool, language: str) -> list[Span]:
        """Names of one or several words, outside of what is taken.

        Args:
            opens: the text is the beginning of a sentence.
        """
        found = list[Span]()
        if self._capitals is None or text.isupper():
            return found
        for word in CAPITAL.finditer(text):
            start, end = word.span()
            if any(span.start < end and start < span.end for span in taken):
                continue
            if word[0] in self._capitals or self._pieces(word[0]) < least(language, opens and start == 0):
                continue
            if found and text[found[-1].end : start] == " ":
                start = found.pop().start
            found.append(Span(start, end, Kind.WORD))
        return found

    def _count(self, word: str) -> int:
        return min(len(self._encode(f" {form}")) for form in dict.fromkeys((word, word.lower())))


def least(language: str, opens: bool) -> int:
    """The tokens that a word must be cut into to be a name, which opens a sentence or not."""
    if language in NOUN_CAPITALS:
        return PIECES_NOUNS
    return PIECES_OPENING if opens else PIECES
