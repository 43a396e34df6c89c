from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from edgeslm.errors import ArgumentError, ModelFormatError
from edgeslm.text_stream import WindowDecoder
from edgeslm.tokenizer import Tokenizer

MakeTokenizer = Callable[[str], Tokenizer]
TEXT = "the naïve fox\n eats 3 €, 漢字 and 👩‍🚀!  It's  spaced "


def streamed(tokenizer: Tokenizer, prompt: list[int], completion: list[int]) -> list[str]:
    decoder = tokenizer.stream(prompt)
    return [*(decoder.push(token) for token in completion), decoder.finish()]


def test_round_trip(make_tokenizer: MakeTokenizer) -> None:
    for kind in ("byte_level", "byte_fallback"):
        tokenizer = make_tokenizer(kind)
        assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_begin_of_text_is_added_as_the_tokenizer_says(make_tokenizer: MakeTokenizer) -> None:
    assert make_tokenizer("byte_fallback").encode("a")[0] == 0
    assert make_tokenizer("byte_level").encode("a")[0] != 0
    assert make_tokenizer("byte_fallback").encode("") == [0]


def test_joined_pieces_are_the_full_decode(tokenizer: Tokenizer) -> None:
    rng = random.Random(0)
    for trial in range(600):
        pool = range(tokenizer.vocab_size) if trial % 2 else range(2, 262)  # the second: nearly all single bytes
        completion = [rng.choice(pool) for _ in range(rng.randrange(60))]
        assert "".join(streamed(tokenizer, [], completion)) == tokenizer.decode(completion)


def test_a_completion_is_what_it_adds_to_the_prompt(tokenizer: Tokenizer) -> None:
    rng = random.Random(1)
    words = [i for i in range(tokenizer.vocab_size) if tokenizer.decode([i, i]).isascii()]  # special tokens among them
    for _ in range(600):
        prompt = [rng.choice(words) for _ in range(rng.randrange(30))]
        completion = [rng.choice(words) for _ in range(rng.randrange(60))]
        full, before = tokenizer.decode(prompt + completion), tokenizer.decode(prompt)
        assert "".join(streamed(tokenizer, prompt, completion)) == full[len(before) :]


def test_no_piece_holds_part_of_a_character(make_tokenizer: MakeTokenizer) -> None:
    for kind in ("byte_level", "byte_fallback"):
        tokenizer = make_tokenizer(kind)
        pieces = streamed(tokenizer, tokenizer.encode("a"), tokenizer.encode(TEXT)[tokenizer.encode("")[:1] == [0] :])
        assert "\ufffd" not in "".join(pieces)
        assert "".join(pieces).endswith(TEXT)


@pytest.mark.parametrize("kind", ["byte_fallback", "metaspace"])
def test_the_cost_of_a_token_is_bounded(make_tokenizer: MakeTokenizer, kind: str) -> None:
    tokenizer, decoded = make_tokenizer(kind), 0

    def counting(ids: list[int]) -> str:
        nonlocal decoded
        decoded += len(ids)
        return tokenizer.decode(ids)

    rng = random.Random(2)
    whole = tokenizer.stream([])
    assert isinstance(whole, WindowDecoder)
    decoder = WindowDecoder(counting, whole._settled, whole._special, [])  # type: ignore[arg-type]
    for _ in range(5000):
        decoder.push(rng.randrange(tokenizer.vocab_size))
    assert decoded < 5000 * 2 * WindowDecoder.LIMIT


def test_a_prompt_may_end_within_a_character(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("byte_level")
    ids = tokenizer.encode("b€")
    assert "".join(streamed(tokenizer, ids[:2], ids[2:])) == "€"


def test_an_added_token_ends_an_unfinished_character(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("byte_level")
    added = tokenizer.token_id("<漢 字>")
    assert added is not None
    assert streamed(tokenizer, [], [tokenizer.encode("€")[0], added]) == ["", "\ufffd<漢 字>", ""]


@pytest.mark.parametrize("text", ["\ud800", "a\udcffb", b"bytes", 3, None])
def test_what_is_not_text_is_refused(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(ArgumentError, match=r"^text: "):
        tokenizer.encode(text)


@pytest.mark.parametrize("ids", [[-1], [2**64], ["a"], [None], 3])
def test_what_is_no_id_is_refused(tokenizer: Tokenizer, ids: list[int]) -> None:
    with pytest.raises(ArgumentError, match=r"^ids: "):
        tokenizer.decode(ids)


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"null", b"[]", b"{}", b"\xff\xfe", b'{"version": "1.0"}', b'{"model": {"type": "BPE"}}'),
        b'{"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}',
        b'{"a":' * 100_000,
    ],
)
def test_malformed_files_are_refused(raw: bytes) -> None:
    with pytest.raises(ModelFormatError, match=r"^tokenizer\.json: "):
        Tokenizer(raw)


def test_a_truncating_or_padding_file_changes_no_prompt(make_tokenizer: MakeTokenizer) -> None:
    saved = json.loads(make_tokenizer("byte_level")._backend.to_str())
    saved["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    saved["padding"] = {
        "strategy": {"Fixed": 50},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<s>",
    }
    assert len(Tokenizer(json.dumps(saved).encode()).encode("bbbbbb")) == 6


def test_another_models_tokenizer_is_refused(tokenizer: Tokenizer) -> None:
    raw = tokenizer._backend.to_str().encode()
    with pytest.raises(ModelFormatError, match="another model's tokenizer"):
        Tokenizer(raw, vocab_size=100)
    Tokenizer(raw, vocab_size=tokenizer.vocab_size + 100)  # models pad their vocabulary


def test_an_added_token_that_the_model_has_not(make_tokenizer: MakeTokenizer) -> None:
    whole = make_tokenizer("byte_level")
    tokenizer = Tokenizer(whole._backend.to_str().encode(), vocab_size=whole.vocab_size - 1)
    assert tokenizer.encode("müde <müde>")
    with pytest.raises(ArgumentError, match="<漢 字>"):
        tokenizer.encode("<漢 字>")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (b"{}", None),
        (b'{"eos_token": null}', None),
        (b'{"eos_token": "</s>"}', 1),
        (b'{"eos_token": {"content": "</s>", "special": true}}', 1),
        (b'{"eos_token": "absent"}', None),
    ],
)
def test_end_of_text(make_tokenizer: MakeTokenizer, config: bytes, expected: int | None) -> None:
    raw = make_tokenizer("byte_level")._backend.to_str().encode()
    assert Tokenizer(raw, config).eos_id == expected


@pytest.mark.parametrize("config", [b"", b"[]", b"3", b'{"eos_token": 3}', b'{"eos_token": {"content": []}}', b"\xff"])
def test_malformed_configs_are_refused(make_tokenizer: MakeTokenizer, config: bytes) -> None:
    raw = make_tokenizer("byte_level")._backend.to_str().encode()
    with pytest.raises(ModelFormatError, match=r"^tokenizer_config\.json: "):
        Tokenizer(raw, config)
