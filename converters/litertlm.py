"""The ``.litertlm`` file that LiteRT-LM opens: metadata, tokenizer and the ``.tflite`` model in one.

Format and metadata: litert-lm-builder (litertlm_builder.py, runtime/proto/llm_metadata.proto).
"""

from __future__ import annotations

import importlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeslm.converters.source_files import read_json
from edgeslm.errors import MissingExtraError
from edgeslm.generation.options import GenerationOptions
from edgeslm.tokenizer import TOKENIZER_CONFIG

# LiteRT-LM renders chat templates with each message's content as a list of parts, and puts the start token before the
# first turn itself; a template as Hugging Face has it expects text, and writes the start token.
PARTS_TO_TEXT = """\
{%- set text = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- if message.content is string or not message.content is iterable -%}
{%- set text.messages = text.messages + [message] -%}
{%- else -%}
{%- set parts = namespace(text='') -%}
{%- for part in message.content -%}{%- set parts.text = parts.text + part.text -%}{%- endfor -%}
{%- set text.messages = text.messages + [dict(message, content=parts.text)] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = text.messages -%}
"""
MOST_LIKELY = 64  # a runtime with no "all tokens" samples among so many
PLAIN = "{% for message in messages %}{{ message.content }}{% endfor %}"  # a model that completes text


def write_litertlm(path: Path, tflite: Path, tokenizer: Path, metadata: bytes) -> None:
    """A new file at ``path`` from a model, a ``tokenizer.json`` and :func:`llm_metadata`.

    Raises:
        MissingExtraError: the litert-lm-builder package is not installed.
    """
    builder = import_builder()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        stored = Path(folder, "metadata.pb")
        stored.write_bytes(metadata)
        file = builder.LitertLmFileBuilder()
        file.add_system_metadata(builder.Metadata("Authors", "edgeslm", builder.DType.STRING))
        file.add_llm_metadata(str(stored))
        file.add_hf_tokenizer(str(tokenizer))
        file.add_tflite_model(str(tflite), builder.TfLiteModelType.PREFILL_DECODE)
        with path.open("xb") as stream:
            file.build(stream)


def llm_metadata(context_length: int, options: GenerationOptions, start: StartToken | None, template: str) -> bytes:
    """What the runtime has to know of a model.

    Raises:
        MissingExtraError: the litert-lm-builder package is not installed.
    """
    protos = _import("litert_lm_builder.runtime.proto.llm_metadata_pb2")
    data = protos.LlmMetadata(max_num_tokens=context_length)
    data.llm_model_type.generic_model.SetInParent()
    if start is not None:
        data.start_token.token_ids.ids.append(start.id)
    for stop in sorted(options.eos_ids):
        data.stop_tokens.add().token_ids.ids.append(stop)
    sampler, sampled = data.sampler_params, options.temperature > 0
    sampler.type = sampler.TOP_P  # greedy is "the best of one": the runtime's command line knows no other type
    sampler.k = options.top_k or MOST_LIKELY if sampled else 1
    sampler.p, sampler.temperature = (options.top_p, options.temperature) if sampled else (1.0, 1.0)
    data.jinja_prompt_template = runtime_template(template or PLAIN, start.text if start else "")
    return bytes(data.SerializeToString())


@dataclass(frozen=True)
class StartToken:
    """The token before every text."""

    id: int
    text: str


def start_token(tokenizer: Path) -> StartToken | None:
    """The one token that a ``tokenizer.json`` puts before every text, if it does."""
    import tokenizers

    backend = tokenizers.Tokenizer.from_file(str(tokenizer))
    bare, whole = (backend.encode("a", add_special_tokens=special).ids for special in (False, True))
    if len(whole) <= len(bare) or whole[1 : 1 + len(bare)] != bare:
        return None
    return StartToken(whole[0], str(backend.id_to_token(whole[0])))


def chat_template(folder: Path) -> str:
    """The chat template of a checkpoint: ``chat_template.jinja``, or in its ``tokenizer_config.json``; "" for none."""
    path, config = folder / "chat_template.jinja", folder / TOKENIZER_CONFIG
    if path.is_file():
        return path.read_text("utf-8")
    values = read_json(config) if config.is_file() else {}
    found = values.get("chat_template") if isinstance(values, dict) else None
    if isinstance(found, list):  # several, by name
        found = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}.get("default")
    return found if isinstance(found, str) else ""


def runtime_template(template: str, start: str) -> str:
    """A Hugging Face chat template as LiteRT-LM renders it: from lists of parts, without the start token ``start``."""
    if start:
        template = (
            f"{{%- set start = {json.dumps(start)} -%}}{{%- set whole %}}"
            + template
            + (f"{{% endset -%}}{{{{ whole[{len(start)}:] if whole[:{len(start)}] == start else whole }}}}")
        )
    return PARTS_TO_TEXT + template


def import_builder() -> Any:
    """The module that writes the container.

    Raises:
        MissingExtraError: the litert-lm-builder package is not installed.
    """
    return _import("litert_lm_builder.litertlm_builder")


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise MissingExtraError("writing a .litertlm bundle", "litert-lm-builder", "litert") from None
