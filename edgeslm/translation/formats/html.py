"""HTML: what stands between tags of blocks is translated, with the tags within it; code and comments are kept."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgeslm.translation.formats.blocks import Block, paragraph

_TAG = re.compile(
    r"</?([A-Za-z][\w:-]{0,63})((?:[^<>\"']{1,2000}+|\"[^\"]{0,20000}+\"|'[^']{0,20000}+'){0,200}+)>|<[!?][^<>]{0,20000}+>"
)
_INLINE = frozenset(
    re.findall(
        r"\w+",
        "a abbr acronym b bdi bdo big br cite data del dfn em font i img ins label mark q rp rt ruby s small span "
        "strike strong sub sup time u wbr",
    )
)
_CODE = frozenset(["code", "kbd", "samp", "tt", "var"])  # within a sentence
_OTHERS = ["script", "style", "pre", "textarea", "svg", "math", "template", "noscript", "iframe", "object"]
_KEPT = _CODE.union(_OTHERS)
_UNTOUCHED = re.compile(r"\btranslate\s*=\s*[\"']?no\b|\bclass\s*=\s*[\"'][^\"']*\bnotranslate\b", re.IGNORECASE)


def blocks(text: str) -> Iterator[Block]:
    """Cut a page, or a piece of one."""
    start = at = 0  # of the text that is gathered, and of the search
    while found := _next(text, at):
        begin, end, inline = found
        at = end
        if inline:
            continue
        yield from paragraph([text[start:begin]])
        yield Block(text[begin:end], literal=True)
        start = end
    yield from paragraph([text[start:]])


def _next(text: str, at: int) -> tuple[int, int, bool] | None:
    """The next tag or element that is kept whole: its begin and end, and whether a sentence may go on over it."""
    begin = text.find("<", at)
    while begin >= 0:
        if text.startswith("<!--", begin):
            end = text.find("-->", begin + 4)
            return begin, len(text) if end < 0 else end + 3, False
        if found := _TAG.match(text, begin):
            return _element(text, found)
        begin = text.find("<", begin + 1)
    return None


def _element(text: str, tag: re.Match[str]) -> tuple[int, int, bool]:
    name, attributes = (tag[1] or "!").lower(), tag[2] or ""
    begin, end = tag.span()
    opens = text[begin + 1] not in "/!?" and not attributes.endswith("/")
    if opens and (name in _KEPT or _UNTOUCHED.search(attributes)):
        end = _behind(text, name, end)
        return begin, end, name in _CODE and text.count("<", begin, end) == 2
    return begin, end, name in _INLINE


def _behind(text: str, name: str, at: int) -> int:
    """Where an element ends whose opening tag ends at ``at``; the end of the text where it is never closed."""
    depth = 1
    for found in re.compile(rf"<(/?){re.escape(name)}\b[^<>]{{0,20000}}+>", re.IGNORECASE).finditer(text, at):
        depth += -1 if found[1] else 1
        if depth == 0:
            return found.end()
    return len(text)
