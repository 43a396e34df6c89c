"""Text to token ids and back."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeslm.errors import ArgumentError, ModelFormatError
from edgeslm.text_stream import (
    FallbackRuns,
    Settled,
    StreamDecoder,
    TokenBytes,
    Utf8Decoder,
    Utf8State,
    WindowDecoder,
    always,
)

if TYPE_CHECKING:
    import tokenizers

TOKENIZER_JSON = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
MAX_CONFIG_BYTES = 16 << 20


class Tokenizer:
    """A model's tokenizer, from ``tokenizer.json`` and, for the end-of-text token, ``tokenizer_config.json``."""

    def __init__(
        self,
        tokenizer_json: bytes,
        config_json: bytes = b"{}",
        vocab_size: int | None = None,
        *,
        trusted: bool = False,
    ) -> None:
        """
        Args:
            tokenizer_json: content of tokenizer.json.
            config_json: content of tokenizer_config.json.
            vocab_size: of the model; a tokenizer with a larger vocabulary belongs to another one.
            trusted: tokenizer_json came with this package, so that it need not be looked through for hostile parts.

        Raises:
            ModelFormatError: a file is malformed, or the vocabularies do not fit.
        """
        if not trusted:
            _check(tokenizer_json)
        self._backend = _parse(tokenizer_json)
        self._eos_token = _eos_token(config_json)
        self._model_vocab = vocab_size
        own = self._backend.get_vocab_size(with_added_tokens=False)
        if vocab_size is not None and own > vocab_size:
            raise ModelFormatError(
                f"{TOKENIZER_JSON}: {own} tokens, and the model has {vocab_size}: it is another model's tokenizer; "
                "put the right one into the checkpoint and convert again"
            )
        added = self._backend.get_added_tokens_decoder()
        self._special = frozenset(i for i, token in added.items() if token.special)
        self.special_tokens = tuple(token.content for token in added.values() if token.special)
        self._decoders = _decoder_types(self._backend)
        self._token_bytes = TokenBytes(self._backend.id_to_token, self._special)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], vocab_size: int | None = None) -> Tokenizer:
        """The tokenizer of a checkpoint folder."""
        path, config = Path(folder, TOKENIZER_JSON), Path(folder, TOKENIZER_CONFIG)
        try:
            return cls(path.read_bytes(), config.read_bytes() if config.exists() else b"{}", vocab_size)
        except OSError as error:
            raise ModelFormatError(f"{error.filename}: cannot be read ({error.strerror})") from None

    @property
    def vocab_size(self) -> int:
        """Tokens in the vocabulary, added ones included."""
        return int(self._backend.get_vocab_size())

    @property
    def eos_id(self) -> int | None:
        """Id of the end-of-text token that tokenizer_config.json names, if it names one."""
        return None if self._eos_token is None else self.token_id(self._eos_token)

    def token_id(self, token: str) -> int | None:
        """Id of a token by its exact content, or None."""
        found = self._backend.token_to_id(token)
        return None if found is None else int(found)

    def special_id(self, token: str) -> int | None:
        """Id of a special token by its exact content, or None; :meth:`decode` leaves such tokens out."""
        found = self.token_id(token)
        return found if found in self._special else None

    def encode(self, text: str, special_tokens: bool = True) -> list[int]:
        """Token ids of a text.

        Args:
            text: Unicode; where it spells a special token, it is that token.
            special_tokens: add begin-of-text and the like as tokenizer.json says; False where the text has them.

        Raises:
            ArgumentError: not a string, not valid Unicode (a lone surrogate), or it makes a token the model has not.
            ModelFormatError: tokenizer.json fails on this text.
        """
        if not isinstance(text, str):
            raise ArgumentError(f"text: expected a string, found {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ArgumentError(
                f"text: character {error.start} is a lone surrogate, not Unicode text: read the input as UTF-8"
            ) from None
        ids = self._ids(text, special_tokens)
        if self._model_vocab is not None and max(ids, default=0) >= self._model_vocab:
            raise ArgumentError(
                f"text: token {self._backend.id_to_token(max(ids))!r} has id {max(ids)}, and the model knows "
                f"{self._model_vocab} tokens: leave it out of the text"
            )
        return ids

    def _ids(self, text: str, special_tokens: bool) -> list[int]:
        try:
            ids: list[int] = self._backend.encode(text, add_special_tokens=special_tokens).ids
        except (KeyboardInterrupt, MemoryError):
            raise
        except BaseException as error:  # a panic, such as of a regular expression that has tried too long
            raise ModelFormatError(
                f"{TOKENIZER_JSON}: fails on this text ({_one_line(error)}); get the file from another source"
            ) from None
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; special and unknown tokens are left out, bytes that are not UTF-8 become U+FFFD."""
        try:
            text: str = self._backend.decode([int(i) for i in ids], skip_special_tokens=True)
        except (TypeError, ValueError, OverflowError) as error:
            raise ArgumentError(f"ids: expected token ids, integers from 0 ({_one_line(error)})") from None
        return text

    def stream(self, prompt: Sequence[int] = ()) -> StreamDecoder:
        """A decoder for the tokens that follow ``prompt``."""
        if self._decoders == {"ByteLevel"}:
            return Utf8Decoder(self._token_bytes, prompt)
        if "ByteFallback" in self._decoders:
            settled: Settled = FallbackRuns({self.token_id(f"<0x{byte:02X}>") for byte in range(256)})
        elif "ByteLevel" in self._decoders:
            settled = Utf8State(self._token_bytes)
        else:
            settled = always
        return WindowDecoder(self.decode, settled, self._special, prompt)


def _check(raw: bytes) -> None:
    from edgeslm.tokenizer_check import check_tokenizer_json

    try:
        check_tokenizer_json(raw)
    except ModelFormatError as error:
        raise ModelFormatError(f"{TOKENIZER_JSON}: {error}; get it from another source") from None


def _parse(raw: bytes) -> tokenizers.Tokenizer:
    import tokenizers

    try:
        backend = tokenizers.Tokenizer.from_str(raw.decode("utf-8"))
        backend.no_truncation()  # both would change a prompt silently
        backend.no_padding()
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # the parser raises bare Exception, and a panic is a BaseException
        raise ModelFormatError(
            f"{TOKENIZER_JSON}: not a tokenizer ({_one_line(error)}); copy it again, or upgrade tokenizers"
        ) from None
    return backend


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _decoder_types(backend: tokenizers.Tokenizer) -> set[str]:
    """The kinds of the decoder and, where it is a sequence, of its parts."""
    if backend.decoder is None:
        return set()
    decoder: dict[str, Any] = json.loads(backend.decoder.__getstate__())
    return {part["type"] for part in decoder.get("decoders", [decoder])}


def _eos_token(config_json: bytes) -> str | None:
    """``eos_token`` of tokenizer_config.json: a string, or an object with its ``content``."""
    if len(config_json) > MAX_CONFIG_BYTES:
        raise ModelFormatError(f"{TOKENIZER_CONFIG}: {len(config_json)} bytes; expected at most {MAX_CONFIG_BYTES}")
    try:
        config = json.loads(config_json)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{TOKENIZER_CONFIG}: not valid JSON ({_one_line(error)})") from None
    eos = config.get("eos_token") if isinstance(config, dict) else config
    if isinstance(eos, dict):
        eos = eos.get("content")
    if not (eos is None or isinstance(eos, str)) or not isinstance(config, dict):
        raise ModelFormatError(f"{TOKENIZER_CONFIG}: expected an object whose eos_token is a token or null")
    return eos
