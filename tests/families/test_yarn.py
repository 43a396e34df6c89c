"""The rope kind yarn: what stays, what is stretched, and the scale of the angles' cosines and sines."""

from __future__ import annotations

import contextlib
import math
import random
from typing import Any

import numpy as np
import pytest
from tiny_models import qwen3

from edgeslm.converters.rope_kinds import inverse_frequencies
from edgeslm.errors import CheckpointError, EdgeslmError, UnsupportedModelError
from edgeslm.spec import Rope

from .test_configs import read

QWEN3 = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


def yarn(**keys: Any) -> Rope:
    """The rope of heads of 128 with theta 1e6."""
    values = qwen3(head_dim=128, rope_theta=1e6, max_position_embeddings=131072, rope_scaling={**QWEN3, **keys})
    return read(values).ropes[0]


def frequencies(rope: Rope) -> Any:
    return np.array(rope.inv_freq, np.float32)


def turns_are_between(fast: float, slow: float) -> Any:
    """Dimensions whose turns within the original context lie between ``slow`` and ``fast``."""
    turns = 32768 * inverse_frequencies(1e6, 128) / (2 * math.pi)
    return (turns < fast) & (turns > slow)


@pytest.mark.parametrize(("fast", "slow"), [(32.0, 1.0), (8.0, 0.25)])
def test_frequencies_stay_or_are_stretched_or_lie_between(fast: float, slow: float) -> None:
    found, plain = frequencies(yarn(beta_fast=fast, beta_slow=slow, truncate=False)), inverse_frequencies(1e6, 128)
    stretched, mixed = plain / np.float32(4), turns_are_between(fast, slow)
    first, last = np.flatnonzero(mixed)[[0, -1]]
    assert (found[:first] == plain[:first]).all()
    np.testing.assert_allclose(found[last + 1 :], stretched[last + 1 :], rtol=3e-7)
    assert ((found < plain) & (found > stretched))[mixed].all()


def test_the_ramp_starts_and_ends_at_whole_dimensions_unless_told() -> None:
    plain = inverse_frequencies(1e6, 128)
    whole, exact = frequencies(yarn()), frequencies(yarn(truncate=False))
    low = math.floor(128 * math.log(32768 / (32 * 2 * math.pi)) / (2 * math.log(1e6)))
    high = math.ceil(128 * math.log(32768 / (2 * math.pi)) / (2 * math.log(1e6)))
    kept = 1 - np.clip((np.arange(64) - low) / (high - low), 0, 1)
    np.testing.assert_allclose(whole, plain * kept + plain / 4 * (1 - kept), rtol=1e-6)
    assert not np.array_equal(whole, exact)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, 0.1 * math.log(4) + 1),
        ({"factor": 1.0}, 1.0),
        ({"attention_factor": 1.3, "mscale": 2.0, "mscale_all_dim": 1.0}, 1.3),
        ({"mscale": 2.0, "mscale_all_dim": 0.5}, (0.2 * math.log(4) + 1) / (0.05 * math.log(4) + 1)),
        ({"mscale": 2.0}, 0.1 * math.log(4) + 1),  # one alone is ignored
        ({"mscale_all_dim": 2.0, "mscale": None}, 0.1 * math.log(4) + 1),
    ],
)
def test_scale(keys: dict[str, Any], expected: float) -> None:
    assert yarn(**keys).scale == pytest.approx(expected, rel=1e-15)


def test_what_is_absent_takes_transformers_defaults() -> None:
    assert yarn(factor=None) == yarn() == yarn(beta_fast=32, beta_slow=1, truncate=True)  # 131072 / 32768
    assert yarn(original_max_position_embeddings=None) == yarn(original_max_position_embeddings=131072)


@pytest.mark.parametrize("key", ["factor", "beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim"])
def test_bad_numbers_are_named(key: str) -> None:
    for bad in (0, -1.0, "2", [], float("inf")):
        with pytest.raises(CheckpointError, match=key):
            yarn(**{key: bad})


def test_other_bad_values_are_named() -> None:
    with pytest.raises(CheckpointError, match="truncate"):
        yarn(truncate=1)
    with pytest.raises(CheckpointError, match="rope_theta"):
        yarn(rope_theta=1.0)
    with pytest.raises(EdgeslmError, match="rotary wider than the head"):
        read(qwen3(head_dim=7, rope_scaling=QWEN3))
    with pytest.raises(UnsupportedModelError, match="finetuned = True"):
        yarn(finetuned=True)


@pytest.mark.filterwarnings("error")
def test_any_number_anywhere_is_read_or_refused() -> None:
    generator = random.Random(0)
    keys = (*QWEN3, "rope_theta", "beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate")
    values = (1e-30, 1.1e-30, 1e-29, 0.999999999999999, 1, 1.0000000000000002, 7, 1 << 24, 9e29, 1e30, False, None)
    for _ in range(2000):
        with contextlib.suppress(EdgeslmError):
            yarn(**{key: generator.choice(values) for key in generator.choices(keys[1:], k=5)})
