"""The work a template may do, counted rather than timed, so that it ends alike on every machine."""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, Sized, ValuesView

ELEMENT = 16  # units of an element of a list, or of an operation; a character is one
MAX_DEPTH = 100  # of nested values: hashing and comparing recurse in C

_CONTAINERS = (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)


class OverBudget(Exception):
    """A template wants more than it is given."""


class Budget:
    """Units left; about a byte each and, in this interpreter, some ten nanoseconds."""

    def __init__(self, units: int) -> None:
        self.left = units

    def charge(self, units: int) -> None:
        """Spend.

        Raises:
            OverBudget: more than is left.
        """
        self.left -= units
        if self.left < 0:
            raise OverBudget("more work or text than a conversation needs")

    def weigh(self, *values: object) -> int:
        """Charge for everything inside of values, as often as it is met: what comparing, hashing or printing costs.

        Returns the units.
        """
        before = self.left
        level: list[object] = list(values)
        for _ in range(MAX_DEPTH):
            if not level:
                return before - self.left
            below: list[object] = []
            for value in level:
                self.charge(self._weigh_one(value, below))
            level = below
        raise OverBudget(f"values nested more than {MAX_DEPTH} deep")

    def _weigh_one(self, value: object, below: list[object]) -> int:
        """Units of a value without its elements, which go ``below``; charged first, so that the list stays small."""
        if isinstance(value, str | bytes):
            return ELEMENT + len(value)
        if isinstance(value, dict):
            self.charge(2 * ELEMENT * len(value))
            below += value.keys()
            below += value.values()
        elif isinstance(value, _CONTAINERS):
            self.charge(ELEMENT * len(value))
            below += value
        elif isinstance(value, range):
            return ELEMENT * (1 + len(value))
        return ELEMENT


def size(value: object) -> int:
    """Units of a text or a container without what its elements hold."""
    if isinstance(value, str | bytes):
        return ELEMENT + len(value)
    return ELEMENT * (1 + len(value)) if isinstance(value, Sized) else ELEMENT
