from __future__ import annotations

import random
from pathlib import PurePath
from typing import get_args

import pytest

from edgeslm.errors import ArgumentError
from edgeslm.translation.formats import Format, blocks, format_of

FORMATS: tuple[Format, ...] = get_args(Format)
ODD = [
    *"ab .\n\r>-*#|`<!/\"'=[]():1\t\\&;_{}\x0b\u2028\x00",
    *("\n\n", "-->", "---", "```", "<b>", "</p>", "<script>", "| a |\n|---|\n", "00:01:02,3 -->", "    ", "<!--"),
]
MARKDOWN = """---
title: Kept
---
# Title

A paragraph
that goes on.

> Quoted one.
> Quoted two.

- item one
- [ ] item two
  goes on

1. First

```py
kept
```

    kept

| Head | B |
|---|:-:|
| x y | `p|q` |

Setext
===

[ref]: http://kept "kept"

<div>In <b>HTML</b></div>

End[^1].

[^1]: A note.
"""
HTML = """<!DOCTYPE html><html><head><title>Title</title><style>p{}</style><script>if(a<b){kept()}</script></head>
<body><!-- kept --><p class="a>b">Some <b>bold</b> &amp; <code>x</code> text.</p><ul><li>One<li>Two</ul>
<p>You <span translate="no">keep <span>this</span></span> here</p><pre>kept</pre> a < b</body>"""
SRT = """1
00:00:01,000 --> 00:00:02,000
{\\an8}<i>Hello
there.</i>

2
00:00:03,000 --> 00:00:04,000
- Hi.
- Ho.
"""
TEXT = """Hello.\r
\r
This is a long line that was broken somewhere
in the middle of it.
Next
next
```py
kept

kept too
```
```one line```
~~~
kept to the end
"""


@pytest.mark.parametrize(
    ("form", "document", "expected"),
    [
        (
            "markdown",
            MARKDOWN,
            [
                *(
                    "Title",
                    "A paragraph\nthat goes on.",
                    "Quoted one.",
                    "Quoted two.",
                    "item one",
                    "item two\n  goes on",
                ),
                *("First", "Head", "B", "x y", "`p|q`", "Setext", "In <b>HTML</b>", "End[^1].", "A note."),
            ],
        ),
        (
            "html",
            HTML,
            ["Title", "Some <b>bold</b> &amp; <code>x</code> text.", "One", "Two", "You", "here", "a < b"],
        ),
        ("srt", SRT, ["{\\an8}<i>Hello\nthere.</i>", "- Hi.", "- Ho."]),
        (
            "text",
            TEXT,
            [
                "Hello.",
                "This is a long line that was broken somewhere\nin the middle of it.",
                "Next",
                "next",
                "```one line```",
            ],
        ),
    ],
)
def test_blocks(form: Format, document: str, expected: list[str]) -> None:
    found = list(blocks(document, form))
    assert [block.text for block in found if not block.literal] == expected
    assert "".join(block.text for block in found) == document


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_lost_of_odd_documents(form: Format) -> None:
    rng = random.Random(form)
    for _ in range(400):
        document = "".join(rng.choice(ODD) for _ in range(rng.randrange(40)))
        assert "".join(block.text for block in blocks(document, form)) == document


def test_formats_by_name() -> None:
    names = {
        "a.md": "markdown",
        "B.HTML": "html",
        "x.srt": "srt",
        "x.vtt": "srt",
        "notes.txt": "text",
        "README": "text",
    }
    assert {name: format_of(PurePath(name)) for name in names} == names
    with pytest.raises(ArgumentError, match="text, markdown, html, srt"):
        list(blocks("", "pdf"))  # type: ignore[arg-type]
