"""Templates from strangers: each attack ends in an error of ours or in harmless text, within memory and time.

Children are forked, so that what an attack takes is measured for it alone.
"""

from __future__ import annotations

import functools
import os
import resource
import sys
from pathlib import Path

import pytest
from children import RAN, SANITIZED, in_child
from template_attacks import ATTACKS, ATTRIBUTE_WALKS

from edgeslm.errors import ArgumentError, EdgeslmError, ModelFormatError, TemplateError
from edgeslm.templates import environment
from edgeslm.templates.chat_template import BASE_UNITS, ChatTemplate

MEGABYTES = 100
MESSAGES = [{"role": "user", "content": "Hello"}]
SECRETS = ("class '", "subclasses", "root:", "module", "function", "environment")  # what an escape would print


def attack(source: str) -> str:
    """What became of it: the text, or the kind of the error."""
    try:
        return "text " + ChatTemplate(source).render(MESSAGES)
    except EdgeslmError as error:
        assert isinstance(error, ModelFormatError | ArgumentError) and len(str(error)) < 600
        return type(error).__name__


def use(source: str) -> None:
    """Attack, and check what came out and what it took."""
    before = _peak_megabytes()
    found = attack(source)
    assert len(found) < BASE_UNITS and not any(word in found for word in SECRETS), found[:500]
    taken = _peak_megabytes() - before
    assert taken < MEGABYTES or SANITIZED, f"{taken} MB"


def _peak_megabytes() -> float:
    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
@pytest.mark.parametrize("batch", range(8))
def test_an_attack_ends_in_an_error_or_harmless_text(batch: int, tmp_path: Path) -> None:
    assert environment  # imported before forking, not in each child
    assert len(ATTACKS) > 150
    for name in list(ATTACKS)[batch::8]:
        log = tmp_path / "log"
        status = in_child(functools.partial(use, ATTACKS[name]), log)
        detail = log.read_text() if log.exists() else f"exit status {status} (negative: a signal)"
        assert status == RAN, f"{name}: {detail}"


def test_the_limits_bite() -> None:
    """A test of the test: most attacks are stopped, and those that print give nothing away."""
    outcomes = [attack(ATTACKS[name]) for name in ("times", "output", "percent width", "macro recursion", "lists")]
    assert outcomes == ["TemplateError"] * 5
    assert attack(ATTRIBUTE_WALKS["class"]) == "text "


def test_a_long_conversation_may_cost_more_than_a_short_one() -> None:
    source = "{% for m in messages %}{{ m.role ~ ': ' ~ (m.content|trim) }}{% if loop.last %}!{% endif %}{% endfor %}"
    messages = [{"role": "user", "content": "x" * 10_000} for _ in range(1000)]
    assert len(ChatTemplate(source).render(messages)) > 10_000_000


def test_what_a_template_raises_is_short() -> None:
    with pytest.raises(ArgumentError, match="refuses them: aaa") as caught:
        ChatTemplate("{{ raise_exception('a' * 100000) }}").render(MESSAGES)
    assert len(str(caught.value)) < 400


def test_a_template_is_the_same_after_an_attack() -> None:
    template = ChatTemplate("{{ messages[0].content * 1000000 }}")
    with pytest.raises(TemplateError):
        template.render([{"role": "user", "content": "a" * 1000}] * 2)
    assert template.render([{"role": "user", "content": "a"}]) == "a" * 1_000_000
