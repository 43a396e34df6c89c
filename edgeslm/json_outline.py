"""The outline of a large JSON text: where its members are, without building them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_MARKS = 1 << 24  # brackets, commas, colons and quotes; 16 bytes are needed for each

_STEPS = np.zeros(256, np.int8)  # what a character does to the depth
_STEPS[list(b"{[")], _STEPS[list(b"}]")] = 1, -1
_MARKED = bytes(c in b'{}[],:"' for c in range(256))  # for bytes.translate


@dataclass(frozen=True)
class Part:
    """A value by the bytes it lies in and the marks within it; ``depth`` is that around it."""

    start: int
    stop: int
    first: int
    last: int
    depth: int


class Outline:
    """Positions of brackets, commas and colons outside of texts, and the depth behind each."""

    def __init__(self, raw: bytes, max_depth: int) -> None:
        """
        Raises:
            ValueError: brackets do not match, or there are too many, or they are nested deeper than ``max_depth``.
        """
        self._raw = raw
        plain = raw.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")  # of the same length
        marked = np.frombuffer(plain.translate(_MARKED), np.bool_)
        if np.count_nonzero(marked) > MAX_MARKS:
            raise ValueError(f"more than {MAX_MARKS} brackets, commas, colons and quotes")
        positions = np.flatnonzero(marked)
        kinds = np.frombuffer(plain, np.uint8)[positions]
        quotes = kinds == ord('"')
        outside = ~(quotes | (np.cumsum(quotes, dtype=np.uint8) & 1).view(np.bool_))  # of texts: an even number before
        self._positions, self._kinds = positions[outside], kinds[outside]
        self._depths = np.cumsum(_STEPS[self._kinds], dtype=np.int32)
        if self._depths.max(initial=0) > max_depth or self._depths.min(initial=0) < 0 or self._depths[-1:].any():
            raise ValueError(f"expected brackets in pairs, nested at most {max_depth} deep")

    @property
    def whole(self) -> Part:
        """All of it."""
        return Part(0, len(self._raw), 0, len(self._positions), 0)

    def members(self, part: Part) -> dict[str, Part]:
        """The members of an object; none of another value.

        Raises:
            ValueError: a name is no text, or is there twice.
        """
        if not self.raw(part).startswith(b"{"):
            return {}
        found: dict[str, Part] = {}
        start, colon = int(self._positions[part.first]) + 1, -1
        for mark in self._top_marks(part):
            at = int(self._positions[mark])
            if self._kinds[mark] == ord(":"):
                colon = mark
            elif colon >= 0:
                value = int(self._positions[colon]) + 1
                name = json.loads(self._raw[start : value - 1])
                if not isinstance(name, str) or name in found:
                    raise ValueError(f"expected names in quotes, each once; found {str(name)[:50]!r}")
                found[name] = Part(value, at, colon + 1, mark, part.depth + 1)
                start, colon = at + 1, -1
        return found

    def count(self, part: Part) -> int:
        """Elements of a list or object, at most one too many."""
        within = slice(part.first, part.last)
        inside = self._depths[within] == part.depth + 1
        return 1 + int(np.count_nonzero(inside & (self._kinds[within] == ord(","))))

    def raw(self, part: Part) -> bytes:
        """The text of a value."""
        return self._raw[part.start : part.stop].strip()

    def load(self, part: Part) -> Any:
        """A value, built.

        Raises:
            ValueError: not JSON.
        """
        return json.loads(self.raw(part))

    def _top_marks(self, part: Part) -> Iterator[int]:
        """Colons and commas of an object itself, and the bracket that ends it."""
        within = slice(part.first, part.last)
        depths, steps = self._depths[within], _STEPS[self._kinds[within]]
        wanted = (depths == part.depth + 1) & (steps == 0) | (depths == part.depth) & (steps < 0)
        return map(int, part.first + np.flatnonzero(wanted))
