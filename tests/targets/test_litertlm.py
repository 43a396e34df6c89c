"""What a ``.litertlm`` file tells LiteRT-LM: chat templates, start and stop tokens, the sampler."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litertlm_greedy import LitertLm

from edgeslm.bundle import Bundle
from edgeslm.converters.checkpoint import open_checkpoint
from edgeslm.converters.convert import convert
from edgeslm.converters.litertlm import StartToken, chat_template, llm_metadata, start_token, write_litertlm
from edgeslm.converters.policy import Options
from edgeslm.converters.to_litert import write_tflite
from edgeslm.errors import ArgumentError, MissingExtraError
from edgeslm.generation.options import GenerationOptions
from edgeslm.templates.chat_template import ChatTemplate

TEMPLATES = {
    "turns between marks": (
        "{% for message in messages %}{{ '<|start|>' + message['role'] + '\\n' + message['content'] + '<|end|>\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}"
    ),
    "start token by name": (
        "{{ bos_token }}\n"
        "{%- if messages[0]['role'] == 'system' %}\n"
        "    {%- set system = messages[0]['content']|trim %}\n"
        "    {%- set messages = messages[1:] %}\n"
        "{%- else %}\n"
        "    {%- set system = '' %}\n"
        "{%- endif %}\n"
        "{{- '[system]\\n' + system }}\n"
        "{%- for message in messages %}\n"
        "    {{- '[' + message['role'] + ']\\n' + message['content'] | trim }}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n"
        "    {{- '[assistant]\\n' }}\n"
        "{%- endif %}\n"
    ),
    "start token as text": (
        "{% for m in messages %}{{ '<s>' + m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<s>assistant:' }}{% endif %}"
    ),
    "roles renamed and checked": (
        "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}"
        "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
        "{% endif %}{{ '<start>' + role + '\n' + message['content'] | trim + '<end>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{'<start>model\n'}}{% endif %}"
    ),
}
QUESTION = {"role": "user", "content": " Who is the little cat? "}


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, checkpoint = tmp_path_factory.mktemp("litertlm") / "model.tflite", open_checkpoint(tiny_checkpoint)
    write_tflite(path, checkpoint.spec, Options("none"), checkpoint.weights, lambda done, total: None)
    return path


def bundled(path: Path, model: Path, checkpoint: Path, template: str) -> Path:
    start = start_token(checkpoint / "tokenizer.json")
    metadata = llm_metadata(128, GenerationOptions(eos_ids=frozenset({2})), start, template)
    write_litertlm(path, model, checkpoint / "tokenizer.json", metadata)
    return path


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_render_as_transformers_renders_them(
    tmp_path: Path, model: Path, tiny_checkpoint: Path, name: str
) -> None:
    runtime = LitertLm(bundled(tmp_path / "model.litertlm", model, tiny_checkpoint, TEMPLATES[name]), tmp_path)
    template = ChatTemplate(TEMPLATES[name], {"bos_token": "<s>", "eos_token": "</s>"})
    expected = template.render([QUESTION]).removeprefix("<s>")  # which the runtime adds
    parts = {**QUESTION, "content": [{"type": "text", "text": QUESTION["content"]}]}
    with runtime.engine.create_conversation() as conversation:
        assert conversation.render_message_to_string(QUESTION) == expected
        assert conversation.render_message_to_string(parts) == expected


def test_a_conversation_starts_with_one_start_token(tmp_path: Path, model: Path, tiny_checkpoint: Path) -> None:
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    runtime = LitertLm(bundled(tmp_path / "model.litertlm", model, tiny_checkpoint, template), tmp_path)
    with runtime.engine.create_conversation(sampler_config=runtime.sampler()) as conversation:
        said = conversation.send_message({"role": "user", "content": "The little cat"})
    text = runtime.texts(["The little cat"], 24)[0]
    assert len(text) > 20 and said.contents[0].text.startswith(text)


def test_no_template_completes_text(tmp_path: Path, model: Path, tiny_checkpoint: Path) -> None:
    runtime = LitertLm(bundled(tmp_path / "model.litertlm", model, tiny_checkpoint, ""), tmp_path)
    with runtime.engine.create_conversation() as conversation:
        assert conversation.render_message_to_string(QUESTION) == QUESTION["content"]


def parsed(options: GenerationOptions, start: StartToken | None = None) -> Any:
    from litert_lm_builder.runtime.proto import llm_metadata_pb2

    return llm_metadata_pb2.LlmMetadata.FromString(llm_metadata(99, options, start, ""))


def test_metadata() -> None:
    data = parsed(GenerationOptions(eos_ids=frozenset({7, 3})), StartToken(1, "<s>"))
    assert data.max_num_tokens == 99 and list(data.start_token.token_ids.ids) == [1]
    assert [list(stop.token_ids.ids) for stop in data.stop_tokens] == [[3], [7]]
    assert (data.sampler_params.type, data.sampler_params.k) == (data.sampler_params.TOP_P, 1)
    assert not parsed(GenerationOptions()).HasField("start_token")


@pytest.mark.parametrize(("top_k", "expected"), [(0, 64), (5, 5)])
def test_a_model_that_samples_says_how(top_k: int, expected: int) -> None:
    sampler = parsed(GenerationOptions(temperature=0.5, top_k=top_k, top_p=0.75)).sampler_params
    assert (sampler.k, sampler.p, sampler.temperature) == (expected, 0.75, 0.5)


def test_start_token_is_what_the_tokenizer_adds(
    make_checkpoint: Callable[..., Path], tmp_path: Path, tiny_checkpoint: Path
) -> None:
    assert start_token(tiny_checkpoint / "tokenizer.json") == StartToken(1, "<s>")
    values = json.loads((tiny_checkpoint / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**values, "post_processor": None}))
    assert start_token(tmp_path / "tokenizer.json") is None


def test_where_a_template_is_found(tmp_path: Path) -> None:
    assert chat_template(tmp_path) == ""
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert chat_template(tmp_path) == "d"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert chat_template(tmp_path) == "file"


def test_without_a_tokenizer_there_is_a_note_instead(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", tokenizer=False)
    convert(checkpoint, tmp_path / "bundle", to=("litert",), check=False)
    target = Bundle.open(tmp_path / "bundle").target("litert")
    assert set(target.files) == {"model"} and "tokenizer.json" in target.settings["notes"][0]


def test_a_second_conversion_gets_new_names(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for level, stem in (("int8", "model"), ("int4", "model-2")):
        convert(tiny_checkpoint, tmp_path / "bundle", to=("litert",), options=Options(level), check=False)
        bundle = Bundle.open(tmp_path / "bundle", check="full")
        assert bundle.target("litert").files == {"model": f"{stem}.tflite", "litertlm": f"{stem}.litertlm"}
    assert not (tmp_path / "bundle" / "model.tflite").exists()


@pytest.mark.parametrize("module", ["ai_edge_litert.schema_py_generated", "litert_lm_builder.litertlm_builder"])
def test_a_missing_package_is_named(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("edgeslm.converters.convert.reference_answer.compute_answer", None)  # it is not reached
    with pytest.raises(MissingExtraError, match=r"edgeslm\[litert\]"):
        convert(tiny_checkpoint, tmp_path / "bundle", to=("litert",), check=False)
    assert not (tmp_path / "bundle").exists()


def test_a_level_that_the_target_lacks_is_refused_before_any_work(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="fp16"):
        convert(tiny_checkpoint, tmp_path / "bundle", to=("onnx", "litert"), options=Options("fp16"))
    assert not (tmp_path / "bundle").exists()
