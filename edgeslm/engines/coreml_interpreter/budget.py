"""What a program may use: a hostile one must not take the machine's memory or time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeslm.engines.coreml_interpreter.types import OpError


@dataclass(frozen=True)
class Limits:
    """Bounds of one run.

    Attributes:
        elements: of one tensor.
        held: elements of all tensors that are alive at one time.
        work: elements computed in all, a product of matrices counted by its multiplications.
    """

    elements: int = 1 << 28
    held: int = 1 << 30
    work: int = 1 << 42


class Budget:
    """What is left of the limits in one run."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._work = limits.work
        self._held = 0

    def tensor(self, shape: Sequence[int]) -> None:
        """Ask for a tensor, before it is computed; OpError if it is too large."""
        count = math.prod(shape)
        if count > self._limits.elements:
            raise OpError(f"a tensor of shape {list(shape)} is larger than anything this model needs")
        self.spend(count)

    def spend(self, count: int) -> None:
        """Ask for ``count`` elements, or multiplications, of computing."""
        self._work -= count
        if self._work < 0:
            raise OpError("the program computes more than this model can need")

    def hold(self, count: int) -> None:
        """``count`` more elements are alive; negative: fewer."""
        self._held += count
        if self._held > self._limits.held:
            raise OpError("the program keeps more tensors than this model can need")
