"""The sampler in NumPy, of installations without compiled code, against the compiled one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeslm.errors import ArgumentError, EngineError
from edgeslm.generation import _sampling, plain_sampling

SETTINGS = json.loads(str(np.load(Path(__file__).with_name("sampling.npz"))["settings"]))
EXTREMES: list[dict[str, Any]] = [
    *({"repetition_penalty": value} for value in (5e-324, 1e-40, 1e40, 1e308)),
    *({"frequency_penalty": value, "presence_penalty": value} for value in (-1e308, 1e308)),
    {"logit_bias": {3: 1e308, 5: -1e308, 7: 1e308}},
    *({"temperature": value} for value in (5e-324, 1e-40, 1e40, 1e308)),
    *({"top_p": 5e-324}, {"min_p": 5e-324}, {"top_k": 2**62}),
]


@pytest.mark.parametrize("options", [*SETTINGS, *EXTREMES], ids=str)
def test_probabilities_are_those_of_the_compiled_one(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    given = {"temperature": 1.0, **options}
    given["logit_bias"] = {int(token): bias for token, bias in given.get("logit_bias", {}).items()}
    samplers = [kind.Sampler(40, prompt=[1, 4, 9], **given) for kind in (_sampling, plain_sampling)]
    for _ in range(4):
        logits = (3 * rng.standard_normal(40)).astype(np.float32)
        logits[rng.integers(40)] = -np.inf
        compiled, plain = (sampler.probabilities(logits) for sampler in samplers)
        assert compiled.keys() == plain.keys()
        assert max(abs(compiled[token] - plain[token]) for token in plain) < 1e-6
        only = np.full(40, -np.inf, np.float32)  # both draw the same, so that histories stay equal
        only[token := rng.choice([t for t in range(40) if t not in given.get("suppress_tokens", ())])] = 0
        assert [sampler.sample(only) for sampler in samplers] == [token, token]


def test_it_draws_what_is_likely() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    sampler = plain_sampling.Sampler(3, 1.0, seed=5)
    counts = np.bincount([sampler.sample(logits) for _ in range(4000)], minlength=3)
    assert np.abs(counts / 4000 - [0.5, 0.3, 0.2]).max() < 0.04
    assert plain_sampling.Sampler(3).sample(np.array([1, 2, 2], np.float32)) == 1


def test_logprobs_are_those_of_the_compiled_one() -> None:
    logits = np.random.default_rng(1).standard_normal(50).astype(np.float32)
    compiled, plain = (kind.Sampler(50).logprobs(logits, 7, 5) for kind in (_sampling, plain_sampling))
    assert plain[0] == pytest.approx(compiled[0], abs=1e-6)
    assert [token for token, _ in plain[1]] == [token for token, _ in compiled[1]]
    np.testing.assert_allclose([p for _, p in plain[1]], [p for _, p in compiled[1]], atol=1e-6)


def test_what_is_wrong_is_refused_alike() -> None:
    for value, word in ((np.nan, "NaN"), (np.inf, "infinite")):
        with pytest.raises(EngineError, match=word):
            plain_sampling.Sampler(3, 1.0).sample(np.array([0, value, 1], np.float32))
    with pytest.raises(EngineError, match="infinite"):
        plain_sampling.Sampler(3).sample(np.full(3, -np.inf, np.float32))
    with pytest.raises(ArgumentError, match="expected 3 logits"):
        plain_sampling.Sampler(3).sample(np.zeros(4, np.float32))
    with pytest.raises(ArgumentError, match="outside the vocabulary"):
        plain_sampling.Sampler(3, prompt=[3])
    with pytest.raises(ArgumentError, match="out of range"):
        plain_sampling.Sampler(3, temperature=-1)
