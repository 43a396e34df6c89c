from __future__ import annotations

from itertools import pairwise

import pytest

from edgeslm.translation.protect import Kind, Protector

PROTECTOR = Protector([("A", "Z"), ("a", "z"), ("À", "ɏ")], ["<s>", "</s>", "<sep>"])

KEPT = {
    "÷ ×": 2,  # among the letters of À to ɏ
    "{name} {0} {{x}} ${var} {{{raw}}} {% if x %} #{y} %{z}": 8,
    "%s %d %1$s %(name)s %@ %.2f %-10s %%": 8,
    'https://a.b/c?d=e&f=(g) www.x.org mailto:me@x.org me.you+it@mail.example.org "file:///x"': 5,
    "@mention #tag :smile: :+1: `code here` ``a`b`` --flag --out=x": 8,
    "3.50 $3.50 1,299.99 14:30 2024-03-15 v1.2.3 ABC-123-X 5 km 20 °C 3:30 PM 50% 1st": 12,
    "C:\\Users\\x\\a.txt /usr/bin/x ./run.sh src/main.py README.md ~/x": 6,
    "foo() os.path.join() snake_case camelCase $HOME": 5,
    "<b> </b> <a href='x > y'> &amp; &#39; <br/> <!-- c --> {\\an8} \\n ** 😀 👨‍👩‍👧": 12,
    "Привет 你好 \ud800 \x01 \x7f <sep> </s>": 7,
}


@pytest.mark.parametrize("text", KEPT)
def test_all_of_it_is_kept_whole(text: str) -> None:
    spans = PROTECTOR.spans(text)
    assert len(spans) == KEPT[text] and "".join(text.split()) == "".join(
        "".join(text[span.start : span.end].split()) for span in spans
    ).replace("file:///x", '"file:///x"')


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("See https://a.b/c. (Or https://d.e/f(g).) Now!", ["https://a.b/c", "https://d.e/f(g)"]),
        ("It costs $5, not 6.", ["$5", "6"]),
        ("a > b & c", [">", "&"]),
        ("a\x1fb", ["\x1f"]),
        ('A [link](https://x.y "t") and ![img](a.png)', ["[", '](https://x.y "t")', "![", "](a.png)"]),
        (
            "{n, plural, one {# file} other {# files in {dir}}}",
            ["{n, plural, one {", "#", "} other {", "#", "{dir}", "}}"],
        ),
        ("<code>x = y</code> is <b>it</b>", ["<code>x = y</code>", "<b>", "</b>"]),
        ("{name}'s file and {dir}.", ["{name}", "{dir}"]),
    ],
)
def test_what_is_around_it_is_not(text: str, kept: list[str]) -> None:
    found = [text[span.start : span.end] for span in PROTECTOR.spans(text)]
    assert found == kept


@pytest.mark.parametrize(
    "text",
    ["", "I don't know what to say.", 'He said: "Yes," (or no)…', "Größe — naïve – it’s", "e.g. Mr. Smith"],
)
def test_plain_sentences_have_nothing_to_keep(text: str) -> None:
    assert not PROTECTOR.spans(text)


def test_spans_are_in_order_and_apart() -> None:
    text = "".join(chr(32 + 7 * i % 95) for i in range(3000)) + " {a}{b}<i>5</i>" * 50
    spans = PROTECTOR.spans(text)
    assert all(a.start < a.end <= b.start for a, b in pairwise(spans))
    assert {span.kind for span in spans} == set(Kind)
