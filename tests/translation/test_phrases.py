"""Whatever a model answers, what must be kept comes out as often as it went in."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from edgeslm.translation.card import Card
from edgeslm.translation.names import Names
from edgeslm.translation.phrases import Answer, Ask, like, shape, translate_sentences
from edgeslm.translation.protect import Protector

CARD = Card((), (("A", "Z"), ("a", "z"), ("À", "ɏ")), ("Tom", "Boston"), 12)
PROTECTOR = Protector(CARD.letters, ["</s>"])
NAMES = Names(lambda text: range(6 if "zz" in text.lower() else 1), frozenset(["Fuzzday"]))
SENTENCES = [
    "Hello {name}, you have {count} new messages.",
    "%1$s sent %d files to %(dir)s on 2024-03-15 at 14:30.",
    "Click <b>here</b> &amp; go to https://example.org/a?b=c, please.",
    "{count, plural, one {# item} other {# items}}",
    "Tom paid $3.50 for 2 apples; v1.2.3 costs 1,299.99 more than 2.",
    "Use `x = y` or press :smile: now! 😀 It is **very** [good](https://x.y).",
    "We went to the house of a friend, and then we went on to the sea, because it was hot {there} and not here.",
    "x</s>y",
    "1 2 3",
    "",
]
MODELS: dict[str, Callable[[str], str]] = {
    "silent": lambda text: "",
    "echo": lambda text: text,
    "doubling": lambda text: f"{text} {text}",
    "inventing": lambda text: "Es ist {neu} <b>5</b> % 2024-03-15 Tom",
    "shouting": lambda text: text.upper(),
    "reversing": lambda text: " ".join(reversed(text.split())),
    "digits": lambda text: text.replace("2", "zwei"),
}


def asking(model: Callable[[str], str], log: list[str] | None = None) -> Callable[[Sequence[str]], list[Answer]]:
    def ask(texts: Sequence[str]) -> list[Answer]:
        if log is not None:
            log.extend(texts)
        return [Answer(model(text)) for text in texts]

    return ask


def translated(sentences: Sequence[str], ask: Ask, language: str = "en") -> list[str]:
    return [outcome.text for outcome in translate_sentences(sentences, PROTECTOR, NAMES, CARD, language, ask)]


@pytest.mark.parametrize("model", MODELS)
def test_what_is_kept_comes_out_exactly_as_often(model: str) -> None:
    found = translated(SENTENCES, asking(MODELS[model]))
    for sentence, translation in zip(SENTENCES, found, strict=True):
        assert PROTECTOR.kept(translation) == PROTECTOR.kept(sentence), translation


def test_and_for_random_sentences_and_a_random_model() -> None:
    rng = random.Random(0)
    pieces = ["{a}", "%s", "5", "Tom", "<i>", "word", "and", "https://x.y", "2.5 km", "!", ".", ",", "–", "😀", "x_y"]

    def text() -> str:
        return " ".join(rng.choice(pieces) for _ in range(rng.randrange(12)))

    def model(asked: str) -> str:
        return rng.choice([asked, text(), "ein Wort", "", asked.replace(" ", "  ")])

    for _ in range(300):
        sentence = text()
        (found,) = translated([sentence], asking(model))
        assert PROTECTOR.kept(found) == PROTECTOR.kept(sentence), (sentence, found)


def test_and_among_names_and_colons() -> None:
    rng = random.Random(0)
    pieces = ["{a}", "5", "Bizz", "Bozz-Azz's", "note:", "Q:", "10:30", "<i>", "word", ".", "–", "`a: b`"]

    def model(asked: str) -> str:
        words = asked.rstrip(".").split()
        return rng.choice([asked, "ein Wort", "", " ".join(rng.sample(words, len(words))), f"{asked} Tom"])

    for _ in range(300):
        sentence = " ".join(rng.choice(pieces) for _ in range(rng.randrange(12)))
        (found,) = translated([sentence], asking(model))
        assert PROTECTOR.kept(found) == PROTECTOR.kept(sentence), (sentence, found)


def test_the_model_sees_stand_ins_and_numbers_but_no_placeholder() -> None:
    log: list[str] = []
    found = translated(["Give {it} to me at 5 for {you}."], asking(lambda t: t, log))
    assert log == ["Give Tom to me at 5 for Boston."] and found == ["Give {it} to me at 5 for {you}."]


def test_a_placeholder_may_move_and_backslashes_survive() -> None:
    found = translated(["The file \\\\x\\1 is mine."], asking(lambda t: "Mir gehört Tom."))
    assert found == ["Mir gehört \\\\x\\1."]


def test_a_stand_in_that_the_text_has_itself_is_not_used() -> None:
    log: list[str] = []
    translated(["Tom likes {it}."], asking(lambda t: t, log))
    assert log == ["Tom likes Boston."]


def test_an_answer_that_ran_away_does_not_hold_what_is_kept() -> None:
    def ask(texts: Sequence[str]) -> list[Answer]:
        return [Answer(f"{text} und und", sound=False) for text in texts]

    (found,) = translated(["Give me 5 of them."], ask)
    assert Counter(found.split())["5"] == 1


def test_of_german_only_what_opens_a_sentence_takes_over_a_capital() -> None:
    answers = {"Ich.": "I.", "Schuhe.": "shoes.", "Das Haus.": "the house.", "Und.": "and.", "Tom.": "Tom."}

    def ask(texts: Sequence[str]) -> list[Answer]:
        return [Answer(answers.get(text, "?")) for text in texts]

    sentences = ["Ich {x} Schuhe", "<b>Das Haus</b>Schuhe<i>Tom</i>", "{x} Schuhe", "<b>–</b>Schuhe", "Schuhe"]
    found = ["I {x} shoes", "<b>The house</b>shoes<i>Tom</i>", "{x} shoes", "<b>–</b>Shoes", "Shoes"]
    assert translated(sentences, ask, "de") == found
    assert translated(sentences[:3], ask, "en") == ["I {x} Shoes", "<b>The house</b>Shoes<i>Tom</i>", "{x} Shoes"]


def test_a_sentence_is_as_sure_as_its_least_sure_answer() -> None:
    sure = {"the house.": 0.9, "the dog.": 0.3, "or both.": 0.6, "and here is Tom.": 0.8, "and here is.": 0.1}

    def ask(texts: Sequence[str]) -> list[Answer]:
        return [Answer(text.replace("Tom", "him"), confidence=sure[text]) for text in texts]

    sentences = ["the house<b>the dog</b>or both", "the house", "<b>12</b>", "and here is {it}"]
    found = translate_sentences(sentences, PROTECTOR, NAMES, CARD, "en", ask)
    assert [outcome.confidence for outcome in found] == [0.3, 0.9, 1.0, 0.1]  # the last one was cut around {it}


def test_the_model_sees_stand_ins_for_names_that_it_does_not_know() -> None:
    log: list[str] = []
    sentences = [
        "Bizz Bozz met {it}.",
        "zz and Ann's Mezz-Azz",
        "Azz's dog",
        "Azz Bozz, Czz and Dzz and Ezz",
        "AZZ on Fuzzday",
        "AZZ NO",
    ]
    assert translated(sentences, asking(lambda t: t, log)) == sentences
    assert log[:3] == ["Tom met Boston.", "zz and Ann's Tom.", "Tom's dog."]
    assert log[3:] == ["Tom, Boston and Dzz and Ezz.", "Tom on Fuzzday.", "Azz no."]
    assert Names(lambda text: range(6), None).spans("Azz", [], True, "en") == []


def test_a_word_with_a_hyphen_is_a_name_if_both_parts_have_capitals() -> None:
    spans = NAMES.spans("Suis-zzje Azz-Bzz, Azz-like ?", [], True, "fr")
    assert [(span.start, span.end) for span in spans] == [(10, 17)]


def test_a_name_may_get_an_s_and_one_that_is_lost_is_shown_instead() -> None:
    answers = {"Tom's dog.": "Toms Hund.", "I saw Tom.": "Ich sah ihn.", "I saw Azz.": "Ich sah Azz."}

    def ask(texts: Sequence[str]) -> list[Answer]:
        return [Answer(answers[text]) for text in texts]

    assert translated(["Azz's dog", "I saw Azz."], ask) == ["Azzs Hund", "Ich sah Azz."]


def test_what_stands_before_a_colon_is_asked_by_itself() -> None:
    log: list[str] = []
    sentences = ["Q: Where is it?", "Note: wait", "Error 404: Page not found", "{x}: Hello", "`a: b` at 10:30"]
    assert translated(sentences, asking(lambda t: t, log)) == sentences
    assert log == ["Where is it?", "Note.", "wait.", "Error.", "Page not found.", "Hello.", "Tom at 10:30."]


def test_long_sentences_are_asked_in_clauses() -> None:
    log: list[str] = []
    text = " ".join(["one two three four five, six"] * 8) + "."
    (found,) = translated([text], asking(lambda t: t, log))
    assert len(log) > 4 and all(len(asked.split()) <= CARD.max_words for asked in log)
    assert found == text


@pytest.mark.parametrize(
    ("source", "asked", "answer", "expected"),
    [
        ("Good morning", "Good morning.", "Guten Morgen.", "Guten Morgen"),
        ("Is it?", "Is it?", "ist es?", "Ist es?"),
        ("SAVE IT", "Save it.", "Rette es.", "RETTE ES"),
        ("and he", "and he.", "Und er.", "Und er"),
        ("Go!", "Go!", "Geh!", "Geh!"),
    ],
)
def test_form(source: str, asked: str, answer: str, expected: str) -> None:
    assert shape(source) == asked
    assert like(source, answer) == expected
