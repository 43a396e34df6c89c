"""What a translation must not touch: placeholders, markup, addresses, code, numbers, characters foreign to the model.

A text is cut into words for the model and *spans* that come out exactly. Three kinds of spans:

* WORD stands for something and behaves like a word or a name: ``{name}``, ``%s``, an URL, ``code()``;
* NUMBER has a digit: ``3.50``, ``14:30``, ``v1.2``; the model may see it;
* MARK has no place in a sentence: a tag, a Markdown or subtitle mark, an emoji, any other symbol.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import cached_property
from typing import NamedTuple


class Kind(Enum):
    """What a span is to a sentence."""

    WORD = "word"
    NUMBER = "number"
    MARK = "mark"


class Span(NamedTuple):
    """``text[start:end]`` is to be kept."""

    start: int
    end: int
    kind: Kind


# Every quantifier is bounded, and what begins with a run of letters begins only where the run does: the time that a
# text takes is proportional to its length.
_NAME = r"[^\W\d]\w{0,63}"
_UNITS = (
    r"(?:[kcmµnMG]?m[²³23]?|[kmµ]?g|[mc]?l|L|lbs?|oz|ft|in|mi|mph|km/h|°[CF]|[kMGT]i?B|[kMG]?bit|[kMG]?Hz|[kM]?Wh?|[mk]?V|mA|dB"
    r"|dpi|px|rem|em|ms|min|h|[AaPp]\.?[Mm]\.?|EUR|USD|GBP|CHF|CAD|AUD|JPY|[$€£¥%‰])(?![\w({])"
)
_FIRST = (  # before their parts are seen as marks
    r"<(?:code|kbd|samp|tt|var)(?:\s[^<>]{0,500}+)?>[^<>]{1,500}+</(?:code|kbd|samp|tt|var)>",
    r"(?<!\w)\\\\[A-Za-z][^\s<>:\"|?*]{1,500}+",  # \\server\…
)
_MARKS = (
    r"<!--[^<>\n]{0,500}+-->",
    r"</?[A-Za-z!?%](?:[^<>\"']{1,200}+|\"[^\"]{0,500}+\"|'[^']{0,500}+'){0,60}+>",  # tags
    r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});",  # entities
    r"\{\\[^{}\n]{0,200}+\}",  # subtitle positions: {\an8}
    r"\{\s{0,9}\w{1,64}\s{0,9},\s{0,9}(?:plural|select|selectordinal)\s{0,9},\s{0,99}"  # ICU messages: the beginning,
    r"(?:offset:\d{1,9}\s{1,99})?(?:=\d{1,9}|\w{1,64})\s{0,9}\{",
    r"\}\s{0,99}(?:=\d{1,9}|[A-Za-z]\w{0,63})\s{0,9}\{",  # from one form to the next,
    r"\}\s{0,99}\}",  # and the end
    r"\]\([^()\s]{0,2000}+(?:\([^()\s]{0,200}+\)[^()\s]{0,2000}+)?"  # Markdown links: [text](address "title"),
    r"(?:\s{1,9}(?:\"[^\"\n]{0,500}+\"|'[^'\n]{0,500}+'))?\s{0,9}\)",
    r"\]\[[^\[\]\n]{0,200}+\]",  # [text][name],
    r"!\[",
    r"\[\^[^\[\]\s]{1,64}+\]:?",  # footnotes
    r"\\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|[^\w\s]|[nrtbfv0](?![a-z]{2}))",  # escapes
)
_HEX = r"[0-9A-Fa-f]{1,4}"
_WORDS = (
    rf"(?<![\w:.])(?:(?:{_HEX}(?::{_HEX}){{0,6}})?::{_HEX}(?::{_HEX}){{0,6}}|{_HEX}(?::{_HEX}){{4,7}}|{_HEX}(?::{_HEX}){{0,6}}::)"
    r"(?:/\d{1,3})?(?!\w|:\w)",  # fe80::1, ::1/128, aa:bb:cc:dd:ee:ff
    r"\{\{\{?[^{}\n]{0,200}+\}\}\}?|\{%[^{}\n]{0,200}+\}|\{#[^{}\n]{0,200}+\}",  # templates
    r"[$#@%]\{[^{}\n]{0,200}+\}(?:[.,]\d{1,9})?",
    r"\[\[[^\[\]\n]{1,200}+\]\]",  # [[page|text]]
    r"\[[A-Z][A-Z0-9]{1,32}(?:[_ -][A-Z0-9]{1,32}){0,4}\](?![\[(])",  # [YOUR NAME],
    r"\(\([A-Z][A-Z0-9_]{1,64}\)\)",  # ((NAME))
    r"\(\{[^{}\n]{0,200}+\}\)",  # ({name}), with its brackets
    r"\{[^{}\n]{0,200}+\}(?:\w{1,8}\{[^{}\n]{0,200}+\}){0,8}",  # {0}, and {0}x{1}
    r"%\([^()\n]{1,64}+\)[-+0#]{0,4}\d{0,3}(?:\.\d{1,3})?[a-zA-Z]",
    r"%(?:\d{1,2}\$)?[-+0#]{0,4}(?:\d{1,3}|\*)?(?:\.(?:\d{1,3}|\*))?(?:hh|h|ll|l|z|j|t|q|L)?"
    r"[sdiufFgGxXoeEcpaAnb@%](?!\w|\$\w)",
    r"%@|%\w{1,32}\$[-+0#]{0,4}\d{0,3}[a-zA-Z@](?!\w)",
    r"%\w{1,64}%",
    r"```[^`\n]{1,500}+```|``[^\n]{1,500}?``|`[^`\n]{1,500}+`",
    r"(?i:(?<![a-z])(?:https?|ftps?|sftp|file|ssh|git|wss?|s3)://[^\s<>\"`]{1,2000}+)",
    r"(?i:(?<!\w)(?:(?:mailto|tel|data|urn|magnet|sms):|www\.)[^\s<>\"`]{1,2000}+)",
    r"(?<![\w.+-])[\w.+-]{1,64}+@[\w-]{1,63}+(?:\.[\w-]{1,63}+){1,8}",  # mail addresses
    r"(?<!\w)[A-Za-z]:[\\/][^\s<>:\"|?*]{0,500}+",  # C:\…
    r"(?<![\w/.<])(?:~|\.{1,2})?/(?:[\w.@+-]{1,200}+/?){1,50}+",  # /…, ./…, ~/…
    rf"(?<![\w&])[@#]{_NAME}(?:[.@-]\w{{1,63}}){{0,8}}",  # mentions, tags
    r":[A-Za-z+-][\w+-]{0,63}:",  # :shortcode:
    r"(?<![\w:]):[A-Za-z]\w{0,63}",  # :name
    rf"@:{_NAME}(?:\.{_NAME}){{0,8}}",  # @:linked.message
    r"\$\$[^$\n]{1,200}+\$\$",  # formulas
    rf"\${_NAME}\([^()\n]{{0,100}}\)|(?<!\w)(?:(?:\${_NAME}){{1,8}}|\$\$)",  # $t(key), $name
    r"(?:(?<![\w-])--|(?<![^\s(\"'*])-)[A-Za-z][\w-]{0,63}(?:=[^\s\"']{0,200})?",  # --option
    r"(?<!\w)__(?:[a-z]{1,64}(?:_[a-z]{1,64}){0,8}|[A-Z][A-Z0-9]{0,63}(?:_[A-Z0-9]{1,64}){0,8})__(?!\w)",
    rf"(?<![\w.-]){_NAME}(?:(?:::|->){_NAME}){{1,8}}",  # std::string
    rf"(?<![\w.-]){_NAME}\[[^\[\]\s]{{0,64}}\](?![\[(])",  # a[0]
    rf"(?<![\w.-]){_NAME}[=!<>+*-]?=(?:\"[^\"\n]{{0,200}}\"|[^\s=\"'<>]{{1,200}})",  # key=value
    rf"(?<!\w){_NAME}(?:\+{_NAME}){{1,8}}",  # Ctrl+C
    r"(?<!\w)\w{1,32}\+\+|(?<!\w)[A-Z]#(?!\w)",  # C++, C#
    r"(?<!\w)[A-Za-z]{1,8}[²³¹⁰-⁹₀-₉]\w{0,32}",  # x², H₂O
    r"[⌘⌥⇧⌃]{1,4}\w{1,16}",
    r"(?<![\w.:-])[a-z][\w-]{0,63}+(?::[a-z0-9][\w-]{0,127}+){1,4}",  # common:ok
    rf"(?<![\w.-]){_NAME}(?:(?:::|->|\.){_NAME}){{0,4}}\(\)",  # calls
    rf"(?<![\w.-]){_NAME}(?:::|->|\.){_NAME}\([^()\n]{{0,100}}\)",
    rf"(?<![\w.-]){_NAME}\((?=[^()\n]{{0,100}}[,=\"'_\d])[^()\n]{{1,100}}\)",  # f(x, 1), but not file(s)
    r"(?<![\w.@-])\w[\w-]{0,63}+(?:[./][\w-]{1,63}+){0,7}\.[A-Za-z][\w-]{1,63}+"  # example.org, a/b.txt,
    r"(?:/[^\s<>\"`]{0,500})?",  # example.org/a
    r"(?<![\w.])\.[A-Za-z]\w{1,31}",  # .NET
    r"(?<!\w)[A-Za-z]{1,16}\.\d[\w.]{0,31}",  # No.5
    r"(?<!\w)[^\W_]{1,64}+(?:_+[^\W_]{1,64}+){1,16}",  # snake_case
    r"(?<!\w)[a-z]{1,32}[A-Z]\w{0,63}",  # camelCase
    r"(?<!\w)[A-Z][a-z]{1,32}(?:[A-Z][a-z]{1,32}){1,8}(?!\w)",  # CamelCase
    r"(?<!\w)[A-Z]{2,32}(?:-[A-Z]{2,32}){1,8}(?!\w)",  # AB-CD
)
_BESIDE = r"\w$€£¥#№+−±~@/§&=<^-"  # may stand right before a digit of a number or code, as may a ">" that ends no tag
_NUMBERS = (
    rf"(?:(?<![{_BESIDE}])|(?<=\\[nrt]))[>{_BESIDE}]{{0,64}}?\d"
    rf"(?:[\w€£¥‰#°²³/=*+&−-]|[%$](?![({{\w])|[.,:'’×–](?=\d)|\s(?=\d{{3}}(?!\d))){{0,120}}(?:\s?{_UNITS})?",
    rf"\d{{1,120}}(?:[.,:'’×–]\d{{1,20}}){{0,8}}(?:\s?{_UNITS})?",  # in what is too long for the above
    r"\+?\(\d{1,6}\)(?:[\s-]?\d{1,8}){0,8}",  # (030) 123
)
_ENDS = ".,;:!?…–—'’\"”"  # punctuation behind a word or number is not part of it


_ANY_LETTER = r"\w"
_STARTS = r"[{%$@#:/~.<&\[\\`⌘⌥⇧⌃]"  # symbols that a word to keep, or a mark, may begin with
_CONTROLS = r"[\x00-\x08\x0e-\x1f\x7f-\x9f]"
# Spaces and the marks of plain sentences, as part of a character class.
_PLAIN = r"\s.,;:!?¿¡'\"()\-–—…“”„‘’‚«»"


class Protector:
    """Finds the spans of texts for one model."""

    def __init__(self, letters: Sequence[tuple[str, str]] = (), special: Sequence[str] = ()) -> None:
        """
        Args:
            letters: ranges of letters that the model knows; with none, it knows all.
            special: tokens that mean something to the model, such as "</s>", and must not come from a text.
        """
        self._letters, self._special = letters, special
        known = "".join(f"{re.escape(a)}-{re.escape(b)}" for a, b in letters)
        foreign = rf"(?:[^\W\d_](?<![{known}]))+" if known else r"(?!)"
        # Everything but letters, spaces and the marks of plain sentences.
        symbols = rf"[^\w{_PLAIN}](?:(?!{_STARTS})[^\w{_PLAIN}])*|_+|{_CONTROLS}+"
        tokens = "|".join(re.escape(token) for token in sorted(special, key=len, reverse=True)) or r"(?!)"
        groups = (
            (Kind.WORD, _FIRST),
            (Kind.MARK, [tokens, *_MARKS]),
            (Kind.WORD, _WORDS),
            (Kind.NUMBER, _NUMBERS),
            (Kind.MARK, [foreign, symbols]),
        )
        self._kinds = [kind for kind, _ in groups]
        self._source = "|".join(f"({'|'.join(patterns)})" for _, patterns in groups)
        # Nearly every sentence has no span, which this finds out at a fraction of the cost.
        unusual = rf"[^{known or _ANY_LETTER}{_PLAIN}]|[^\w{_PLAIN}]|[\d_]|{_CONTROLS}"  # × and ÷ stand among letters
        inside = [re.escape(token) for token in special if not set(token) & set("<>[]{}|_")]  # which are unusual
        self._suspect = re.compile(
            "|".join([unusual, r"[.:]\w|[a-z][A-Z]|[A-Z]-[A-Z]|(?<!\w)-\w|\(\)|\w\(|\(\(|www", *inside])
        )

    @cached_property
    def answers(self) -> Protector:
        """For what the model answers, where no letter is foreign."""
        return Protector((), self._special) if self._letters else self

    def spans(self, text: str) -> list[Span]:
        """What is to be kept, in order; spans may touch, and do not overlap."""
        return list(self._find(text)) if self._suspect.search(text) else []

    def kept(self, text: str) -> Counter[str]:
        """How often each kept piece occurs in a text."""
        return Counter(text[span.start : span.end] for span in self.spans(text))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Compiled when it is needed first: that takes longer than opening a small model."""
        return re.compile(self._source)

    def _find(self, text: str) -> Iterator[Span]:
        for found in self._pattern.finditer(text):
            group = found.lastindex
            assert group is not None
            kind, (start, end) = self._kinds[group - 1], found.span()
            if kind is not Kind.MARK:
                end -= len(found[0]) - len(_trimmed(found[0]))
            if end > start:
                yield Span(start, end, kind)


def _trimmed(text: str) -> str:
    """Without the punctuation of the sentence at its end, and closing brackets that were opened outside."""
    while text and (
        (text[-1] in _ENDS and not _is_shortcode(text)) or (text[-1] == ")" and text.count("(") < text.count(")"))
    ):
        text = text[:-1]
    return text


def _is_shortcode(text: str) -> bool:
    return text[0] == text[-1] == ":"
