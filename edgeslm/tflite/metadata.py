"""What a ``.litertlm`` file tells its runtime about a model: a protocol buffer, read without trusting it.

A message is a list of fields: a number (field · 8 + wire type) of variable length, then by wire type a number of
variable length (0), 4 bytes (5), or a length and as many bytes (2). Schema: LiteRT-LM, llm_metadata.proto.
"""

from __future__ import annotations

import math
import struct

from edgeslm.spec import DecoderSpec

Fields = list[tuple[int, int, int | bytes]]  # number, wire type, value

_NUMBER, _BYTES, _FOUR_BYTES = 0, 2, 5
_START, _STOP, _SAMPLER, _LENGTH, _TYPE, _TEMPLATE = 1, 2, 4, 5, 6, 7  # LlmMetadata
_MAX_TOP_K = 1 << 24


def check_metadata(raw: bytes, spec: DecoderSpec) -> None:
    """Check an LlmMetadata message against the decoder.

    Raises:
        ValueError: what is wrong.
    """
    fields = _fields(raw)
    kinds = {_START: _BYTES, _STOP: _BYTES, _SAMPLER: _BYTES, _LENGTH: _NUMBER, _TYPE: _BYTES, _TEMPLATE: _BYTES}
    for number, kind, value in fields:
        _need(kinds.get(number) == kind, f"field {number} of wire type {kind}")
        if isinstance(value, int):
            _need(value == spec.context_length, f"a context of {value} tokens; expected {spec.context_length}")
        elif number in (_START, _STOP):
            _check_token(value, spec.vocab_size)
        elif number == _SAMPLER:
            _check_sampler(value)
        elif number == _TYPE:
            _need(_fields(value) == [(1, _BYTES, b"")], "a model that is not generic")
        else:
            value.decode()  # a UnicodeDecodeError is a ValueError
    once = [number for number, _, _ in fields if number != _STOP]
    _need(len(once) == len(set(once)), "a field that is there twice")
    _need({_SAMPLER, _LENGTH, _TYPE, _TEMPLATE} <= set(once), "fields are missing")


def _check_token(raw: bytes, vocab_size: int) -> None:
    """A TokenUnion of ids."""
    for number, kind, value in _fields(raw):
        _need((number, kind) == (1, _BYTES), "a token that is not given by its id")
        assert isinstance(value, bytes)
        for inner, inner_kind, ids in _fields(value):
            _need(inner == 1, "a token that is not given by its id")
            found = [ids] if isinstance(ids, int) else _numbers(ids) if inner_kind == _BYTES else [-1]
            _need(all(0 <= i < vocab_size for i in found), f"token ids {found[:4]} are not in the vocabulary")


def _check_sampler(raw: bytes) -> None:
    """SamplerParameters: type, k, p, temperature."""
    kinds = {1: _NUMBER, 2: _NUMBER, 3: _FOUR_BYTES, 4: _FOUR_BYTES}
    for number, kind, value in _fields(raw):
        _need(kinds.get(number) == kind, f"field {number} of the sampler")
        if isinstance(value, int):
            _need(0 < value <= (3 if number == 1 else _MAX_TOP_K), f"field {number} of the sampler is {value}")
        else:
            (real,) = struct.unpack("<f", value)
            _need(math.isfinite(real) and real >= 0, f"field {number} of the sampler is {real}")


def _fields(raw: bytes) -> Fields:
    found: Fields = []
    at = 0
    while at < len(raw):
        key, at = _number(raw, at)
        number, kind = key >> 3, key & 7
        if kind == _NUMBER:
            value, at = _number(raw, at)
            found.append((number, kind, value))
            continue
        _need(kind in (_BYTES, _FOUR_BYTES), f"wire type {kind}")
        size, at = _number(raw, at) if kind == _BYTES else (4, at)
        _need(number > 0 and at + size <= len(raw), f"field {number} of {size} bytes ends behind the message")
        found.append((number, kind, raw[at : at + size]))
        at += size
    return found


def _numbers(raw: bytes) -> list[int]:
    found, at = [], 0
    while at < len(raw):
        value, at = _number(raw, at)
        found.append(value)
    return found


def _number(raw: bytes, at: int) -> tuple[int, int]:
    """A number of at most 10 bytes, 7 bits in each, the lowest first; and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        _need(at < len(raw), "a number is cut off")
        value |= (raw[at] & 127) << shift
        at += 1
        if raw[at - 1] < 128:
            return value, at
    raise ValueError("a number of more than 10 bytes")


def _need(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)
