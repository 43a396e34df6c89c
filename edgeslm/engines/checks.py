"""What every engine checks before it touches a session."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, get_args

from edgeslm.engines.protocol import Ids, Rows, TokenIds
from edgeslm.errors import ArgumentError, ContextLengthError
from edgeslm.lazy_numpy import np
from edgeslm.spec import DecoderSpec

if TYPE_CHECKING:
    import numpy.typing as npt

_ROWS = get_args(Rows)


def check_ids(ids: TokenIds, spec: DecoderSpec, length: int) -> Ids:
    """``ids`` as int32, sound and fitting behind ``length`` cached tokens.

    Raises:
        ArgumentError: not a flat, non-empty sequence of integers in 0..vocab_size - 1.
        ContextLengthError: more tokens than the context holds.
    """
    array = _flat(ids)
    _check_vocabulary(array, spec)
    _check_room(array, spec, length)
    return array.astype(np.int32)


def check_all_ids(ids: Sequence[TokenIds], spec: DecoderSpec, lengths: Sequence[int]) -> list[Ids]:
    """:func:`check_ids` of several sequences, what is costly for all at once."""
    arrays = [_flat(tokens) for tokens in ids]
    together = np.concatenate(arrays)
    _check_vocabulary(together, spec)
    for array, length in zip(arrays, lengths, strict=True):
        _check_room(array, spec, length)
    together, ends = together.astype(np.int32), accumulate(map(len, arrays))
    return [together[end - len(array) : end] for array, end in zip(arrays, ends, strict=True)]


def _check_vocabulary(array: npt.NDArray[Any], spec: DecoderSpec) -> None:
    low, high = _extremes(array)
    if low < 0 or high >= spec.vocab_size:
        outside = low if low < 0 else high
        raise ArgumentError(f"token id {outside:.0f} is outside the vocabulary, 0..{spec.vocab_size - 1}")


def _check_room(array: npt.NDArray[Any], spec: DecoderSpec, length: int) -> None:
    if length + array.size > spec.context_length:
        raise ContextLengthError(
            f"{length} + {array.size} tokens do not fit the context of {spec.context_length}: "
            "shorten the prompt or convert with a larger --context"
        )


def _extremes(array: npt.NDArray[Any]) -> tuple[Any, Any]:
    if array.size > 100:
        return array.min(), array.max()
    few = array.tolist()  # a decoding step's: Python is several times as fast on them
    return min(few), max(few)


def _flat(ids: TokenIds) -> npt.NDArray[Any]:
    try:
        array = np.asarray(ids)
    except (ValueError, OverflowError):  # ragged, or an integer beyond 64 bits
        raise ArgumentError("token ids: expected a flat sequence of integers") from None
    if array.ndim != 1 or array.size == 0:
        raise ArgumentError(f"token ids: expected a flat, non-empty sequence, found shape {array.shape}")
    if array.dtype.kind not in "iu":
        raise ArgumentError(f"token ids: expected integers, found {array.dtype}")
    return array


def check_rows(rows: Rows) -> None:
    """ArgumentError unless ``rows`` is one of the choices."""
    if rows not in _ROWS:
        raise ArgumentError(f"rows: expected one of {_ROWS}, found {rows!r}")


def check_truncate(length: int, current: int) -> None:
    """ArgumentError unless a session of ``current`` tokens can be cut to ``length``."""
    if not isinstance(length, int | np.integer) or isinstance(length, bool) or not 0 <= length <= current:
        raise ArgumentError(f"truncate: expected 0..{current}, the session's length, found {length!r}")
