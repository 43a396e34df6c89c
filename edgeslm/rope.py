"""Angles of the rotary embedding: made here alone, so that every target rotates alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeslm.formats.base import F32Array
from edgeslm.lazy_numpy import np
from edgeslm.spec import Rope

if TYPE_CHECKING:
    import numpy.typing as npt


def uses_long(rope: Rope, context_length: int) -> bool:
    """Does a session of ``context_length`` tokens use the long factors of a longrope from its first token on?

    The choice belongs to the whole session: cached keys were rotated with it, so it cannot change on the way.
    """
    return 0 < rope.switch_at < context_length


def rope_tables(rope: Rope, positions: npt.NDArray[np.integer], long: bool) -> tuple[F32Array, F32Array]:
    """cos and sin of the rotation at ``positions``: (len(positions), rotary width / 2) each, float32.

    As transformers computes them: the angle is the float32 product of float32 position and float32 frequency.
    """
    frequencies, scale = (rope.long_inv_freq, rope.long_scale) if long else (rope.inv_freq, rope.scale)
    angles = np.multiply.outer(np.asarray(positions, np.float32), np.asarray(frequencies, np.float32))
    return np.cos(angles) * np.float32(scale), np.sin(angles) * np.float32(scale)


def query_temperature(rope: Rope, positions: npt.NDArray[np.integer]) -> F32Array:
    """What queries at ``positions`` are multiplied by, besides the rotation: (len(positions),) float32."""
    if not rope.q_beta:
        return np.ones(len(positions), np.float32)
    periods = np.floor(np.asarray(positions, np.float32) / np.float32(rope.q_period))
    return np.asarray(np.float32(1) + np.float32(rope.q_beta) * np.log1p(periods))
