"""Flatbuffers read without trusting them: every offset, size and count is checked against the file before use.

A table is a signed offset to its vtable, then its fields; a vtable is two sizes (its own, the table's) and one 16-bit
place for each field, 0 where the field is absent. Strings and vectors start with a 32-bit count. Little endian.
https://flatbuffers.dev/internals/

A graph has tens of thousands of tables: they are read a column of a vector of tables at a time.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from edgeslm.errors import BundleError

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

MAX_NAME = 256  # bytes of a string
MAX_FIELDS = 64  # of a table


class FlatBuffer:
    """A file that starts with a flatbuffer; whatever data follows it belongs to the file too."""

    def __init__(self, data: Bytes, name: str, identifier: bytes = b"") -> None:
        """
        Raises:
            BundleError: the file is too short, or another kind of file.
        """
        self.name, self.size, self.data = name, len(data), data
        found = data[4:8].tobytes()
        self.need(len(found) == 4 and identifier in (b"", found), f"expected mark {identifier!r}, found {found!r}")
        self._views = {n: data[: self.size // n * n].view(f"<i{n}") for n in (1, 2, 4, 8)}

    def need(self, condition: bool | np.bool_, problem: str) -> None:
        """BundleError unless the condition holds."""
        if not condition:
            raise BundleError(f"{self.name}: {problem}: the file is damaged; copy or convert it again")

    def root(self) -> Tables:
        """The table that the file is about, as a vector of one."""
        return Tables(self, self.unsigned(np.zeros(1, np.int64), 4))

    def numbers(self, at: Ints, size: int) -> Ints:
        """The signed integers of ``size`` bytes at these places, which must be inside of the file and aligned."""
        good = (at >= 0) & (at <= self.size - size) & (at % size == 0)
        self.need(good.all(), "a number lies outside of it")
        return self._views[size][at // size].astype(np.int64)

    def unsigned(self, at: Ints, size: int) -> Ints:
        """Unsigned integers of at most 32 bits."""
        return self.numbers(at, size) & ((1 << 8 * size) - 1)

    def lists(self, start: Ints, count: Ints, limit: int) -> list[tuple[int, ...]]:
        """Vectors of int32 by start and count, each of at most ``limit``."""
        self.need((count <= limit).all(), f"a list of more than {limit} numbers")
        column = np.arange(int(count.max(initial=0)))
        inside = column < count[:, None]
        values = self.numbers(np.where(inside, start[:, None] + 4 * column, 0), 4).tolist()
        return [tuple(row[:n]) for row, n in zip(values, count.tolist(), strict=True)]


class Tables:
    """Tables of one kind; fields go by their number in the schema, and come as one value for each table."""

    def __init__(self, file: FlatBuffer, at: Ints) -> None:
        self.file, self.at = file, at
        self._layout = at - file.numbers(at, 4)
        self._fields = file.unsigned(self._layout, 2) // 2 - 2
        self._size = file.unsigned(self._layout + 2, 2)
        good = (self._fields >= 0) & (self._fields <= MAX_FIELDS) & (at + self._size <= file.size)
        file.need(good.all(), "a table lies outside of it")

    def __len__(self) -> int:
        return len(self.at)

    def only(self, known: Collection[int]) -> Tables:
        """These tables, if they have no field but the known: what is not checked here must not be read by others."""
        for field in range(int(self._fields.max(initial=0))):
            if field not in known:
                self.file.need(not self.has(field).any(), f"field {field} of a table is none that edgeslm writes")
        return self

    def at_index(self, index: int) -> Tables:
        """One of them."""
        return Tables(self.file, self.at[index : index + 1])

    def has(self, field: int) -> npt.NDArray[np.bool_]:
        return self._place(field, 1) > 0

    def _place(self, field: int, size: int) -> Ints:
        """Where the field lies in each file, or 0 where it is absent."""
        listed = field < self._fields
        place = self.file.unsigned(np.where(listed, self._layout + 4 + 2 * field, 0), 2)
        place = np.where(listed, place, 0)
        good = (place == 0) | ((place >= 4) & (place + size <= self._size))
        self.file.need(good.all(), f"field {field} of a table lies outside of it")
        return np.where(place > 0, self.at + place, 0)

    def number(self, field: int, size: int, default: int = 0) -> Ints:
        """Signed integers of ``size`` bytes."""
        place = self._place(field, size)
        return np.where(place > 0, self.file.numbers(place, size), default)

    def unsigned(self, field: int, size: int) -> Ints:
        """Unsigned integers of at most 32 bits, 0 where absent."""
        return self.number(field, size) & ((1 << 8 * size) - 1)

    def tables(self, field: int) -> Tables:
        """The table in a field that every one has."""
        place = self._place(field, 4)
        self.file.need((place > 0).all(), f"field {field} of a table is missing")
        return Tables(self.file, place + self.file.unsigned(place, 4))

    def extents(self, field: int, item: int) -> tuple[Ints, Ints]:
        """Starts and counts of vectors of items of ``item`` bytes; an absent one is empty."""
        place = self._place(field, 4)
        at = place + self.file.unsigned(place, 4)
        count = np.where(place > 0, self.file.unsigned(np.where(place > 0, at, 0), 4), 0)
        good = (place == 0) | ((count * item <= self.file.size - at - 4) & ((at + 4) % item == 0))
        self.file.need(good.all(), "a list lies outside of it")
        return np.where(place > 0, at + 4, 0), count

    def vector(self, field: int, limit: int) -> Tables:
        """The tables of a vector of at most ``limit``, which the only table here has."""
        (start,), (count,) = (part.tolist() for part in self.extents(field, 4))
        self.file.need(count <= limit, f"a list of {count} tables; expected at most {limit}")
        at = start + 4 * np.arange(count)
        return Tables(self.file, at + self.file.unsigned(at, 4))

    def check_names(self, field: int) -> None:
        """Each text is short, and ends with the zero that C expects."""
        start, count = self.extents(field, 1)
        ends = np.where(start > 0, start + count, 0)
        good = (count <= MAX_NAME) & (ends < self.file.size)
        good &= (start == 0) | (self.file.data[np.where(good, ends, 0)] == 0)
        self.file.need(good.all(), "a name is no text")

    def names(self, field: int) -> list[str]:
        self.check_names(field)
        texts = []
        for start, count in zip(*(part.tolist() for part in self.extents(field, 1)), strict=True):
            texts.append(self.file.data[start : start + count].tobytes().decode("utf-8", "replace"))
        return texts
