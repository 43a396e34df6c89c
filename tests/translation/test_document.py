"""Documents as sentences: what is obviously one sentence is taken for one without a look, and must be one."""

from __future__ import annotations

import random
import re

import pytest

from edgeslm.translation import document
from edgeslm.translation.document import cut
from edgeslm.translation.protect import Protector

PIECES = [*"aZäß7ж你", "Tom", "word", " ", " ", *",'’.!?", ". ", "\n", "-", "_", "e\u0301", "\u00a0", "…"]


def texts(count: int) -> list[str]:
    rng = random.Random(0)
    made = ["".join(rng.choices(PIECES, k=rng.randrange(9))) for _ in range(count)]
    plain = ["Hello.", "I need new shoes", "Don't you, Tom?", "Room 7 it is!", "Yes,", "No ", "a.b", "Mr. Smith left."]
    return [*plain, *made]


def test_plain_sentences_are_cut_as_the_splitter_cuts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    protector, asked = Protector(), texts(5000)
    plain = [text for text in asked if document._PLAIN_SENTENCE.fullmatch(text)]
    quick = [list(cut(text, "text", protector, "en")) for text in plain]
    monkeypatch.setattr(document, "_PLAIN_SENTENCE", re.compile(r"(?!)"))
    assert quick == [[p for p in cut(text, "text", protector, "en") if p] for text in plain]
    assert 300 < len(plain) < len(asked) - 300
    assert not {"No ", "a.b", "Mr. Smith left."} & set(plain)
