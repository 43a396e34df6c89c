"""EXAONE 4: which layers slide and which rotate, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import exaone4

from edgeslm.errors import CheckpointError, UnsupportedModelError

from .test_configs import read, windows


def rotates(values: dict[str, Any]) -> list[bool]:
    return [block.mixer.rope >= 0 for block in read(values).layers]


def test_beside_windows_full_attention_does_not_rotate() -> None:
    values = exaone4(num_hidden_layers=4, sliding_window=8)
    assert windows(values) == [8, 8, 8, 0]
    assert rotates(values) == [True, True, True, False]


def test_a_window_beyond_the_context_still_decides_which_layers_rotate() -> None:
    values = exaone4(num_hidden_layers=4, sliding_window=1000)
    assert windows(values) == [0, 0, 0, 0]
    assert rotates(values) == [True, True, True, False]


def test_without_windows_all_layers_rotate() -> None:
    values = exaone4(sliding_window=None, layer_types=["full_attention"] * 3)
    assert windows(values) == [0, 0, 0] and rotates(values) == [True, True, True]


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"sliding_window_pattern": "LLG"}, "layer_types"),
        ({"sliding_window": None, "layer_types": ["sliding_attention"] * 3}, "sliding_window"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "relu2"}, "hidden_act"),
        ({"layer_types": ["chunked_attention"] * 3}, "layer_types"),
    ],
)
def test_what_transformers_has_no_meaning_for_is_refused_by_name(keys: dict[str, Any], named: str) -> None:
    with pytest.raises((CheckpointError, UnsupportedModelError), match=named):
        read(exaone4(**keys))
