"""From what the search finds to answers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

from edgeslm import embedded
from edgeslm.bundle import Bundle
from edgeslm.tokenizer import TOKENIZER_CONFIG, TOKENIZER_JSON, Tokenizer
from edgeslm.translation.asking import Asker
from edgeslm.translation.card import Pair
from edgeslm.translation.search import Candidate, Query, Searcher

PAIR = Pair("en", "de", "<s><2de> {text}<sep>")


class Finds:
    """A search that finds these candidates, whatever is asked."""

    def __init__(self, candidates: list[Candidate]) -> None:
        self._candidates = candidates

    def run(self, queries: Iterable[Query | None], count: int) -> list[list[Candidate]]:
        return [self._candidates if query else [] for query in queries]


def test_a_text_that_is_found_twice_keeps_its_better_place() -> None:
    bundle = Bundle.open(embedded.BUNDLE)
    tokenizer = Tokenizer(bundle.read(TOKENIZER_JSON), bundle.read(TOKENIZER_CONFIG), bundle.spec.vocab_size)
    one, other = (tokenizer.encode(text, special_tokens=False) for text in (" Nein.", " Ja."))
    pieces = [id for letter in (" N", "e", "i", "n", ".") for id in tokenizer.encode(letter, special_tokens=False)]
    assert pieces != one and tokenizer.decode(pieces) == tokenizer.decode(one)
    found = [Candidate(one, -0.1, True), Candidate(other, -0.2, True), Candidate(pieces, -0.3, True)]
    asker = Asker(tokenizer, cast(Searcher, Finds(found)), bundle.spec.context_length)
    (answers,) = asker.ask(["Yes."], PAIR, 4)
    assert [(answer.text, answer.confidence) for answer in answers] == [
        ("Nein.", math.exp(-0.1)),
        ("Ja.", math.exp(-0.2)),
    ]
    (nothing,) = asker.ask(["x" * 5000], PAIR, 4)
    assert [(answer.text, answer.sound) for answer in nothing] == [("", False)]
