"""A document as sentences to translate, and the text between them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from edgeslm.translation.formats import Format, blocks
from edgeslm.translation.protect import Protector
from edgeslm.translation.split import has_breaks, sentences, unwrap, wrap

_PLAIN_SENTENCE = re.compile(r"[^\W\d_](?:[^\W_]|[ ,'’])*+[.!?]?(?<! )")  # one line, without a mark that could end it


class Sentence(NamedTuple):
    """A sentence on one line, the line breaks that it had, and what no line may end within."""

    text: str
    breaks: tuple[str, ...] = ()
    places: tuple[float, ...] = ()
    whole: tuple[str, ...] = ()

    def laid_out(self, translation: str) -> str:
        """The translation on as many lines."""
        return translation if not self.breaks else wrap(translation, self.breaks, self.places, self.whole)


def _sentence(text: str, protector: Protector) -> Sentence:
    if not has_breaks(text):
        return Sentence(text)
    spans = protector.spans(text)
    flat, breaks, places = unwrap(text, spans)
    kept = dict.fromkeys(text[span.start : span.end] for span in spans)
    return Sentence(flat, tuple(breaks), tuple(places), tuple(piece for piece in kept if " " in piece))


def cut(document: str, form: Format, protector: Protector, language: str) -> Iterator[str | Sentence]:
    """Sentences, and text to keep as it is; the pieces of the original, joined, are the document."""
    if form == "text" and _PLAIN_SENTENCE.fullmatch(document):  # a fraction of the time, which batches wait for
        yield Sentence(document)
        return
    for block in blocks(document, form):
        if block.literal:
            if block.text:
                yield block.text
            continue
        for sentence in sentences(block.text, protector.spans(block.text), language):
            text = sentence.rstrip()
            if text:
                yield _sentence(text, protector)
            if len(text) < len(sentence):
                yield sentence[len(text) :]
