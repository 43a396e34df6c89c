from __future__ import annotations

import dataclasses
import json
import logging
import math

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
    "max_new_tokens": [1, 2**63, 2**64, 10**400, None],
    "max_tokens": [1, 2**63, 2**64, 10**400, None],
    "temperature": [0, 1, 0.5, 1e308, 2**63, 2**64, None],
    "top_k": [0, 1, 2**63, 2**64, 10**400, None],
    "top_p": [0, 1, 0.5, None],
    "seed": [0, 1, 2**63, None],
}


@pytest.mark.parametrize("name", SENSIBLE)
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_every_value_is_sensible_or_refused_by_name(name: str, value: object) -> None:
    sensible = any(type(value) is type(s) and value == s for s in SENSIBLE[name])
    if sensible:
        GenerationDefaults().options(**{name: value})  # type: ignore[arg-type]
        return
    with pytest.raises(ArgumentError, match=f"^{name.replace('max_tokens', 'max_new_tokens')}: expected"):
        GenerationDefaults().options(**{name: value})  # type: ignore[arg-type]


def test_numpy_scalars_are_numbers() -> None:
    options = GenerationDefaults().options(max_new_tokens=np.int64(3), temperature=np.float32(0.5), seed=np.uint64(2))
    assert options.max_new_tokens == 3


def test_without_a_file_generation_is_greedy() -> None:
    assert GenerationDefaults().options() == GenerationOptions()
    assert GenerationOptions().temperature == 0


def test_the_model_suggests_and_the_caller_decides() -> None:
    config = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 40, "max_new_tokens": 9}
    defaults = read_defaults(json.dumps({**config, "eos_token_id": [2, 5]}).encode())
    assert defaults.options() == GenerationOptions(9, 0.6, 40, 0.9, None, frozenset({2, 5}))
    mine = defaults.options(temperature=0, top_k=0, top_p=1.0, max_new_tokens=3, seed=1)
    assert mine == GenerationOptions(3, 0, 0, 1.0, 1, frozenset({2, 5}))


def test_a_file_that_does_not_sample_is_greedy_whatever_else_it_says() -> None:
    defaults = read_defaults(b'{"do_sample": false, "temperature": 0.6, "top_k": 40}')
    assert defaults.options().temperature == 0
    assert defaults.options(seed=3).temperature == 0


def test_asking_for_top_k_or_top_p_is_asking_to_sample() -> None:
    assert GenerationDefaults().options(top_p=0.9).temperature == 1.0
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
        *(b'{"max_new_tokens": 0}', b'{"temperature": Infinity}', b'{"eos_token_id": [[2]]}'),
    ],
)
def test_malformed_files_are_refused(raw: bytes) -> None:
    with pytest.raises(ModelFormatError, match=r"^generation_config\.json: "):
        read_defaults(raw)


def test_what_is_not_applied_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "edgeslm"):
        read_defaults(b'{"repetition_penalty": 1.0, "min_p": null}')
        assert not caplog.messages
        read_defaults(b'{"repetition_penalty": 1.1}')
    assert "repetition_penalty 1.1 is not applied" in caplog.text


def test_options_cannot_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GenerationOptions().top_k = 3  # type: ignore[misc]
