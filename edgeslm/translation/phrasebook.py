"""Phrases whose translations a card knows: signs, menus and letters, of which a small model makes sentences."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache

# What a slot stands for; a translation has it again, as it is.
SLOTS = {
    "{name}": r"[A-ZÀ-ÖØ-Þ][\w'’-]{0,40}(?: [A-ZÀ-ÖØ-Þ][\w'’-]{0,40}){0,2}",
    "{number}": r"\d{1,6}",
}
_SLOT = re.compile("|".join(map(re.escape, SLOTS)))


class Phrasebook:
    """Looks up whole texts, as a model is asked for them; their full stop and the case of their first letter do not
    matter."""

    def __init__(self, phrases: Mapping[str, str]) -> None:
        """
        Args:
            phrases: phrase → translation; both may have each slot of :data:`SLOTS` once.
        """
        self._plain = dict[str, str]()
        self._slotted = defaultdict[str, list[tuple[str, str]]](list)  # by their first word
        for phrase, translation in phrases.items():
            key = _key(phrase)
            if "{" in key:
                self._slotted[_first(key)].append((key, translation))
            else:
                self._plain.setdefault(key, translation)

    def get(self, text: str) -> str | None:
        """The translation of a text, with an end."""
        key = _key(text)
        if (found := self._plain.get(key)) is not None:
            return _ended(found)
        for phrase, translation in self._slotted.get(_first(key), ()):
            if match := _pattern(phrase).fullmatch(key):
                return _filled(_ended(translation), match)
        return None


def reversed_phrases(phrases: Mapping[str, str]) -> dict[str, str]:
    """translation → phrase, the first of several, where that fits."""
    found = dict[str, str]()
    for phrase, translation in phrases.items():
        if fits(translation, phrase):
            found.setdefault(translation, phrase)
    return found


def fits(phrase: str, translation: str) -> bool:
    """Whether both have the same slots, each once, and the phrase begins with a word."""
    if "{" not in phrase + translation:
        return bool(phrase.strip(" .,:") and translation)
    slots = sorted(_SLOT.findall(phrase))
    once = len(set(slots)) == len(slots) and slots == sorted(_SLOT.findall(translation))
    return bool(phrase.strip(" .,:") and translation) and once and not _SLOT.match(phrase)


def _key(text: str) -> str:
    text = text.rstrip(".,: ")
    return text[:1].lower() + text[1:]


def _first(key: str) -> str:
    return key.partition(" ")[0]


def _ended(text: str) -> str:
    text = text.rstrip(",: ")
    return text if text.endswith((".", "!", "?")) else text + "."


def _pieces(text: str) -> Iterable[tuple[str, str]]:
    """Literal text, and the slot behind it ("" at the end)."""
    end = 0
    for slot in _SLOT.finditer(text):
        yield text[end : slot.start()], slot[0]
        end = slot.end()
    yield text[end:], ""


@cache  # made when a text needs it: all of a book's would take longer than a sentence's translation
def _pattern(phrase: str) -> re.Pattern[str]:
    pieces = (re.escape(text) + (f"(?P<{slot[1:-1]}>{SLOTS[slot]})" if slot else "") for text, slot in _pieces(phrase))
    return re.compile("".join(pieces))


def _filled(answer: str, match: re.Match[str]) -> str:
    return "".join(text + (match[slot[1:-1]] if slot else "") for text, slot in _pieces(answer))
