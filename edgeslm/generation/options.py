"""How to generate: what the caller asks for, over what the model's generation_config.json suggests."""

from __future__ import annotations

import json
import logging
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, SupportsIndex

from edgeslm.errors import ArgumentError, ModelFormatError

log = logging.getLogger("edgeslm.generation")

GENERATION_CONFIG = "generation_config.json"
MAX_SEED = 2**64 - 1

# Keys of generation_config.json that would change the text and are not applied, with the value that changes nothing.
_NOT_APPLIED = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_p": None, "bad_words_ids": None}


@dataclass(frozen=True)
class GenerationOptions:
    """Everything that decides a completion, given the logits. Checked when made: ArgumentError names the option."""

    max_new_tokens: int | None = None  # None: 256, or as many as the context holds
    temperature: float = 0.0  # 0: greedy
    top_k: int = 0  # 0: all tokens
    top_p: float = 1.0  # 1: all tokens
    seed: int | None = None  # None: another text each time
    eos_ids: frozenset[int] = frozenset()  # each of them ends the text

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None:
            _integer("max_new_tokens", self.max_new_tokens, 1)
        _number("temperature", self.temperature)
        _integer("top_k", self.top_k, 0)
        _number("top_p", self.top_p, 1.0)
        if self.seed is not None:
            _integer("seed", self.seed, 0, MAX_SEED)


@dataclass(frozen=True)
class GenerationDefaults:
    """What a model's generation_config.json suggests; what it leaves out stays off."""

    do_sample: bool = False
    max_new_tokens: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    eos_ids: frozenset[int] = frozenset()

    def options(
        self,
        *,
        max_new_tokens: int | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> GenerationOptions:
        """The caller's options over these; None leaves an option to the model.

        A temperature of 0 is greedy. Giving ``top_k`` or ``top_p`` without a temperature asks for sampling.

        Raises:
            ArgumentError: a value is of the wrong type or out of range, or both names of one option differ.
        """
        if max_tokens is not None and max_new_tokens not in (None, max_tokens):
            raise ArgumentError(f"max_new_tokens is {max_new_tokens!r} and max_tokens {max_tokens!r}: give one of them")
        if temperature is None:
            sampled = self.do_sample or top_k is not None or top_p is not None
            temperature = self.temperature if sampled else 0.0
        return GenerationOptions(
            max_new_tokens=_given(max_new_tokens, max_tokens, self.max_new_tokens),
            temperature=temperature,
            top_k=_given(top_k, self.top_k),
            top_p=_given(top_p, self.top_p),
            seed=seed,
            eos_ids=self.eos_ids,
        )


def read_defaults(raw: bytes, eos_id: int | None = None) -> GenerationDefaults:
    """Read generation_config.json.

    Args:
        raw: its content.
        eos_id: the tokenizer's end-of-text token, for a file that names none.

    Raises:
        ModelFormatError: not a JSON object, or a value that cannot be.
    """
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{GENERATION_CONFIG}: not valid JSON ({error})") from None
    if not isinstance(config, dict):
        raise ModelFormatError(f"{GENERATION_CONFIG}: expected an object, found {type(config).__name__}")
    for key, neutral in _NOT_APPLIED.items():
        if config.get(key) not in (None, neutral):
            log.warning("%s: %s %r is not applied", GENERATION_CONFIG, key, config[key])
    given = {k: config[k] for k in ("max_new_tokens", "temperature", "top_k", "top_p") if config.get(k) is not None}
    try:
        GenerationOptions(**given)
    except ArgumentError as error:
        raise ModelFormatError(f"{GENERATION_CONFIG}: {error}") from None
    do_sample = config.get("do_sample") or False
    if not isinstance(do_sample, bool):
        raise ModelFormatError(f"{GENERATION_CONFIG}: do_sample: expected true or false, found {do_sample!r}")
    return GenerationDefaults(do_sample, eos_ids=_eos_ids(config, eos_id), **given)


def _eos_ids(config: Mapping[str, Any], eos_id: int | None) -> frozenset[int]:
    """``eos_token_id``: an id, or a list of ids."""
    found = config.get("eos_token_id")
    if found is None:
        found = [] if eos_id is None else [eos_id]
    ids = found if isinstance(found, list) else [found]
    if not all(type(i) is int for i in ids):
        raise ModelFormatError(f"{GENERATION_CONFIG}: eos_token_id: expected an id or a list of ids, found {found!r}")
    return frozenset(ids)


def _given(*values: Any) -> Any:
    """The first that is not None."""
    return next((v for v in values if v is not None), None)


def _integer(name: str, value: SupportsIndex, low: int, high: int | None = None) -> None:
    allowed = f"expected an integer from {low}" + ("" if high is None else f" to {high}")
    try:
        found = operator.index(value)
    except TypeError:
        raise ArgumentError(f"{name}: {allowed}, found {value!r}") from None
    if isinstance(value, bool) or found < low or (high is not None and found > high):
        raise ArgumentError(f"{name}: {allowed}, found {value!r}")


def _number(name: str, value: float, high: float = math.inf) -> None:
    allowed = "expected a finite number from 0" + ("" if math.isinf(high) else f" to {high:g}")
    try:
        found = math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(f"{name}: {allowed}, found {value!r}") from None
    if not (0 <= found <= high and math.isfinite(found)):
        raise ArgumentError(f"{name}: {allowed}, found {value!r}")
