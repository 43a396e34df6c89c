"""What a tokenizer.json may ask for, checked before anything is built from it.

Its parts are small programs: normalizers that replace a character by many, regular expressions that backtrack without
end, templates that repeat tokens. The file is cut into its members without building them, because a vocabulary of a
quarter of a million tokens takes long enough to read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgeslm.errors import ModelFormatError
from edgeslm.json_outline import Outline, Part
from edgeslm.tokenizer_pattern import check_pattern

MAX_BYTES = 64 << 20  # the largest in the field has about 40 MB
MAX_DEPTH = 32
MAX_ENTRIES = {"vocab": 1 << 19, "merges": 3 << 18}  # the largest in the field have 2/4 and 3/4 of it
MAX_ADDED, MAX_ADDED_BYTES = 1 << 17, 24 << 20
MAX_PART_BYTES = 2 << 20  # of a normalizer and the like; a compiled table of characters has about 0.4 MB
MAX_GROWTH = 64  # times that a normalizer or decoder may lengthen a text
MAX_PIECES = 64  # of a template, and ids of a special token in it
MAX_WORD = 1000  # characters of a word that WordPiece looks at, in quadratic time

_PROGRAMS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


def check_tokenizer_json(raw: bytes) -> None:
    """Pass, or say what is wrong.

    Raises:
        ModelFormatError: not a JSON object, too large or deep, or a part asks for unbounded work or text.
    """
    if len(raw) > MAX_BYTES:
        raise ModelFormatError(f"{len(raw)} bytes; expected at most {MAX_BYTES}")
    try:
        outline = Outline(raw, MAX_DEPTH)
        members = outline.members(outline.whole)
        for name in _PROGRAMS:
            if name in members:
                _check_program(name, _small(outline, members[name], name))
        if added := members.get("added_tokens"):
            _check_added(outline, added)
        if model := members.get("model"):
            _check_model(outline, model)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"not JSON as expected ({error})") from None


def _small(outline: Outline, part: Part, name: str) -> Any:
    if part.stop - part.start > MAX_PART_BYTES:
        raise ModelFormatError(f"{name}: {part.stop - part.start} bytes; expected at most {MAX_PART_BYTES}")
    return outline.load(part)


def _check_program(name: str, program: Any) -> None:
    growth = 1.0
    for step in _steps(program):
        for pattern in _patterns(step):
            check_pattern(pattern, f"{name}: {step.get('type')}")
        growth *= _growth(step)
        _check_template(step)
    if growth > MAX_GROWTH and name in ("normalizer", "decoder"):
        raise ModelFormatError(f"{name}: makes a text {growth:.3g} times as long; expected at most {MAX_GROWTH} times")


def _steps(program: Any) -> Iterator[dict[str, Any]]:
    """Every object inside that has a type."""
    if isinstance(program, dict):
        if "type" in program:
            yield program
        for value in program.values():
            yield from _steps(value)
    elif isinstance(program, list):
        for value in program:
            yield from _steps(value)


def _patterns(step: Mapping[str, Any]) -> Iterator[str]:
    pattern = step.get("pattern")
    if isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
        yield pattern["Regex"]


def _growth(step: Mapping[str, Any]) -> float:
    """How many times as long a step makes a text, at worst."""
    added = [step.get(key) for key in ("content", "prepend", "append", "prefix", "suffix")]
    longest = max([len(text) for text in added if isinstance(text, str)], default=0)
    pattern = step.get("pattern")
    text = pattern.get("String") if isinstance(pattern, dict) else None
    return max(1.0, longest / max(1, len(text) if isinstance(text, str) else 1))


def _check_template(step: Mapping[str, Any]) -> None:
    for key in ("single", "pair"):
        pieces = step.get(key)
        if isinstance(pieces, list) and len(pieces) > MAX_PIECES:
            raise ModelFormatError(f"post_processor: {len(pieces)} pieces; expected at most {MAX_PIECES}")
    tokens = step.get("special_tokens")
    for token in tokens.values() if isinstance(tokens, dict) else ():
        ids = token.get("ids") if isinstance(token, dict) else None
        if isinstance(ids, list) and len(ids) > MAX_PIECES:
            raise ModelFormatError(f"post_processor: a token of {len(ids)} ids; expected at most {MAX_PIECES}")


def _check_added(outline: Outline, added: Part) -> None:
    _check_count("added_tokens", outline.count(added), MAX_ADDED)
    if added.stop - added.start > MAX_ADDED_BYTES:
        raise ModelFormatError(f"added_tokens: {added.stop - added.start} bytes; expected at most {MAX_ADDED_BYTES}")


def _check_model(outline: Outline, model: Part) -> None:
    members = outline.members(model)
    for name, limit in MAX_ENTRIES.items():
        if name in members:
            _check_count(name, outline.count(members[name]), limit)
    if "max_input_chars_per_word" in members:
        word = _small(outline, members["max_input_chars_per_word"], "max_input_chars_per_word")
        if not isinstance(word, int) or word > MAX_WORD:
            raise ModelFormatError(f"max_input_chars_per_word: expected at most {MAX_WORD}, found {str(word)[:20]}")


def _check_count(name: str, count: int, limit: int) -> None:
    if count > limit:
        raise ModelFormatError(f"{name}: {count} entries; expected at most {limit}")
