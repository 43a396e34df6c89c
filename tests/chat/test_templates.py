"""Chat templates render as transformers renders them: rendered.json is its answer (make_rendered.py)."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from chat_conversations import CONVERSATIONS

from edgeslm.errors import ArgumentError, TemplateError
from edgeslm.templates.chat_template import ChatTemplate

HERE = Path(__file__).parent
RENDERED = json.loads((HERE / "rendered.json").read_text("utf-8"))
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def now() -> datetime:
    return datetime(2026, 2, 3, 4, 5, 6)


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, SPECIAL_TOKENS, now)


def render(source: str, messages: Any = None, **given: Any) -> str:
    return template(source).render(messages or [{"role": "user", "content": "Hi"}], **given)


def test_the_goldens_cover_the_templates_and_conversations() -> None:
    assert set(RENDERED) == {path.stem for path in (HERE / "templates").glob("*.jinja")}
    assert all(set(found) == set(CONVERSATIONS) for found in RENDERED.values())
    outcomes = ["text" in found for family in RENDERED.values() for found in family.values()]
    assert outcomes.count(True) > 200 and outcomes.count(False) > 20


@pytest.mark.parametrize("family", RENDERED)
def test_as_transformers_renders_them(family: str) -> None:
    ours = template((HERE / "templates" / f"{family}.jinja").read_text("utf-8"))
    for name, given in CONVERSATIONS.items():
        expected = RENDERED[family][name]
        if "text" in expected:
            assert ours.render(**given) == expected["text"], name
        else:
            with pytest.raises((ArgumentError, TemplateError)):
                ours.render(**given)


BAD_MESSAGES: list[Any] = [
    *([], (), None, 3, "Hello", {}, {"role": "user", "content": "Hi"}, [None], ["Hi"], [[]], [{}]),
    *([{"content": "Hi"}], [{"role": None}], [{"role": 3}], [{"role": "user", "content": object()}]),
    [{"role": "user", "content": b"Hi"}],
]


@pytest.mark.parametrize("messages", BAD_MESSAGES, ids=repr)
def test_what_are_no_messages_is_refused(messages: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^messages"):
        template("x").render(messages)


def test_messages_that_hold_themselves_are_refused() -> None:
    message: dict[str, Any] = {"role": "user"}
    message["content"] = [message]
    with pytest.raises(ArgumentError, match="nested too deeply"):
        template("x").render([message])


def test_what_is_nested_too_deeply_is_refused() -> None:
    content: Any = "x"
    for _ in range(200):
        content = [content]
    with pytest.raises(ArgumentError, match="nested more than"):
        template("x").render([{"role": "user", "content": content}])


@pytest.mark.parametrize("family", RENDERED)
def test_a_long_conversation_is_within_the_budget(family: str) -> None:
    """200 messages; some templates look at all of them for each."""
    ours = template((HERE / "templates" / f"{family}.jinja").read_text("utf-8"))
    messages = [{"role": ("user", "assistant")[i % 2], "content": f"Message {i}."} for i in range(199)]
    tools = CONVERSATIONS["tools"]["tools"] if "tools" in family else None
    assert "Message 198." in ours.render(messages, tools=tools)


def test_the_callers_messages_stay_as_they_are() -> None:
    messages = [{"role": "assistant", "content": None, "thinking": "hm"}]
    assert render("{{ messages }}", messages) == str(
        [{"thinking": "hm", "role": "assistant", "reasoning_content": "hm"}]
    )
    assert messages == [{"role": "assistant", "content": None, "thinking": "hm"}]


def test_a_template_sees_plain_values() -> None:
    class Text(str):
        def secret(self) -> str:
            return "secret"

    messages = [{"role": Text("user"), "content": (Text("a"), True, 1.5)}]
    assert render("{{ messages[0].role.secret }}{{ messages[0].content }}", messages) == "['a', True, 1.5]"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ strftime_now('%d %b %Y') }}", "03 Feb 2026"),
        ("{{ {'b': 'ü<', 'a': 1}|tojson }}", '{"b": "ü<", "a": 1}'),
        ("{{ {'b': 1, 'a': [2]}|tojson(indent=1, sort_keys=true) }}", '{\n "a": [\n  2\n ],\n "b": 1\n}'),
        ("{{ [1]|tojson(separators=(',', ':'), ensure_ascii=true) }}", "[1]"),
        (
            "{% for i in range(9) %}{% if i==1 %}{% continue %}{% elif i>2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
            "02",
        ),
        ("a\n  {% if true %}\n  b\n  {% endif %}\nc", "a\n  b\nc"),
        ("{% generation %}{{ 1 }}{% endgeneration %}", "1"),
        ("{{ 1 < 2 < 3 }}{{ 1 < 2 > 3 }}{{ 2 in [2] }}{{ 2 not in [2] }}{{ none == none }}", "TrueFalseTrueFalseTrue"),
        ("{{ 'a' ~ 1 ~ none ~ nothing ~ true }}", "a1NoneTrue"),
        ("{{ 'abcd'[1:3] }}{{ [1, 2, 3][::-1] }}{{ {'a': 1}['a'] }}{{ {1: 2} }}", "bc[3, 2, 1]1{1: 2}"),
        ("{% set ns = namespace(x=1) %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "4"),
        ("{{ dict(a=1) }}{{ dict.fromkeys('ab', 0) }}{{ dict([('k', 'v')]) }}", "{'a': 1}{'a': 0, 'b': 0}{'k': 'v'}"),
        ("{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}", "abaNone"),
        ("{% set j = joiner('|') %}{{ j() }}a{{ j() }}b", "a|b"),
        (
            "{% for x in 'ab' recursive %}{{ x }}{% if loop.depth < 3 %}{{ loop(['c']) }}{% endif %}{% endfor %}",
            "accbcc",
        ),
        ("{% for x in [1, 1] %}{{ loop.changed(x) }}{{ loop.cycle('a', 'b') }}{% endfor %}", "TrueaFalseb"),
        (
            "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 3, 4, c=5) }}",
            "13(4,){'c': 5}",
        ),
        (
            "{% macro m(a, b) %}{{ a ~ b }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(*'ab') }}{{ m(*['c', 'd']|map('e')) }}",
            "12abcd",
        ),
        ("{{ 'a bc'|title }}{{ nothing|default(*['x']) }}{{ m is defined }}", "A BcxFalse"),
        ("{% macro m() %}<{{ caller(1) }}>{% endmacro %}{% call(x) m() %}{{ x }}{% endcall %}", "<1>"),
        ("{% set x %}a{{ 1 }}{% endset %}{{ x|length }}{% filter upper %}b{% endfilter %}", "2B"),
        ("{{ [3, 1]|sort|join('-') }}{{ ['a', 'b']|map('upper')|list }}{{ [1, 2]|sum }}", "1-3['A', 'B']3"),
        ("{{ messages|selectattr('role', 'in', ['user'])|map(attribute='content')|unique|join }}", "Hi"),
        ("{{ messages|rejectattr('role', 'equalto', 'user')|list }}{{ [0, 1]|select|first }}", "[]1"),
        (
            "{{ [[1], [2]]|sum(start=[]) }}{{ [1, 2, 3]|batch(2)|list }}{{ 2.5|round }}{{ 1.25|round(1, 'floor') }}",
            "[1, 2][[1, 2], [3]]2.01.2",
        ),
        ("{{ '%s-%05.1f' % ('a', 2) }}{{ '%(k)s'|format(k=1) }}{{ '{:>3}{k!r}'.format(1, k='a') }}", "a-002.01  1'a'"),
        (
            "{{ ' a '|trim }}{{ 'xax'.strip('x') }}{{ 'a-b'.split('-') }}{{ 'a b'.rsplit(none, 1) }}",
            "aa['a', 'b']['a', 'b']",
        ),
        ("{{ 'abab'|replace('a', 'c', 1) }}{{ 'ab'.replace('b', 'ccc') }}{{ '-'.join(['a', 'b']) }}", "cbabaccca-b"),
        ("{{ 'a\nb'|indent(2) }}{{ 'a'|center(3) }}{{ 'a'.zfill(3) }}{{ 'x'.ljust(2) }}|", "a\n  b a 00ax |"),
        ("{{ 7 // 2 }}{{ 7 % 4 }}{{ 2 ** 3 }}{{ 'ab' * 2 }}{{ [1] + [2] }}{{ 1 / 2 }}{{ -1 }}", "338abab[1, 2]0.5-1"),
        (
            "{{ 3 is odd }}{{ 4 is divisibleby(2) }}{{ 'A' is upper }}{{ 1 is eq(1) }}{{ 'a' is in('abc') }}",
            "TrueTrueTrueTrueTrue",
        ),
        (
            "{% for k, v in {'b': 1, 'a': 2}|dictsort %}{{ k }}{{ v }}{% endfor %}{{ {'a': 1}.items()|list }}",
            "a2b1[('a', 1)]",
        ),
        ("{{ 'a'|default('b') }}{{ nothing|default('b') }}{{ ''|d('c', true) }}{{ '<'|e }}{{ '<'|safe }}", "abc&lt;<"),
        (
            "{{ '5'|int + 1 }}{{ '1.5'|float }}{{ 3|string }}{{ [1, 2]|last }}{{ 'ab'|reverse }}{{ -1|abs }}",
            "61.532ba1",
        ),
        (
            "{{ 'a' if false }}{{ tools is none }}{{ documents is none }}{{ bos_token }}{{ eos_token }}{{ nothing }}",
            "TrueTrue<s></s>",
        ),
    ],
)
def test_what_templates_use(source: str, text: str) -> None:
    assert render(source) == text


def test_the_prompt_of_a_turn_is_asked_for_by_default() -> None:
    source = "{{ add_generation_prompt }}"
    assert (render(source), render(source, add_generation_prompt=False)) == ("True", "False")


def test_variables_of_the_caller() -> None:
    assert render("{{ enable_thinking }}{{ bos_token }}", enable_thinking=False, bos_token="<b>") == "False<b>"
    with pytest.raises(ArgumentError, match="template variables"):
        render("x", thing=object())


def test_errors_name_the_line_and_the_cause() -> None:
    with pytest.raises(TemplateError, match=r"^chat template, line 3: .*'nothing' is undefined"):
        render("a\nb\n{{ nothing.attribute }}")
    with pytest.raises(ArgumentError, match=r"^messages: the chat template refuses them: no system here$"):
        render("{{ raise_exception('no  system\nhere') }}")
