"""int4 as other runtimes take it: q in -8..7 and scales above zero, each searched for the least squared error.

The project's own q4 maps a group's largest magnitude to -8 by a scale of either sign; compilers for devices demand
positive ones, so a positive peak is mapped to 7 here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgeslm.formats.base import F32Array

STEPS = 4  # candidates for a scale, to either side
CHUNK = 1 << 18  # weights whose candidates are tried at a time


def quantize_int4(
    groups: F32Array, stored: Callable[[F32Array], F32Array] = lambda scales: scales
) -> tuple[npt.NDArray[np.int8], F32Array]:
    """(n, k) groups → q, and n scales as ``stored`` rounds them: positive, and what q is computed with."""
    q, scales = np.empty(groups.shape, np.int8), np.empty(len(groups), np.float32)
    step = max(1, CHUNK // groups.shape[1])
    for start in range(0, len(groups), step):
        w = groups[start : start + step]
        s = stored(_search_scales(w))
        q[start : start + step] = np.clip(np.rint(w / s[:, None]), np.float32(-8), np.float32(7))
        scales[start : start + step] = s
    return q, scales


def pack_int4(q: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """An even number of values → bytes, the even element in the low nibble."""
    pairs = q.reshape(-1, 2).view(np.uint8)
    return np.asarray((pairs[:, 0] & 15) | (pairs[:, 1] << 4), np.uint8)


def unpack_int4(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """The other way: (bytes, 2)."""
    q = data.view(np.int8)
    return np.stack([q << 4 >> 4, q >> 4], axis=-1)


def _search_scales(w: F32Array) -> F32Array:
    """For each group the scale of the least squared error among a few.

    Each candidate maps the group's largest magnitude to the end of -8..7 on its side, times 1 + 0.025 · c for
    c = -STEPS..STEPS, rounds to q, and takes the best scale for these: s = Σ w·q / Σ q². The largest (Σ w·q)² / Σ q²
    wins.
    """
    w = np.ascontiguousarray(w.T)  # (k, n): sums down the columns of neighbouring groups are a vector's work
    low, high = w.min(axis=0), w.max(axis=0)
    tops = np.where(-low > high, np.float32(8), np.float32(7))
    peaks = np.maximum(-low, high)
    inverse = np.divide(tops, peaks, out=np.zeros_like(peaks), where=peaks > np.float32(1e-36))
    best = np.zeros_like(peaks)
    scales: F32Array = np.ones_like(peaks)
    q, product = np.empty_like(w), np.empty_like(w)
    for c in range(-STEPS, STEPS + 1):
        np.multiply(w, inverse * np.float32(1 + 0.025 * c), out=q)
        np.rint(q, out=q)
        np.clip(q, np.float32(-8), np.float32(7), out=q)
        wq = np.multiply(w, q, out=product).sum(axis=0)
        qq = np.maximum(np.multiply(q, q, out=product).sum(axis=0), np.float32(1))
        gain = wq * wq / qq
        scales = np.where(gain > best, wq / qq, scales)
        best = np.maximum(best, gain)
    return scales
