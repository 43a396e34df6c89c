"""Every Unicode scalar value through the streamer, split at every byte boundary."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

from edgeslm.text_stream import byte_alphabet
from edgeslm.tokenizer import Tokenizer

MakeTokenizer = Callable[[str], Tokenizer]
SCALARS = 0x110000 - 0x800  # without the surrogates


def blocks(size: int) -> Iterator[str]:
    """All scalar values in texts of at most ``size`` of them."""
    for low, high in ((0, 0xD800), (0xE000, 0x110000)):
        for start in range(low, high, size):
            yield "".join(map(chr, range(start, min(start + size, high))))


def ids_of_bytes(tokenizer: Tokenizer, kind: str) -> list[int]:
    """The tokens of single bytes."""
    names = (
        [f"<0x{b:02X}>" for b in range(256)]
        if kind == "byte_fallback"
        else sorted(byte_alphabet(), key=byte_alphabet().get)
    )  # type: ignore[arg-type]
    ids = [tokenizer.token_id(name) for name in names]
    assert None not in ids and len(set(ids)) == 256
    return ids  # type: ignore[return-value]


def test_every_scalar_value_by_single_bytes_of_a_byte_level_tokenizer(make_tokenizer: MakeTokenizer) -> None:
    tokenizer, seen = make_tokenizer("byte_level"), 0
    ids = ids_of_bytes(tokenizer, "byte_level")
    stream = tokenizer.stream([])
    for text in blocks(4096):
        completion = [ids[byte] for byte in text.encode()]
        pieces = [piece for token in completion if (piece := stream.push(token))]
        assert pieces == list(text)  # none early, none late, none in parts
        assert tokenizer.decode(completion) == text
        seen += len(text)
    assert stream.finish() == "" and seen == SCALARS


def test_every_scalar_value_by_single_bytes_of_a_byte_fallback_tokenizer(make_tokenizer: MakeTokenizer) -> None:
    """A run of byte tokens ends at a token of another kind, here b."""
    tokenizer, seen = make_tokenizer("byte_fallback"), 0
    ids, letter = ids_of_bytes(tokenizer, "byte_fallback"), tokenizer.token_id("b")
    assert letter is not None
    stream = tokenizer.stream([letter])
    for text in blocks(16):
        completion = [*(ids[byte] for byte in text.encode()), letter]
        pieces = list(map(stream.push, completion))
        assert pieces.pop() == text + "b" and not any(pieces)
        seen += len(text)
        if seen % 4096 == 0:
            assert tokenizer.decode([letter, *completion]) == "b" + text + "b"
    assert stream.finish() == "" and seen == SCALARS


def parts() -> tuple[list[bytes], list[bytes]]:
    """The beginnings and the ends of all encoded scalar values, neither empty nor whole."""
    tails = [bytes([b]) for b in range(0x80, 0xC0)]
    two = [a + b for a in tails for b in tails]
    three = [a + b for a in two for b in tails]
    heads = {text.encode()[:n] for text in map(chr, range(0x80, 0xD800)) for n in range(1, len(text.encode()))}
    for value in (*range(0xE000, 0x10000, 0x40), *range(0x10000, 0x110000, 0x40)):
        raw = chr(value).encode()
        heads |= {raw[:n] for n in range(1, len(raw))}
    return sorted(heads), [*tails, *two, *three]


@pytest.fixture(scope="module")
def splitting() -> tuple[Tokenizer, dict[bytes, int]]:
    """A byte-level tokenizer whose tokens are those parts, and their ids."""
    characters = {byte: character for character, byte in byte_alphabet().items()}
    heads, tails = parts()
    ids = {raw: i for i, raw in enumerate([*heads, *tails])}
    backend = Backend(
        models.WordLevel({"".join(characters[b] for b in raw): i for raw, i in ids.items()}, unk_token="")
    )
    backend.decoder = decoders.ByteLevel()
    return Tokenizer(backend.to_str().encode()), ids


@pytest.mark.parametrize("head", [1, 2, 3])
def test_every_scalar_value_split_in_two(splitting: tuple[Tokenizer, dict[bytes, int]], head: int) -> None:
    tokenizer, ids = splitting
    stream, seen = tokenizer.stream([]), 0
    for text in blocks(4096):
        raws = [raw for raw in (c.encode() for c in text) if len(raw) > head]
        first = [stream.push(ids[raw[:head]]) or stream.push(ids[raw[head:]]) for raw in raws]
        assert "".join(first) == b"".join(raws).decode() and len(first) == len(raws)
        seen += len(raws)
    assert stream.finish() == "" and seen == [SCALARS - 0x80, SCALARS - 0x800, 0x100000][head - 1]
