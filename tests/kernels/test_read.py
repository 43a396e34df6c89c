"""Read kernels: every one adds all words, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from edgeslm import _native
from edgeslm.errors import ArgumentError

ISAS = [isa for op, _, isa, runnable in _native.kernel_rows() if op == "read" and runnable]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [1, 15, 16, 17, 1000])
def test_the_sum_of_all_words(isa: str, n: int) -> None:
    words = np.random.default_rng(n).integers(0, 2**64, n + 2, np.uint64)
    expected = sum(int(word) for word in words[1:-1]) % 2**64
    assert _native.read(isa, words[1:-1]) == expected


@pytest.mark.parametrize("threads", [1, 3])
def test_every_pass_reads_every_word(threads: int) -> None:
    words = np.arange(3 * (1 << 17) + 5, dtype=np.uint64)  # pieces, and a part of one
    rate, total = _native.read_bandwidth(words, threads, 4)
    assert rate > 0 and total == 4 * int(words.sum())


def test_arguments_are_checked() -> None:
    words = np.zeros(8, np.uint64)
    for threads, passes in ((0, 1), (257, 1), (1, 0)):
        with pytest.raises(ArgumentError):
            _native.read_bandwidth(words, threads, passes)
    with pytest.raises(ArgumentError, match="no words"):
        _native.read("ref", words[:0])
