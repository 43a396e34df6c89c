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
MARGIN = 4  # tokens: an answer may have this many more than twice as many tokens as its prompt


class Asker:
    """A model that answers texts with their translations. Threads take turns."""

    def __init__(self, tokenizer: Tokenizer, searcher: Searcher, context_length: int) -> None:
        self._tokenizer, self._context = tokenizer, context_length
        self._searcher: Searcher | None = searcher
        self._turn = threading.Lock()

    def ask(self, texts: Sequence[str], pair: Pair, beams: int) -> list[list[Answer]]:
        """Answers to each text, best first; an empty one to a text that is too long for the model.

        Raises:
            EngineError: the engine failed, or this is closed.
        """
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # long ones first
        with self._turn:
            if self._searcher is None:
                raise EngineError(CLOSED)
            found = self._searcher.run((self._query(pair, texts[i], beams) for i in order), len(texts))
        answers = dict(zip(order, map(self._answers, found), strict=True))
        return [answers[i] for i in range(len(texts))]

    def _query(self, pair: Pair, text: str, beams: int) -> Query | None:
        if len(text) > LONGEST_TEXT:
            return None
        prompt = self._tokenizer.encode(pair.ask(text), special_tokens=False)
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
