"""Text out of a stream of tokens, without ever cutting a character."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

Settled = Callable[[int], bool]  # takes the next token; False while the tokens so far end within a character


class StreamDecoder(Protocol):
    """Text as tokens come: the pieces joined are what decoding prompt and tokens together adds to the prompt's text.

    Nothing is given out while the tokens end within a character. One that the prompt leaves unfinished belongs to the
    completion.
    """

    def push(self, token: int) -> str:
        """The text that is certain now that ``token`` has come; often "" ."""

    def finish(self) -> str:
        """What is left once no more tokens come: an unfinished character is U+FFFD."""


class Utf8Decoder:
    """For byte-level tokens, whose text is their bytes."""

    def __init__(self, raw: TokenBytes, prompt: Iterable[int]) -> None:
        self._raw = raw
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        for token in prompt:
            self.push(token)

    def push(self, token: int) -> str:
        return self._utf8.decode(self._raw[token])

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)


class WindowDecoder:
    """Text as tokens come: the pieces joined are what decoding prompt and tokens together adds to the prompt's text.

    A token's text may depend on those before it (its leading space, the other bytes of its character), so a short
    window of tokens is decoded with and without the new one, and the difference is the piece. While the window ends
    within a character, nothing is given out. A character that the prompt leaves unfinished belongs to the completion.
    """

    KEEP, LIMIT = 4, 16  # a window longer than LIMIT is cut to its last KEEP tokens

    def __init__(
        self, decode: Callable[[Sequence[int]], str], settled: Settled, special: frozenset[int], prompt: Iterable[int]
    ) -> None:
        self._decode, self._settled, self._special = decode, settled, special
        self._window = [i for i in prompt if i not in special]
        self._seen = decode(self._window)
        complete = True
        for token in self._window:
            complete = settled(token)
        if not complete:
            self._seen = self._seen.rstrip("\ufffd")

    def push(self, token: int) -> str:
        """The text that is certain now that ``token`` has come; often "" ."""
        if token in self._special:
            return ""
        self._window.append(token)
        return self._emit() if self._settled(token) else ""

    def finish(self) -> str:
        """What is left once no more tokens come: an unfinished character is U+FFFD."""
        return self._emit()

    def _emit(self) -> str:
        text = self._decode(self._window)
        piece, self._seen = text[len(self._seen) :], text
        if len(self._window) > self.LIMIT and (tail := self._decode(self._window[-self.KEEP :])):
            # A window without text would lose what a decoder strips from the start.
            del self._window[: -self.KEEP]
            self._seen = tail
        return piece


def always(token: int) -> bool:
    """Every token is settled: those of tokenizers without bytes."""
    return True


class Utf8State:
    """Byte-level tokens: settled unless the bytes so far end within a character."""

    def __init__(self, raw: TokenBytes) -> None:
        self._raw = raw
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, token: int) -> bool:
        self._utf8.decode(self._raw[token])
        return not self._utf8.getstate()[0]


class FallbackRuns:
    """Byte-fallback tokens such as <0xE2>: settled once the run has ended, for a run is valid only as a whole."""

    def __init__(self, byte_tokens: Collection[int | None]) -> None:
        self._byte_tokens = byte_tokens

    def __call__(self, token: int) -> bool:
        return token not in self._byte_tokens


class TokenBytes(dict[int, bytes]):
    """The bytes of byte-level tokens by id; none of ``silent`` tokens, nor of an id that is no token."""

    def __init__(self, token: Callable[[int], str | None], silent: Iterable[int]) -> None:
        super().__init__(dict.fromkeys(silent, b""))
        self._token = token

    def __missing__(self, token: int) -> bytes:
        text = self._token(token) or ""
        try:
            raw = bytes(_BYTES[c] for c in text)
        except KeyError:  # an added token, kept as it is written
            raw = text.encode()
        self[token] = raw
        return raw


def byte_alphabet() -> dict[str, int]:
    """Character → byte of byte-level BPE: printable Latin-1 stands for itself, the others follow from U+0100 on.

    As in GPT-2's encoder.py, ``bytes_to_unicode``.
    """
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTES = byte_alphabet()
