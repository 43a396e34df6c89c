"""What the model is asked: texts of one pair to prompts, searched, and back to texts."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

from edgeslm.errors import EngineError
from edgeslm.tokenizer import Tokenizer
from edgeslm.translation.card import Pair
from edgeslm.translation.phrases import Answer
from edgeslm.translation.search import Candidate, Query, Searcher

LONGEST_TEXT = 2000  # characters: far beyond a sentence, and soon split into tokens
CLOSED = "this translator is closed; load it again with edgeslm.Translator.load()"
PROBE = "Tom."  # whose answer tells how answers begin
MARGIN = 4  # tokens: an answer may have this many more than twice as many tokens as its prompt


class Asker:
    """A model that answers texts with their translations. Threads take turns."""

    def __init__(self, tokenizer: Tokenizer, searcher: Searcher, context_length: int) -> None:
        self._tokenizer, self._context = tokenizer, context_length
        self._searcher: Searcher | None = searcher
        self._lead: str | None = None  # the white space that answers begin with
        self._turn = threading.Lock()

    def ask(self, texts: Sequence[str], pair: Pair, beams: int) -> list[list[Answer]]:
        """Answers to each text, best first; an empty one to a text that is too long for the model.

        Raises:
            EngineError: the engine failed, or this is closed.
        """
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # long ones first
        with self._turn:
            found = self._open().run((self._query(pair, texts[i], beams) for i in order), len(texts))
        answers = dict(zip(order, map(self._answers, found), strict=True))
        return [answers[i] for i in range(len(texts))]

    def score(self, answered: Sequence[tuple[str, str]], pair: Pair) -> list[float]:
        """The log probability per token of answers to texts, (text, answer) each; -inf of those that are too long.

        Raises:
            As :meth:`ask`.
        """
        with self._turn:
            searcher, texts = self._open(), list(dict.fromkeys(text for text, _ in answered))
            if self._lead is None:
                self._lead = self._find_lead(searcher, pair)
            jobs: dict[str, dict[str, list[int]]] = {text: {} for text in texts}
            for text, answer in answered:
                jobs[text][answer] = self._encode(self._lead + answer)
            found = searcher.score([(self._encode(pair.ask(text)), list(some.values())) for text, some in jobs.items()])
        scores = {text: dict(zip(jobs[text], some, strict=True)) for text, some in zip(texts, found, strict=True)}
        return [scores[text][answer] for text, answer in answered]

    def _find_lead(self, searcher: Searcher, pair: Pair) -> str:
        found = searcher.run([self._query(pair, PROBE, beams=1)], 1)[0]
        answer = self._tokenizer.decode(found[0].tokens) if found else ""
        return answer[: len(answer) - len(answer.lstrip())]

    def _open(self) -> Searcher:
        if self._searcher is None:
            raise EngineError(CLOSED)
        return self._searcher

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, special_tokens=False)

    def _query(self, pair: Pair, text: str, beams: int) -> Query | None:
        if len(text) > LONGEST_TEXT:
            return None
        prompt = self._encode(pair.ask(text))
        limit = 2 * len(prompt) + MARGIN
        return Query(prompt, limit, beams) if len(prompt) + limit <= self._context else None

    def _answers(self, candidates: Sequence[Candidate]) -> list[Answer]:
        found: dict[str, Answer] = {}  # a text may come more than once, in other tokens: its best place counts
        for c in candidates:
            text = self._tokenizer.decode(c.tokens).strip()
            found.setdefault(text, Answer(text, c.sound, math.exp(c.score)))
        return list(found.values()) or [Answer("", sound=False)]

    def close(self) -> None:
        """Free the model, once no search is under way."""
        with self._turn:
            searcher, self._searcher = self._searcher, None
            if searcher is not None:
                searcher.close()
