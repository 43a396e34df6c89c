"""Tiny models with a chat template, on each engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import edgeslm
from edgeslm import Model
from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options

TEMPLATE = """{% if messages[0].role == 'system' %}{{ bos_token }}[{{ messages[0].content }}]
{% set messages = messages[1:] %}{% else %}{{ bos_token }}{% endif %}{% for message in messages %}
{% if message.role == 'assistant' and loop.index0 is even %}{{ raise_exception('the user begins') }}{% endif %}
{{ message.role }}: {{ message.content | trim }}{{ eos_token }}
{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"""

WINDOWS = {"mistral": {"sliding_window": 8}}  # on every layer; gemma2 has one on every other, llama none

MakeChatBundle = Callable[..., Path]


@pytest.fixture(scope="session")
def make_chat_bundle(make_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> MakeChatBundle:
    """A function that converts a tiny checkpoint whose tokenizer has a chat template, once for each family."""
    made: dict[str, Path] = {}

    def make(family: str = "llama", template: str | None = TEMPLATE) -> Path:
        key = f"{family} {template}"
        if key not in made:
            folder = tmp_path_factory.mktemp("chat")
            checkpoint = make_checkpoint(
                folder / "checkpoint", family=family, max_position_embeddings=512, **WINDOWS.get(family, {})
            )
            path = checkpoint / "tokenizer_config.json"
            config = json.loads(path.read_text())
            path.write_text(json.dumps({**config, "chat_template": template}))
            convert(checkpoint, folder / "bundle", options=Options("none"), check=False)
            made[key] = folder / "bundle"
        return made[key]

    return make


@pytest.fixture(params=["llama", "mistral", "gemma2"])
def family(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(params=["native", "onnxruntime", "reference"])
def model(request: pytest.FixtureRequest, family: str, make_chat_bundle: MakeChatBundle) -> Iterator[Model]:
    with edgeslm.load(make_chat_bundle(family), engine=request.param, threads=2) as loaded:
        yield loaded


@pytest.fixture
def native(make_chat_bundle: MakeChatBundle) -> Iterator[Model]:
    with edgeslm.load(make_chat_bundle(), engine="native", threads=1) as loaded:
        yield loaded
