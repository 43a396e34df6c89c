"""How to generate: what the caller asks for, over what the model's generation_config.json suggests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from edgeslm.errors import ArgumentError, ModelFormatError
from edgeslm.generation.checks import Reader, biases, integer, number, optional, strings, token_ids
from edgeslm.generation.config import GENERATION_CONFIG, eos_ids, read_config
from edgeslm.log import logger

MAX_SEED = 2**64 - 1
MAX_TOKENS = 2**63 - 1  # no context holds as many
MAX_LOGPROBS = 100  # for each token; whoever wants a whole row asks Model.logits

_READERS: dict[str, Reader] = {
    "max_new_tokens": optional(integer(1, MAX_TOKENS)),
    "temperature": number(0),
    "top_k": integer(0),
    "top_p": number(0, 1),
    "min_p": number(0, 1),
    "repetition_penalty": number(0, above=True),
    "presence_penalty": number(),
    "frequency_penalty": number(),
    "logit_bias": biases,
    "suppress_tokens": token_ids,
    "seed": optional(integer(0, MAX_SEED)),
    "stop": strings,
    "stop_token_ids": token_ids,
    "logprobs": optional(integer(0, MAX_LOGPROBS)),
}

# Options by the keys of generation_config.json that suggest them.
_APPLIED = {name: name for name in _READERS if name not in ("seed", "stop", "stop_token_ids", "logprobs", "logit_bias")}
_APPLIED["stop_strings"] = "stop"

# Keys that would change the text and are not applied, with the values that change nothing.
_NOT_APPLIED: dict[str, tuple[Any, ...]] = {
    "bad_words_ids": (),
    "begin_suppress_tokens": ([],),
    "encoder_repetition_penalty": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "exponential_decay_length_penalty": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "no_repeat_ngram_size": (0,),
    "num_beams": (1,),
    "sequence_bias": (),
    "top_h": (),
    "typical_p": (1,),
}


class GenerationArguments(TypedDict, total=False):
    """What a caller may ask for, by keyword. None leaves an option to the model's generation_config.json.

    The most likely tokens are taken, or sampled where ``temperature`` is above 0 or a filter is given. In the order of
    their effect on the logits, which is that of transformers:

    * ``logit_bias``: amounts to add, by token id.
    * ``repetition_penalty``: above 1 makes tokens of prompt and completion less likely; positive logits are divided by
      it, negative ones multiplied.
    * ``frequency_penalty``, ``presence_penalty``: subtracted from a token's logit, the first for every time that the
      completion holds it, the second once (as OpenAI and vLLM define them).
    * ``suppress_tokens``: ids that are never taken.
    * ``temperature``: divides the logits; 0 takes the most likely token.
    * ``top_k``: sample among the k most likely tokens; 0: all.
    * ``top_p``: … among the most likely tokens that together hold this probability; 1: all.
    * ``min_p``: … among tokens at least this times as probable as the most likely one; 0: all.

    Further:

    * ``max_new_tokens`` or ``max_tokens``: at most so many; by default 256, or what the context holds.
    * ``seed``: the same one gives the same text; None: another text each time.
    * ``stop``: a string, or several: the text ends before the first of them.
    * ``stop_token_ids``: tokens that end the text, as the model's end-of-text tokens do.
    * ``logprobs``: report each token's log probability and those of so many most likely ones, up to 100; of the model
      itself, so before all of the above.
    """

    max_new_tokens: int | None
    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[int, float] | None
    suppress_tokens: Collection[int] | None
    seed: int | None
    stop: str | Collection[str] | None
    stop_token_ids: Collection[int] | None
    logprobs: int | None


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """Everything that decides a completion, given the logits. Checked when made: ArgumentError names the option.

    :class:`GenerationArguments` says what each means; the defaults here change nothing.
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    suppress_tokens: frozenset[int] = frozenset()
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    logprobs: int | None = None
    eos_ids: frozenset[int] = frozenset()  # each of them ends the text

    def __post_init__(self) -> None:
        for name, read in _READERS.items():
            object.__setattr__(self, name, read(name, getattr(self, name)))

    def check_vocabulary(self, size: int) -> None:
        """ArgumentError for an id that a vocabulary of ``size`` tokens has not, or where it leaves nothing to take."""
        for name in ("logit_bias", "suppress_tokens", "stop_token_ids"):
            if (largest := max(getattr(self, name), default=0)) >= size:
                raise ArgumentError(f"{name}: token id {largest} is outside the vocabulary, 0..{size - 1}")
        if len(self.suppress_tokens) == size:
            raise ArgumentError(f"suppress_tokens: all {size} tokens of the vocabulary; leave at least one")


@dataclass(frozen=True)
class GenerationDefaults:
    """What a model's generation_config.json suggests; what it leaves out stays off."""

    do_sample: bool = False
    suggested: Mapping[str, Any] = field(default_factory=dict)  # options by name
    eos_ids: frozenset[int] = frozenset()

    def options(self, **arguments: Unpack[GenerationArguments]) -> GenerationOptions:
        """The caller's options over these; None leaves an option to the model.

        Giving ``top_k``, ``top_p`` or ``min_p`` without a temperature asks for sampling.

        Raises:
            ArgumentError: an option is unknown, of the wrong type or out of range, or both names of one differ.
        """
        if unknown := arguments.keys() - GenerationArguments.__annotations__.keys():
            known = ", ".join(GenerationArguments.__annotations__)
            raise ArgumentError(f"unknown option {min(unknown)!r}; expected some of {known}")
        given: dict[str, Any] = {name: value for name, value in arguments.items() if value is not None}
        if "max_tokens" in given:
            given["max_new_tokens"] = _one_limit(given.pop("max_tokens"), given.get("max_new_tokens"))
        options = {**self.suggested, **given}
        if "temperature" not in given and not self.do_sample and not given.keys() & {"top_k", "top_p", "min_p"}:
            options["temperature"] = 0.0
        return GenerationOptions(**{"temperature": 1.0, **options}, eos_ids=self.eos_ids)


def read_defaults(raw: bytes, eos_id: int | None = None, vocab_size: int | None = None) -> GenerationDefaults:
    """Read generation_config.json.

    Args:
        raw: its content.
        eos_id: the tokenizer's end-of-text token, for a file that names none.
        vocab_size: of the model; without effect is suppressing a token that it has not, as in transformers.

    Raises:
        ModelFormatError: not a JSON object, or a value that cannot be.
    """
    config = read_config(raw)
    for key, neutral in _NOT_APPLIED.items():
        if config.get(key) not in (None, *neutral):
            logger("generation").warning("%s: %s %r is not applied", GENERATION_CONFIG, key, config[key])
    do_sample = config.get("do_sample") or False
    if not isinstance(do_sample, bool):
        raise ModelFormatError(f"{GENERATION_CONFIG}: do_sample: expected true or false, found {do_sample!r}")
    return GenerationDefaults(do_sample, _suggested(config, vocab_size), eos_ids(config, eos_id))


def _suggested(config: Mapping[str, Any], vocab_size: int | None) -> dict[str, Any]:
    found = {option: config[key] for key, option in _APPLIED.items() if config.get(key) is not None}
    try:
        for option, value in found.items():
            found[option] = _READERS[option](option, value)
    except ArgumentError as error:
        raise ModelFormatError(f"{GENERATION_CONFIG}: {error}") from None
    if vocab_size is not None and "suppress_tokens" in found:
        found["suppress_tokens"] = frozenset(i for i in found["suppress_tokens"] if i < vocab_size)
    return found


def _one_limit(max_tokens: Any, max_new_tokens: Any) -> int:
    """The limit, by either of its names."""
    limit: int = integer(1, MAX_TOKENS)("max_tokens", max_tokens)
    if max_new_tokens is not None and _READERS["max_new_tokens"]("max_new_tokens", max_new_tokens) != limit:
        raise ArgumentError(f"max_new_tokens is {max_new_tokens} and max_tokens {limit}: give one of them")
    return limit
