from __future__ import annotations

import random

import pytest

from edgeslm.translation.protect import Protector
from edgeslm.translation.split import clauses, sentences, unwrap, wrap

PROTECTOR = Protector([("A", "Z"), ("a", "z")])
ODD = [*"ab .?!\n\r\"'()1AéßX,;:-…“”\u2028\x85\x0b\u3000😀\ud800", "Dr.", "e.g.", "{x}", "<b>", "5.3"]


def cut(text: str) -> list[str]:
    return sentences(text, PROTECTOR.spans(text), "en")


def test_sentences() -> None:
    text = "Dr. Smith paid $3.50 for {it}. See https://x.y/z.a! <b>Go.</b> “No?” he said. It is 5. Then v1.2. Ok"
    assert [sentence.strip() for sentence in cut(text)] == [
        "Dr. Smith paid $3.50 for {it}.",
        "See https://x.y/z.a! <b>",
        "Go.</b>",
        "“No?” he said.",
        "It is 5.",
        "Then v1.2.",
        "Ok",
    ]


def test_nothing_is_lost_of_odd_texts() -> None:
    rng = random.Random(0)
    for _ in range(500):
        text = "".join(rng.choice(ODD) for _ in range(rng.randrange(40)))
        assert "".join(cut(text)) == text
        assert "".join(clauses(text, 3)) == text


def test_clauses_are_short_enough_and_cut_where_it_hurts_least() -> None:
    text = "I was at home, and it rained all the day; so we did not go out, and she read a book to us."
    assert clauses(text, 20)[0].endswith("; ")
    for limit in (1, 2, 7, 20):
        found = clauses(text, limit)
        assert "".join(found) == text and all(len(piece.split()) <= limit for piece in found)


@pytest.mark.parametrize(
    ("source", "translation", "expected"),
    [
        ("I don't know\nwhat to say.", "Ich weiß nicht, was ich sagen soll.", "Ich weiß nicht,\nwas ich sagen soll."),
        ("a b c\r\n  d e f", "u v w x y z", "u v w\r\n  x y z"),
        ("a\nb\nc", "eins", "eins\n\n"),
        ("a\nb\nc", "eins zwei", "eins\nzwei\n"),
        ("See <a\nhref='x'> it\nnow", "Sieh <a\nhref='x'> es jetzt", "Sieh <a\nhref='x'> es\njetzt"),
    ],
)
def test_line_breaks_come_back(source: str, translation: str, expected: str) -> None:
    flat, breaks, places = unwrap(source, PROTECTOR.spans(source))
    assert flat.count("\n") == source.count("\n") - len(breaks)
    assert wrap(translation, breaks, places) == expected


def test_no_break_and_no_word_is_lost() -> None:
    rng = random.Random(0)
    for _ in range(300):
        source = "".join(rng.choice(["ab", " ", "\n", "c", "\r\n"]) for _ in range(rng.randrange(30))).strip()
        answer = " ".join("x" * rng.randrange(1, 9) for _ in range(rng.randrange(8)))
        _, breaks, places = unwrap(source, ())
        found = wrap(answer, breaks, places)
        assert found.split() == answer.split() and found.count("\n") == source.count("\n")


def test_what_stays_whole_is_not_cut_by_a_line_break() -> None:
    _, breaks, places = unwrap("f(a, 1) \nIch bin hier.", ())
    assert wrap("f(a, 1) I'm here.", breaks, places, ["f(a, 1)"]) == "f(a, 1) \nI'm here."
    assert wrap("f(a, 1)", breaks, places, ["f(a, 1)"]) == "f(a, 1) \n"
    assert wrap("f(a, g(b, 1)) I'm", breaks, places, ["g(b, 1)", "f(a, g(b, 1))"]) == "f(a, g(b, 1)) \nI'm"
