"""``translation.json``: what a model translates, and how it wants to be asked. It comes with a checkpoint.

pairs        list of {"source": "en", "target": "de", "prompt": "<s><2de> {text}<sep>"}
letters      ranges of letters that the model was trained on ("AZ", "az", "Àɏ"); others are kept as they are
stand_ins    names that it carries over unchanged ("Tom"), to hold the place of what it must not touch
max_words    the longest sentence that it was trained on, in words; longer ones are cut at clauses
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from edgeslm.bundle import Bundle
from edgeslm.errors import ArgumentError, BundleError
from edgeslm.manifest import parse_json

NAME = "translation.json"
MAX_BYTES = 1 << 20
SLOT = "{text}"


@dataclass(frozen=True)
class Pair:
    """One direction, and the prompt that asks for it."""

    source: str
    target: str
    prompt: str

    def ask(self, text: str) -> str:
        """The prompt for a text."""
        return self.prompt.replace(SLOT, text)

    def __str__(self) -> str:
        return f"{self.source}→{self.target}"


@dataclass(frozen=True)
class Card:
    """What a bundle translates."""

    pairs: tuple[Pair, ...]
    letters: tuple[tuple[str, str], ...]  # first and last of each range
    stand_ins: tuple[str, ...]
    max_words: int

    @property
    def sources(self) -> list[str]:
        """Languages that can be translated from."""
        return list(dict.fromkeys(pair.source for pair in self.pairs))

    @property
    def languages(self) -> list[str]:
        """All of them."""
        return list(dict.fromkeys(language for pair in self.pairs for language in (pair.source, pair.target)))

    def only_source(self, target: str | None) -> str | None:
        """The only language that can be translated from, to ``target`` if one is given; None if there are several."""
        found = {source for source in self.sources if target is None or self._leads(source, target)}
        return found.pop() if len(found) == 1 else None

    def _leads(self, source: str, target: str) -> bool:
        try:
            return bool(self.route(source, target))
        except ArgumentError:
            return False

    def target(self, source: str, target: str | None) -> str:
        """``target``, or the only language that there is a pair to from ``source``.

        Raises:
            ArgumentError: none was given, and there are several, or none.
        """
        if target is not None:
            return target
        found = [pair.target for pair in self.pairs if pair.source == source]
        if not found:
            raise ArgumentError(
                f"source {source!r}: this bundle does not translate from it; it translates {self._offer()}"
            )
        if len(found) > 1:
            raise ArgumentError(f"target: none given; this bundle translates {self._offer()}")
        return found[0]

    def route(self, source: str, target: str) -> list[Pair]:
        """The pairs to go through, the fewest: one, or several where there is no direct one.

        Raises:
            ArgumentError: no way leads there, or it leads back.
        """
        if source == target:
            raise ArgumentError(
                f"{source}→{target}: there is nothing to translate; this bundle translates {self._offer()}"
            )
        ways: deque[list[Pair]] = deque([[]])
        seen = {source}
        while ways:
            way = ways.popleft()
            here = way[-1].target if way else source
            for pair in self.pairs:
                if pair.source == here and pair.target == target:
                    return [*way, pair]
                if pair.source == here and pair.target not in seen:
                    seen.add(pair.target)
                    ways.append([*way, pair])
        raise ArgumentError(f"{source}→{target}: this bundle does not translate that; it translates {self._offer()}")

    def _offer(self) -> str:
        return ", ".join(map(str, self.pairs))


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
    pairs = tuple(_pair(value) for value in _list(values, "pairs"))
    if not pairs:
        raise BundleError(f"{NAME}: pairs: expected at least one")
    letters = tuple((value[0], value[1]) for value in _texts(values, "letters") if _expect_range(value))
    words = values.get("max_words", 32)
    if type(words) is not int or not 1 <= words <= 4096:
        raise BundleError(f"{NAME}: max_words: expected 1..4096, found {words!r}")
    stand_ins = _texts(values, "stand_ins")
    if not all(name.isalpha() and len(name) <= 64 for name in stand_ins):
        raise BundleError(f"{NAME}: stand_ins: expected words of letters, found {stand_ins!r:.80}")
    return Card(pairs, letters, stand_ins, words)


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


def _expect_range(value: str) -> bool:
    if len(value) != 2 or value[0] > value[1]:
        raise BundleError(f'{NAME}: letters: {value!r} is not the first and the last letter of a range, such as "az"')
    return True


def _pair(value: object) -> Pair:
    found = value if isinstance(value, dict) else {}
    source, target, prompt = (found.get(key) for key in ("source", "target", "prompt"))
    if not (isinstance(source, str) and isinstance(target, str) and isinstance(prompt, str)):
        raise BundleError(f"{NAME}: a pair needs source, target and prompt, all strings")
    if not (source and target) or source == target or prompt.count(SLOT) != 1:
        raise BundleError(f"{NAME}: {source}→{target}: expected two languages and a prompt with one {SLOT}")
    return Pair(source, target, prompt)
