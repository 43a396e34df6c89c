"""What every engine checks before it touches a session."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from edgeslm.engines.protocol import Rows, TokenIds
from edgeslm.errors import ArgumentError, ContextLengthError
from edgeslm.spec import DecoderSpec


def check_ids(ids: TokenIds, spec: DecoderSpec, length: int) -> npt.NDArray[np.int32]:
    """``ids`` as int32, sound and fitting behind ``length`` cached tokens.

    Raises:
        ArgumentError: not a flat, non-empty sequence of integers in 0..vocab_size - 1.
        ContextLengthError: more tokens than the context holds.
    """
    array: npt.NDArray[Any] = _flat(ids)
    outside = array[(array < 0) | (array >= spec.vocab_size)]
    if outside.size:
        raise ArgumentError(f"token id {outside[0]} is outside the vocabulary, 0..{spec.vocab_size - 1}")
    if length + array.size > spec.context_length:
        raise ContextLengthError(
            f"{length} + {array.size} tokens do not fit the context of {spec.context_length}: "
            "shorten the prompt or convert with a larger --context"
        )
    return array.astype(np.int32)


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
    if rows not in get_args(Rows):
        raise ArgumentError(f"rows: expected one of {get_args(Rows)}, found {rows!r}")


def check_truncate(length: int, current: int) -> None:
    """ArgumentError unless a session of ``current`` tokens can be cut to ``length``."""
    if not isinstance(length, int | np.integer) or isinstance(length, bool) or not 0 <= length <= current:
        raise ArgumentError(f"truncate: expected 0..{current}, the session's length, found {length!r}")
