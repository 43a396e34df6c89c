from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeslm.bundle import Bundle
from edgeslm.errors import BundleError
from edgeslm.translation.card import Card, parse_card, read_card


def card(*pairs: str, **others: Any) -> Card:
    """A card of pairs such as "en-de"."""
    found = [dict(zip(("source", "target"), p.split("-"), strict=True), prompt=f"<{p}> {{text}}") for p in pairs]
    return parse_card(json.dumps({"pairs": found, **others}).encode())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"pairs": {}}',
        b'{"pairs": [1]}',
        b'{"pairs": [{"source": "en", "target": "de"}]}',
        b'{"pairs": [{"source": "en", "target": "en", "prompt": "{text}"}]}',
        b'{"pairs": [{"source": "en", "target": "de", "prompt": "no slot"}]}',
        b'{"pairs": [{"source": "en", "target": "de", "prompt": "{text}{text}"}]}',
    ],
)
def test_damaged_cards(content: bytes) -> None:
    with pytest.raises(BundleError, match="translation"):
        parse_card(content)


@pytest.mark.parametrize(
    "others",
    [
        {"letters": ["za"]},
        {"letters": ["abc"]},
        {"max_words": 0},
        {"stand_ins": [""]},
        {"stand_ins": ["a.*"]},
        {"words": []},
        {"capitals": ["Swedish"]},
        {"words": {"en": ["the"]}},
    ],
)
def test_damaged_details(others: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=next(iter(others))):
        card("en-de", **others)


def test_a_bundle_without_a_card_is_no_translator(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="no translator"):
        read_card(Bundle.open(tiny_bundle))
