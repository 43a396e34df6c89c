"""Regular expressions of tokenizers: which ones cannot backtrack without end.

The engine behind tokenizers (Oniguruma) tries every way to match before it gives up at a position. The ways are counted
here: those that a part of the pattern leaves open multiply with those of the parts before it, up to the last part that
can still fail. Published tokenizers leave at most one choice open that grows with the text. A repeated group that can
match in several ways would leave exponentially many, and is refused.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from edgeslm.errors import ModelFormatError

MAX_LENGTH = 20_000  # characters; lists of Unicode ranges are long
MAX_DEPTH = 20
MAX_CHOICES, MAX_UNBOUNDED = 1000, 1  # ways to try at a position; of those, factors that grow with the text
MANY = 10  # repetitions count as unlimited from here on

# Repeated groups of published tokenizers that do hold repetitions, and can still match in one way only.
_KNOWN = (r"(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+", r"(?:\p{L}\p{M}*)+")
# Flags are those that change no syntax: x would hide parts of the pattern as comments.
_GROUP = re.compile(r"\?(?:[ims]*(?:-[ims]+)?:|=|!|<=|<!|>|P?<[A-Za-z_]\w*>)|(?!\?)")
_FLAGS = re.compile(r"\?[ims]*(?:-[ims]+)?\)")
_ESCAPE = re.compile(r"\\(?:[pP]\{[^}]*\}|x\{[^}]*\}|x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|[^1-9kgK])", re.DOTALL)
_REPEAT = re.compile(r"(?:([*+?])([?+]?)|\{(\d*)(,?)(\d*)\}\??)")


def check_pattern(pattern: str, where: str) -> None:
    """Pass, or say what is wrong.

    Raises:
        ModelFormatError: the pattern could backtrack without end, or cannot be told not to.
    """
    if len(pattern) > MAX_LENGTH:
        raise ModelFormatError(f"{where}: a pattern of {len(pattern)} characters; expected at most {MAX_LENGTH}")
    for known in _KNOWN:
        pattern = pattern.replace(known, r"\p{L}+")
    reader = _Reader(pattern)
    try:
        reader.alternatives(0)
        if reader.at < len(pattern):
            raise _Refused("a bracket too many")
    except _Refused as reason:
        raise ModelFormatError(
            f"{where}: the pattern {pattern[:60]!r} has {reason} at character {reader.at}: matching might never end"
        ) from None


class _Refused(Exception):
    pass


class _Ways(NamedTuple):
    """In how many ways a part may match: of a fixed number, and how many factors of the text's length beside it."""

    choices: int = 1
    unbounded: int = 0
    tried_choices: int = 1  # … and how many are tried before it is known to fail
    tried_unbounded: int = 0
    fails: bool = True

    @property
    def varies(self) -> bool:
        return self.choices > 1 or self.unbounded > 0

    def then(self, part: _Ways) -> _Ways:
        """This, followed by a part: all its ways are tried with each way of this, if it can fail."""
        choices, unbounded = self.choices * part.tried_choices, self.unbounded + part.tried_unbounded
        return _Ways(
            self.choices * part.choices,
            self.unbounded + part.unbounded,
            max(self.tried_choices, choices if part.fails else 1),
            max(self.tried_unbounded, unbounded if part.fails else 0),
            self.fails or part.fails,
        )

    def otherwise(self, other: _Ways) -> _Ways:
        """This, or else the other."""
        return _Ways(
            self.choices + other.choices,
            max(self.unbounded, other.unbounded),
            self.tried_choices + other.tried_choices,
            max(self.tried_unbounded, other.tried_unbounded),
            self.fails and other.fails,
        )

    def repeated(self, fewest: float, most: float) -> _Ways:
        """This, so many times."""
        fails = self.fails and fewest > 0
        if most >= MANY and fewest != most:
            return self._replace(unbounded=self.unbounded + 1, fails=fails)
        return self._replace(choices=self.choices * int(most - fewest + 1), fails=fails)

    def settled(self) -> _Ways:
        """This, never tried again once it has matched."""
        return self._replace(choices=1, unbounded=0)


class _Reader:
    """Reads a pattern once."""

    def __init__(self, pattern: str) -> None:
        self._pattern, self.at = pattern, 0

    def alternatives(self, depth: int) -> _Ways:
        """Up to a closing bracket or the end."""
        if depth > MAX_DEPTH:
            raise _Refused(f"more than {MAX_DEPTH} brackets in each other")
        ways = self._sequence(depth)
        while self._next("|"):
            ways = ways.otherwise(self._sequence(depth))
        return ways

    def _sequence(self, depth: int) -> _Ways:
        ways = _Ways(fails=False)
        while self.at < len(self._pattern) and self._pattern[self.at] not in "|)":
            ways = ways.then(self._repeated(self._atom(depth)))
            if ways.tried_choices > MAX_CHOICES or ways.tried_unbounded > MAX_UNBOUNDED:
                raise _Refused("too many ways to match")
        return ways

    def _atom(self, depth: int) -> _Ways:
        character = self._pattern[self.at]
        if character == "(":
            return self._group(depth)
        if character == "[":
            self._set()
        elif character == "\\":
            self._escape()
        else:
            self.at += 1
        return _Ways()

    def _repeated(self, part: _Ways) -> _Ways:
        found = self._repeat_here()
        if found is None:
            return part
        self.at = found.end()
        sign, possessive, low, comma, high = found.groups()
        if sign:
            fewest, most = float(sign == "+"), 1.0 if sign == "?" else math.inf
        else:
            fewest = float(low or 0)
            most = float(high or math.inf) if comma else fewest
        if part.varies and most > 1:
            raise _Refused("a repeated group that can match in several ways")
        if self._repeat_here():
            raise _Refused("a repetition of a repetition")
        ways = part.repeated(fewest, most)
        return ways.settled() if possessive == "+" else ways

    def _group(self, depth: int) -> _Ways:
        self.at += 1
        if flags := _FLAGS.match(self._pattern, self.at):
            self.at = flags.end()
            return _Ways(fails=False)
        kind = _GROUP.match(self._pattern, self.at)
        if kind is None:
            raise _Refused("a kind of group that no tokenizer needs")
        self.at = kind.end()
        ways = self.alternatives(depth + 1)
        if not self._next(")"):
            raise _Refused("a bracket too few")
        return ways.settled()._replace(fails=True) if kind[0] in ("?=", "?!", "?<=", "?<!", "?>") else ways

    def _set(self, depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            raise _Refused(f"more than {MAX_DEPTH} brackets in each other")
        self.at += 1
        self._next("^")
        first = True
        while self.at < len(self._pattern):
            character = self._pattern[self.at]
            if character == "]" and not first:
                self.at += 1
                return
            if character == "[":
                self._set(depth + 1)
            elif character == "\\":
                self._escape()
            else:
                self.at += 1
            first = False
        raise _Refused("a bracket too few")

    def _escape(self) -> None:
        found = _ESCAPE.match(self._pattern, self.at)
        if found is None:
            raise _Refused("a reference back, or an unknown escape,")
        self.at = found.end()

    def _repeat_here(self) -> re.Match[str] | None:
        found = _REPEAT.match(self._pattern, self.at)
        return found if found and (found[1] or found[3] or found[5]) else None

    def _next(self, character: str) -> bool:
        if self._pattern.startswith(character, self.at):
            self.at += 1
            return True
        return False
