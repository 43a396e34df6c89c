from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
from typing import Any

import numpy as np
import pytest

from edgeslm.errors import ArgumentError, ModelFormatError
from edgeslm.generation.options import GenerationDefaults, GenerationOptions, read_defaults

ODD = [
    -1,
    0,
    1,
    0.5,
    math.nan,
    math.inf,
    -math.inf,
    1e308,
    2**63,
    2**64,
    10**400,
    "",
    "1",
    None,
    True,
    [],
    {},
    b"1",
    1j,
]
# Those of ODD that make sense; None leaves the option to the model.
SENSIBLE = {
    "max_new_tokens": [1, None],
    "max_tokens": [1, None],
    "temperature": [0, 1, 0.5, 1e308, 2**63, 2**64, None],
    "top_k": [0, 1, 2**63, 2**64, 10**400, None],
    "top_p": [0, 1, 0.5, None],
    "min_p": [0, 1, 0.5, None],
    "repetition_penalty": [1, 0.5, 1e308, 2**63, 2**64, None],
    "presence_penalty": [-1, 0, 1, 0.5, 1e308, 2**63, 2**64, None],
    "frequency_penalty": [-1, 0, 1, 0.5, 1e308, 2**63, 2**64, None],
    "logit_bias": [{}, None],
    "suppress_tokens": [[], None],
    "seed": [0, 1, 2**63, None],
    "stop": ["1", [], None],
    "stop_token_ids": [[], None],
    "logprobs": [0, 1, None],
}


@pytest.mark.parametrize("name", SENSIBLE)
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_every_value_is_sensible_or_refused_by_name(name: str, value: object) -> None:
    sensible = any(type(value) is type(s) and value == s for s in SENSIBLE[name])
    if sensible:
        GenerationDefaults().options(**{name: value})  # type: ignore[arg-type]
        return
    with pytest.raises(ArgumentError, match=f"^{name}: expected"):
        GenerationDefaults().options(**{name: value})  # type: ignore[arg-type]


NUMBERS = [value for value in ODD if value not in ([], {})]


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_every_value_within_a_collection_is_sensible_or_refused_by_name(value: Any) -> None:
    for name in ("suppress_tokens", "stop_token_ids"):
        if type(value) is int and 0 <= value < 2**31:
            assert getattr(GenerationOptions(**{name: [value]}), name) == {value}  # type: ignore[arg-type]
        else:
            with pytest.raises(ArgumentError, match=f"^{name}: expected"):
                GenerationOptions(**{name: [value]})  # type: ignore[arg-type]
    if type(value) in (int, float) and abs(value) <= 1e308:
        assert GenerationOptions(logit_bias={3: value}).logit_bias == {3: value}
    else:
        with pytest.raises(ArgumentError, match=r"^logit_bias\[3\]: expected"):
            GenerationOptions(logit_bias={3: value})
    if value != "1":
        with pytest.raises(ArgumentError, match=r"^stop: expected"):
            GenerationOptions(stop=[value])  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-1, math.nan, 2**31, "1", None, True], ids=repr)
def test_a_bias_belongs_to_an_id(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^logit_bias: expected an integer"):
        GenerationOptions(logit_bias={value: 1.0})


def test_what_never_ends_is_not_begun() -> None:
    with pytest.raises(ArgumentError, match=r"^suppress_tokens: expected a list"):
        GenerationOptions(suppress_tokens=itertools.count())  # type: ignore[arg-type]


def test_a_value_too_long_to_show_is_cut_short() -> None:
    for name, value in (("stop_token_ids", ["x" * 10_000]), ("top_p", 10**5000), ("top_k", -(10**5000))):
        with pytest.raises(ArgumentError, match=f"^{name}: ") as caught:
            GenerationOptions(**{name: value})  # type: ignore[arg-type]
        assert len(str(caught.value)) < 400


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(
        ArgumentError, match=r"unknown option 'temprature'; expected some of max_new_tokens, .*temperature"
    ):
        GenerationDefaults().options(temprature=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["logit_bias", "suppress_tokens", "stop_token_ids"])
def test_ids_belong_to_the_vocabulary(name: str) -> None:
    options = GenerationOptions(**{name: {5: 1.0} if name == "logit_bias" else [5]})  # type: ignore[arg-type]
    options.check_vocabulary(6)
    with pytest.raises(ArgumentError, match=rf"^{name}: token id 5 is outside the vocabulary, 0\.\.4"):
        options.check_vocabulary(5)


def test_something_must_be_left_to_take() -> None:
    with pytest.raises(ArgumentError, match="leave at least one"):
        GenerationOptions(suppress_tokens=range(5)).check_vocabulary(5)  # type: ignore[arg-type]


def test_collections_come_in_one_form() -> None:
    options = GenerationOptions(stop="END", stop_token_ids=np.array([3, 3]), suppress_tokens=(1, 2))  # type: ignore[arg-type]
    assert (options.stop, options.stop_token_ids, options.suppress_tokens) == (("END",), {3}, {1, 2})


def test_numpy_scalars_are_numbers() -> None:
    options = GenerationDefaults().options(
        max_new_tokens=np.int64(3),
        temperature=np.float32(0.5),
        seed=np.uint64(2),
        logit_bias={np.int32(7): np.float16(0.5)},
    )
    assert options == GenerationOptions(max_new_tokens=3, temperature=0.5, seed=2, logit_bias={7: 0.5})


def test_without_a_file_generation_is_greedy() -> None:
    assert GenerationDefaults().options() == GenerationOptions()
    assert GenerationOptions().temperature == 0


def test_the_model_suggests_and_the_caller_decides() -> None:
    config = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 40, "max_new_tokens": 9}
    defaults = read_defaults(json.dumps({**config, "eos_token_id": [2, 5]}).encode())
    eos = frozenset({2, 5})
    assert defaults.options() == GenerationOptions(max_new_tokens=9, temperature=0.6, top_k=40, top_p=0.9, eos_ids=eos)
    mine = defaults.options(temperature=0, top_k=0, top_p=1.0, max_new_tokens=3, seed=1)
    assert mine == GenerationOptions(max_new_tokens=3, seed=1, eos_ids=eos)


def test_what_a_model_suggests_beyond_sampling_is_applied() -> None:
    config = {"repetition_penalty": 1.1, "min_p": 0.05, "suppress_tokens": [3, 99], "stop_strings": ["\n\n"]}
    defaults = read_defaults(json.dumps(config).encode(), vocab_size=99)
    expected = {"repetition_penalty": 1.1, "min_p": 0.05, "suppress_tokens": frozenset({3}), "stop": ("\n\n",)}
    assert defaults.options() == GenerationOptions(**expected)  # type: ignore[arg-type]
    neutral = defaults.options(repetition_penalty=1, min_p=0, suppress_tokens=[], stop=[], temperature=0)
    assert neutral == GenerationOptions()


def test_a_file_that_does_not_sample_is_greedy_whatever_else_it_says() -> None:
    defaults = read_defaults(b'{"do_sample": false, "temperature": 0.6, "top_k": 40}')
    assert defaults.options().temperature == 0
    assert defaults.options(seed=3).temperature == 0


def test_asking_for_top_k_or_top_p_is_asking_to_sample() -> None:
    assert GenerationDefaults().options(top_p=0.9).temperature == 1.0
    assert GenerationDefaults().options(min_p=0.1).temperature == 1.0
    assert read_defaults(b'{"temperature": 0.6}').options(top_k=5).temperature == 0.6
    assert GenerationDefaults().options(top_p=0.9, temperature=0).temperature == 0


def test_max_tokens_is_max_new_tokens() -> None:
    assert GenerationDefaults().options(max_tokens=5).max_new_tokens == 5
    assert GenerationDefaults().options(max_tokens=5, max_new_tokens=5).max_new_tokens == 5
    with pytest.raises(ArgumentError, match="give one of them"):
        GenerationDefaults().options(max_tokens=5, max_new_tokens=6)


@pytest.mark.parametrize(
    ("value", "tokenizers_own", "expected"),
    [(2, None, {2}), ([2, 3], 9, {2, 3}), (None, 9, {9}), (None, None, set()), ([], 9, set()), (0, 9, {0})],
)
def test_end_of_text_ids(value: object, tokenizers_own: int | None, expected: set[int]) -> None:
    raw = json.dumps({"eos_token_id": value}).encode()
    assert read_defaults(raw, tokenizers_own).eos_ids == expected


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"[]", b"3", b"\xff", b"[" * 100_000, b'{"temperature": -1}', b'{"top_k": 1.5}', b'{"top_p": 2}'),
        *(b'{"top_p": NaN}', b'{"do_sample": "yes"}', b'{"eos_token_id": "2"}', b'{"eos_token_id": [true]}'),
        *(
            b'{"max_new_tokens": 0}',
            b'{"min_p": 2}',
            b'{"repetition_penalty": 0}',
            b'{"suppress_tokens": [-1]}',
            b'{"temperature": Infinity}',
            b'{"eos_token_id": [[2]]}',
        ),
    ],
)
def test_malformed_files_are_refused(raw: bytes) -> None:
    with pytest.raises(ModelFormatError, match=r"^generation_config\.json: "):
        read_defaults(raw)


def test_what_is_not_applied_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "edgeslm"):
        read_defaults(b'{"no_repeat_ngram_size": 0, "typical_p": 1.0, "bad_words_ids": null, "num_beams": 1}')
        assert not caplog.messages
        read_defaults(b'{"no_repeat_ngram_size": 3, "num_beams": 4}')
    assert "no_repeat_ngram_size 3 is not applied" in caplog.text and "num_beams 4" in caplog.text


def test_options_cannot_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GenerationOptions().top_k = 3  # type: ignore[misc]
