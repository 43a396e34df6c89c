"""How one sentence is translated without touching what must be kept.

A sentence is cut at its marks and colons. What lies between two of those is asked for whole, numbers in it and a
stand-in for every placeholder and every name that the model does not know; the answer counts only if each of them
occurs in it exactly once. Otherwise the text is cut around all but the names, and the pieces are translated one by one.
So what is kept comes out exactly as often as it went in.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from edgeslm.translation.card import Card
from edgeslm.translation.names import NOUN_CAPITALS, Names
from edgeslm.translation.protect import Kind, Protector, Span
from edgeslm.translation.split import clauses


class Answer(NamedTuple):
    """What the model made of a text.

    Attributes:
        sound: unless it ran away (repeated itself, or did not come to an end).
        confidence: 0..1, the geometric mean of what it gave the tokens for probabilities.
    """

    text: str
    sound: bool = True
    confidence: float = 1.0


class Outcome(NamedTuple):
    """A sentence translated, and the least confidence of the answers that it is made of; 1 where there are none."""

    text: str
    confidence: float = 1.0


Ask = Callable[[Sequence[str]], Sequence[Answer]]

_LETTER = re.compile(r"[^\W\d_]")
_LETTERS = re.compile(r"[^\W\d_][\W\d_]*[^\W\d_]")
_BEFORE = re.compile(r"[\s,;:…\-–—.!?)]*")
_BEHIND_PIECE = " \t\r\n\x0b\x0c\x85\xa0,;:-–—([{\"“”„'‘«»"
_BEFORE_PIECE = re.compile(r"[\s,;:…\-–—.!?)(\[\]\"“”„‘’«»]*")
_BEHIND = " \t\r\n\x0b\x0c\x85\xa0,;:-–—([{“„«"
_BETWEEN = re.compile(r"[ -]")  # the parts of a name
_COLON = re.compile(r"(?<=\S)[ \xa0\u202f]?:(?=\s+\S)")  # French has a space before it
_ENDING = re.compile(r"[.!?…][\"”“’')»]*$")


def translate_sentences(
    sentences: Sequence[str], protector: Protector, names: Names, card: Card, language: str, ask: Ask
) -> list[Outcome]:
    """The sentences, of a language, translated, with all that is asked of the model asked together, twice at most."""
    rules = _Rules(protector, names, card.stand_ins, card.max_words, language)
    drafts = [_draft(sentence, rules) for sentence in sentences]
    phrases = [part for draft in drafts for part in draft if isinstance(part, _Phrase)]
    whole = [phrase for phrase in phrases if phrase.attempt]
    for phrase, answer in zip(whole, ask([shape(phrase.attempt) for phrase in whole]) if whole else (), strict=True):
        phrase.take(answer)
    failed = [phrase for phrase in phrases if phrase.result is None]
    pieces = [piece for phrase in failed for piece in phrase.pieces() if isinstance(piece, _Piece)]
    for piece, answer in zip(pieces, ask([shape(piece.text) for piece in pieces]) if pieces else (), strict=True):
        piece.take(answer, rules)
    return [_outcome(draft) for draft in drafts]


def _outcome(draft: Sequence[str | _Phrase]) -> Outcome:
    text = "".join(part if isinstance(part, str) else part.finished() for part in draft)
    return Outcome(text, min((part.sureness() for part in draft if isinstance(part, _Phrase)), default=1.0))


def shape(text: str) -> str:
    """A text as the model knows them: a sentence with an end, not in capitals."""
    text = text.capitalize() if _shouts(text) else text
    return text if _ENDING.search(text) else text + "."


def like(source: str, answer: str, capital: bool = True) -> str:
    """An answer in the form of what was asked: an end only where there was one, and capitals.

    ``capital``: carry over that of the first letter, too.
    """
    if not _ENDING.search(source):
        answer = answer.rstrip(".!?").lstrip("¿¡") or answer
    if _shouts(source):
        return answer.upper()
    return answer[:1].upper() + answer[1:] if capital and source[:1].isupper() else answer


def _shouts(text: str) -> bool:
    return len(text) > 3 and text.isupper()


class _Rules(NamedTuple):
    protector: Protector
    names: Names
    stand_ins: Sequence[str]
    max_words: int
    language: str

    @property
    def noun_capitals(self) -> bool:
        return self.language in NOUN_CAPITALS


@dataclass
class _Piece:
    """A text without anything to keep."""

    text: str
    opens: bool  # a sentence
    result: str | None = None
    confidence: float = 1.0

    def take(self, answer: Answer, rules: _Rules) -> None:
        """An answer that invents something to keep, or nothing at all, is none."""
        found = like(self.text, answer.text, self.opens or not rules.noun_capitals)
        if found and not rules.protector.answers.spans(found):
            self.result, self.confidence = found, answer.confidence


@dataclass
class _Phrase:
    """What lies between two marks: text, and words and numbers to keep."""

    text: str
    spans: list[Span]
    rules: _Rules
    alone: bool  # nothing in its sentence is kept
    opens: bool  # the sentence
    attempt: str = ""  # what to ask for the whole; "" where it is better not asked
    names: dict[str, str] = field(default_factory=dict)  # stand-in → what it stands for
    result: str | None = None
    confidence: float = 1.0
    cut: list[str | _Piece] = field(default_factory=list)

    def __post_init__(self) -> None:
        if len(self.text.split()) > self.rules.max_words:
            return
        free = [name for name in self.rules.stand_ins if name not in self.text]
        words = [span for span in self.spans if span.kind is Kind.WORD]
        if len(words) > len(free):
            return
        names = self.rules.names.spans(self.text, self.spans, self.opens, self.rules.language)
        words += names[: len(free) - len(words)]
        pieces, end = [], 0
        for span, name in zip(sorted(words, key=lambda span: span.start), free, strict=False):
            self.names[name] = self.text[span.start : span.end]
            pieces += [self.text[end : span.start], name]
            end = span.end
        self.attempt = "".join([*pieces, self.text[end:]])

    def take(self, answer: Answer) -> None:
        """Accept an answer in which everything that was to be kept occurs once; else there is no result yet."""
        found = like(self.text, answer.text, self.opens or not self.rules.noun_capitals)
        if not found or (not answer.sound and self.spans):
            return
        for name, kept in self.names.items():
            genitive = "s?" if _BETWEEN.sub("", kept).isalpha() else ""  # Toms Hund
            word = re.compile(rf"(?<!\w){name}(?={genitive}(?!\w))")
            if len(word.findall(found)) != 1:
                return
            found = word.sub(kept.replace("\\", r"\\"), found)
        if self._keeps(found):
            self.result, self.confidence = found, answer.confidence

    def _keeps(self, found: str) -> bool:
        protector = self.rules.protector.answers
        if _is_balanced(self.text) and not _is_balanced(found):
            return False
        if self.alone:
            return all(span.kind is Kind.NUMBER for span in protector.spans(found))  # "three" may have become 3
        return protector.kept(found) == protector.kept(self.text)

    def pieces(self) -> list[str | _Piece]:
        """Cut around all that is kept, and at clauses."""
        end, opens = 0, self.opens
        for span in [*self.spans, Span(len(self.text), len(self.text), Kind.MARK)]:
            for clause in clauses(self.text[end : span.start], self.rules.max_words):
                before, text, behind = _edges(clause, _BEFORE_PIECE, _BEHIND_PIECE)
                self.cut += [before, _Piece(text, opens) if text else "", behind]
                opens = opens and not text
            opens = False
            self.cut.append(self.text[span.start : span.end])
            end = span.end
        return self.cut

    def finished(self) -> str:
        """The translation."""
        if self.result is not None:
            return self.result
        return "".join(part if isinstance(part, str) else part.result or part.text for part in self.cut)

    def sureness(self) -> float:
        """The least confidence of the answers that it is made of."""
        return min((part.confidence for part in self.cut if isinstance(part, _Piece)), default=self.confidence)


def _is_balanced(text: str) -> bool:
    return text.count("(") == text.count(")")


def _draft(sentence: str, rules: _Rules) -> list[str | _Phrase]:
    """Literal text and phrases in turn."""
    parts: list[str | _Phrase] = []
    start, inside, opens = 0, list[Span](), True
    spans = _with_colons(sentence, rules.protector.spans(sentence))
    for span in [*_joined(sentence, spans), Span(len(sentence), len(sentence), Kind.MARK)]:
        if span.kind is not Kind.MARK:
            inside.append(span)
            continue
        found = _phrase(sentence, start, span.start, inside, rules, opens)
        opens = opens and not inside and found == [sentence[start : span.start]]
        parts += found
        parts.append(sentence[span.start : span.end])
        start, inside = span.end, []
    return parts


def _with_colons(text: str, spans: Sequence[Span]) -> Sequence[Span]:
    """Colons between words are marks, too: models of everyday sentences drop a label, or what it is put to."""
    if ":" not in text:
        return spans
    ends = {span.start: span.end for span in spans}
    starts, colons = sorted(ends), list[Span]()
    for found in _COLON.finditer(text):
        before = bisect_right(starts, found.start())
        if not before or ends[starts[before - 1]] <= found.start():
            colons.append(Span(found.start(), found.end(), Kind.MARK))
    return sorted([*spans, *colons], key=lambda span: span.start)


def _joined(text: str, spans: Sequence[Span]) -> list[Span]:
    """Spans without a letter between them are one, and a mark where one of them is."""
    joined: list[Span] = []
    for span in spans:
        if joined and not _LETTER.search(text, joined[-1].end, span.start):
            last = joined.pop()
            kinds = {last.kind, span.kind}
            kind = span.kind if len(kinds) == 1 else Kind.MARK if Kind.MARK in kinds else Kind.WORD
            span = Span(last.start, span.end, kind)
        joined.append(span)
    return joined


def _phrase(
    sentence: str, start: int, end: int, spans: Sequence[Span], rules: _Rules, opens: bool
) -> list[str | _Phrase]:
    """What lies between two marks; without a letter outside of its spans it is literal."""
    text = sentence[start:end]
    if not _has_letter_outside(sentence, start, end, spans):
        return [text]
    before, core, behind = _edges(text)
    shift = start + len(before)
    inside = [Span(s.start - shift, s.end - shift, s.kind) for s in spans]
    if any(s.start < 0 or s.end > len(core) for s in inside):  # an edge belongs to what is kept
        before, core, behind = "", text, ""
        inside = [Span(s.start - start, s.end - start, s.kind) for s in spans]
    return [before, _Phrase(core, inside, rules, text == sentence and not spans, opens), behind]


def _has_letter_outside(sentence: str, start: int, end: int, spans: Sequence[Span]) -> bool:
    at = start
    for span in spans:
        if _LETTER.search(sentence, at, span.start):
            return True
        at = span.end
    return _LETTER.search(sentence, at, end) is not None


def _edges(text: str, separates: re.Pattern[str] = _BEFORE, behind: str = _BEHIND) -> tuple[str, str, str]:
    """Spaces and punctuation before and behind, and what is between; with hardly a letter, all of it is before."""
    if not _LETTERS.search(text):
        return text, "", ""
    start = separates.match(text).end()  # type: ignore[union-attr]  # it matches nothing at least
    core = text[start:].rstrip(behind)
    return text[:start], core, text[start + len(core) :]
