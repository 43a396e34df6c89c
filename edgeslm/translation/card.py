"""``translation.json``: what a model translates, and how it wants to be asked. It comes with a checkpoint.

pairs        list of {"source": "en", "target": "de", "prompt": "<s><2de> {text}<sep>", "phrases": {…}}; phrases, which
             may be left out, are whole texts that it is not asked for ("Settings": "Einstellungen"), {name} and
             {number} in them a word with a capital and digits; "reversible": true where they also hold from the target
             to the source, unless the pair of that direction says otherwise
letters      ranges of letters that the model was trained on ("AZ", "az", "Àɏ"); others are kept as they are
stand_ins    names that it carries over unchanged ("Tom"), to hold the place of what it must not touch
max_words    the longest sentence that it was trained on, in words; longer ones are cut at clauses
capitals     words with a capital that it translates ("Swedish Swiss"), though its tokenizer cuts them; all others of
             that kind are names that it has not seen, and kept; left out: it is shown all names
words        {"en": "the you is …", "de": …}: words that tell a text's language, each common in one and in no other;
             left out: a library tells it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from edgeslm.bundle import Bundle
from edgeslm.errors import BundleError
from edgeslm.manifest import parse_json
from edgeslm.translation import phrasebook

NAME = "translation.json"
MAX_BYTES = 1 << 20
SLOT = "{text}"
LONGEST_PHRASE = 200  # characters


@dataclass(frozen=True)
class Pair:
    """One direction, and the prompt that asks for it."""

    source: str
    target: str
    prompt: str
    phrases: dict[str, str] = field(default_factory=dict, compare=False)
    backwards: dict[str, str] = field(default_factory=dict, compare=False)  # reversible phrases of the other direction

    @cached_property
    def phrasebook(self) -> phrasebook.Phrasebook:
        """What needs no asking."""
        return phrasebook.Phrasebook(phrasebook.reversed_phrases(self.backwards) | self.phrases)

    def ask(self, text: str) -> str:
        """The prompt for a text."""
        return self.prompt.replace(SLOT, text)

    def __str__(self) -> str:
        return f"{self.source}→{self.target}"


class Card(NamedTuple):
    """What a bundle translates."""

    pairs: tuple[Pair, ...]
    letters: tuple[tuple[str, str], ...]  # first and last of each range
    stand_ins: tuple[str, ...]
    max_words: int
    capitals: frozenset[str] | None = None
    words: Mapping[str, frozenset[str]] = MappingProxyType({})


def read_card(bundle: Bundle) -> Card:
    """The card of a bundle.

    Raises:
        BundleError: it has none, or one that is not as described above.
    """
    if not bundle.has(NAME):
        raise BundleError(
            f"{bundle.folder}: has no {NAME}, so it is no translator; edgeslm run completes prompts with it"
        )
    return parse_card(bundle.read(NAME))


def parse_card(raw: bytes) -> Card:
    """Read the bytes of ``translation.json``."""
    root = parse_json(raw, NAME, BundleError, MAX_BYTES)
    values = root if isinstance(root, dict) else {}
    pairs = _pairs(values)
    letters = tuple((value[0], value[1]) for value in _texts(values, "letters") if _expect_range(value))
    longest = values.get("max_words", 32)
    if type(longest) is not int or not 1 <= longest <= 4096:
        raise BundleError(f"{NAME}: max_words: expected 1..4096, found {longest!r}")
    stand_ins = _texts(values, "stand_ins")
    if not all(name.isalpha() and len(name) <= 64 for name in stand_ins):
        raise BundleError(f"{NAME}: stand_ins: expected words of letters, found {stand_ins!r:.80}")
    return Card(pairs, letters, stand_ins, longest, _capitals(values), _words(values))


def _list(values: dict[str, Any], key: str) -> list[Any]:
    found = values.get(key, [])
    if not isinstance(found, list):
        raise BundleError(f"{NAME}: {key}: expected a list, found {type(found).__name__}")
    return found


def _texts(values: dict[str, Any], key: str) -> tuple[str, ...]:
    found = _list(values, key)
    if not all(isinstance(value, str) and value for value in found):
        raise BundleError(f"{NAME}: {key}: expected strings")
    return tuple(found)


def _capitals(values: dict[str, Any]) -> frozenset[str] | None:
    found = values.get("capitals")
    if not isinstance(found, str | None):
        raise BundleError(f"{NAME}: capitals: expected words in one string, found {type(found).__name__}")
    return None if found is None else frozenset(found.split())


def _words(values: dict[str, Any]) -> dict[str, frozenset[str]]:
    found = values.get("words", {})
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise BundleError(f"{NAME}: words: expected an object of strings, a language's words in each")
    return {language: frozenset(text.split()) for language, text in found.items()}


def _expect_range(value: str) -> bool:
    if len(value) != 2 or value[0] > value[1]:
        raise BundleError(f'{NAME}: letters: {value!r} is not the first and the last letter of a range, such as "az"')
    return True


def _pairs(values: dict[str, Any]) -> tuple[Pair, ...]:
    found = _list(values, "pairs")
    pairs = [_pair(value) for value in found]
    if not pairs:
        raise BundleError(f"{NAME}: pairs: expected at least one")
    both_ways = {
        (pair.target, pair.source): pair.phrases
        for pair, value in zip(pairs, found, strict=True)
        if value.get("reversible")
    }
    return tuple(replace(pair, backwards=both_ways.get((pair.source, pair.target), {})) for pair in pairs)


def _pair(value: object) -> Pair:
    found = value if isinstance(value, dict) else {}
    source, target, prompt = (found.get(key) for key in ("source", "target", "prompt"))
    if not (isinstance(source, str) and isinstance(target, str) and isinstance(prompt, str)):
        raise BundleError(f"{NAME}: a pair needs source, target and prompt, all strings")
    if not (source and target) or source == target or prompt.count(SLOT) != 1:
        raise BundleError(f"{NAME}: {source}→{target}: expected two languages and a prompt with one {SLOT}")
    if not isinstance(found.get("reversible", False), bool):
        raise BundleError(f"{NAME}: {source}→{target}: reversible: expected true or false")
    phrases = found.get("phrases", {})
    if not isinstance(phrases, dict) or not all(isinstance(text, str) for text in phrases.values()):
        raise BundleError(f"{NAME}: {source}→{target}: phrases: expected an object of strings")
    for phrase, translation in phrases.items():
        if max(len(phrase), len(translation)) > LONGEST_PHRASE or not phrasebook.fits(phrase, translation):
            raise BundleError(
                f"{NAME}: {source}→{target}: phrases: {phrase!r:.80}: expected at most {LONGEST_PHRASE} characters, a "
                f"word at the beginning, and {' and '.join(phrasebook.SLOTS)} as often in its translation, at most once"
            )
    return Pair(source, target, prompt, phrases)
