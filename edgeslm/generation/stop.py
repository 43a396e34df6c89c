"""Ending a text before a stop string, wherever tokens cut it."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Passes text on, character by character, and withholds what could still become a stop string.

    The first stop string to be complete ends the text; of several that end together the longest. So what comes out
    does not depend on how the text was cut. Each string is followed by Knuth, Morris and Pratt's automaton.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._automata = [_Automaton(stop) for stop in stops]
        self._held = ""
        self.found = False  # a stop string is complete: nothing comes any more

    def push(self, text: str) -> str:
        """The text that is certain not to belong to a stop string, now that ``text`` has come."""
        if self.found or not self._automata:
            return "" if self.found else text
        text, start = self._held + text, len(self._held)
        for end in range(start, len(text)):
            complete = [len(a.stop) for a in self._automata if a.step(text[end])]
            if complete:
                self.found, self._held = True, ""
                return text[: end + 1 - max(complete)]
        certain = len(text) - max(a.matched for a in self._automata)
        self._held = text[certain:]
        return text[:certain]

    def finish(self) -> str:
        """What was withheld, once no more text comes: it is no stop string after all."""
        held, self._held = self._held, ""
        return held


class _Automaton:
    """How much of a string the text ends with."""

    def __init__(self, stop: str) -> None:
        self.stop, self.matched = stop, 0
        self._border = [0] * (len(stop) + 1)  # by length of a prefix: the longest proper prefix that also ends it
        for length in range(2, len(stop) + 1):
            self._border[length] = self._next(self._border[length - 1], stop[length - 1])

    def step(self, character: str) -> bool:
        """True once the whole string has come; the automaton has no use afterwards."""
        self.matched = self._next(self.matched, character)
        return self.matched == len(self.stop)

    def _next(self, matched: int, character: str) -> int:
        while matched and self.stop[matched] != character:
            matched = self._border[matched]
        return matched + 1 if self.stop[matched] == character else 0
