"""Phrases that a card knows: found as they are asked, filled in, and refused where a card has them wrong."""

from __future__ import annotations

import json

import pytest

from edgeslm import Translator
from edgeslm.errors import BundleError
from edgeslm.translation.card import parse_card
from edgeslm.translation.phrasebook import Phrasebook

BOOK = Phrasebook(
    {
        "Settings": "Einstellungen",
        "log in": "anmelden",
        "Who is it?": "Wer ist da?",
        "Dear Mr. {name},": "Sehr geehrter Herr {name},",
        "Chapter {number}": "Kapitel {number}",
        "Dr. {name} on page {number}": "Seite {number}: Dr. {name}",
    }
)


@pytest.mark.parametrize(
    ("text", "translation"),
    [
        ("Settings.", "Einstellungen."),
        ("settings.", "Einstellungen."),
        ("Log in.", "anmelden."),
        ("Who is it?", "Wer ist da?"),
        ("Dear Mr. Anderson.", "Sehr geehrter Herr Anderson."),
        ("Dear Mr. Anderson Smith.", "Sehr geehrter Herr Anderson Smith."),
        ("Chapter 12.", "Kapitel 12."),
        ("Dr. O'Neill on page 7.", "Seite 7: Dr. O'Neill."),
    ],
)
def test_what_it_knows(text: str, translation: str) -> None:
    assert BOOK.get(text) == translation


@pytest.mark.parametrize(
    "text",
    ["", ".", "Setting.", "Settings!", "Who is it.", "Dear Mr. anderson.", "Chapter x.", "Chapter 1 a.", "Dear."],
)
def test_what_it_does_not(text: str) -> None:
    assert BOOK.get(text) is None


@pytest.mark.parametrize(
    "phrases",
    [
        ["a"],
        {"a": 1},
        {"": "b"},
        {"a": ""},
        {"Dear {name}": "Liebe"},
        {"Dear {name}": "Liebe {number}"},
        {"Dear {name} {name}": "Liebe {name} {name}"},
        {"{name} is here": "{name} ist da"},
        {"a" * 201: "b"},
    ],
)
def test_a_card_that_has_them_wrong_is_refused(phrases: object) -> None:
    pair = {"source": "en", "target": "de", "prompt": "<s> {text}", "phrases": phrases}
    with pytest.raises(BundleError, match="en→de: phrases"):
        parse_card(json.dumps({"pairs": [pair]}).encode())


def test_reversible_phrases_hold_the_other_way_about_but_for_what_that_way_says_itself() -> None:
    there = {"Settings": "Einstellungen", "Preferences": "Einstellungen", "May {number}": "{number}. Mai", "at": "um"}
    pairs = [
        {"source": "en", "target": "de", "prompt": "{text}", "phrases": there, "reversible": True},
        {"source": "de", "target": "en", "prompt": "{text}", "phrases": {"um": "around"}},
        {"source": "en", "target": "fr", "prompt": "{text}", "phrases": {"at": "à"}},
        {"source": "fr", "target": "en", "prompt": "{text}"},
    ]
    _, back, _, from_french = parse_card(json.dumps({"pairs": pairs}).encode()).pairs
    assert [back.phrasebook.get(text) for text in ("einstellungen", "um", "3. Mai")] == ["Settings.", "around.", None]
    assert from_french.phrasebook.get("à") is None
    pairs[0]["reversible"] = "yes"
    with pytest.raises(BundleError, match="en→de: reversible"):
        parse_card(json.dumps({"pairs": pairs}).encode())


def test_the_embedded_model_has_some(translator: Translator) -> None:
    letter = "Dear Mr. Anderson,\n\n<b>Settings</b>: Chapter 3\n\nBest regards,\nTom\n"
    known = {
        "de": ["Sehr geehrter Herr", "Einstellungen", "Kapitel", "Mit freundlichen Grüßen"],
        "fr": ["Cher Monsieur", "Paramètres", "Chapitre", "Cordialement"],
        "es": ["Estimado Sr.", "Ajustes", "Capítulo", "Saludos cordiales"],
    }
    for target, (dear, settings, chapter, regards) in known.items():
        expected = f"{dear} Anderson,\n\n<b>{settings}</b>: {chapter} 3\n\n{regards},\nTom\n"
        assert translator.translate(letter, "en", target).text == expected
    assert str(translator.translate("LOG OUT", "en", "es")) == "CERRAR SESIÓN"
    assert str(translator.translate("Einstellungen", "de", "en")) == "Settings"
    assert translator.translate("Settings", "en", "de").confidence == 1
