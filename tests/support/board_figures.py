"""The table of docs/raspberrypi.md, as ``edgeslm plan`` predicts it. Run as a program it prints it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from edgeslm.converters.checkpoint import read_spec
from edgeslm.converters.policy import Options, tensor_formats
from edgeslm.devices import find_device
from edgeslm.plan import Plan, predict
from edgeslm.spec import DecoderSpec

CONTEXT, PROMPT = 2048, 256
BOARDS = ("rpi5-8gb", "rpi4-4gb", "pi-zero-2w")
HEADER = """| model | | Raspberry Pi 5, 8 GB | Raspberry Pi 4, 4 GB | Pi Zero 2 W |
|---|---|---|---|---|
| | | prompt / text, tokens/s; first token | | |
"""


def config(family: str, vocab: int, hidden: int, layers: int, heads: int, kv: int, inner: int) -> dict[str, Any]:
    """What a config.json of the family tells of these shapes; embeddings are tied in all of them."""
    return {
        "model_type": family,
        "vocab_size": vocab,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": inner,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
    }


MODELS = {
    "SmolLM2-135M": config("llama", 49152, 576, 30, 9, 3, 1536),
    "SmolLM2-360M": config("llama", 49152, 960, 32, 15, 5, 2560),
    "Qwen2.5-0.5B": config("qwen2", 151936, 896, 24, 14, 2, 4864),
    "Llama-3.2-1B": config("llama", 128256, 2048, 16, 32, 8, 8192),
    "Llama-3.2-3B": config("llama", 128256, 3072, 28, 24, 8, 8192),
}


def spec_of(config: dict[str, Any]) -> DecoderSpec:
    """Read as ``edgeslm plan`` reads a checkpoint of which there is only the config."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        return read_spec(folder, CONTEXT)


def cell(plan: Plan) -> str:
    if not plan.fits:
        return "does not fit"
    text = f"{plan.decode_tok_s:.0f}" if plan.decode_tok_s >= 9.95 else f"{plan.decode_tok_s:.1f}"
    first = f"{plan.first_token_s:.2g}" if plan.first_token_s < 99 else f"{plan.first_token_s:.0f}"
    return f"{plan.prefill_tok_s:,.0f} / {text}; {first} s"


def table() -> str:
    """Markdown."""
    lines = [HEADER]
    for name, shapes in MODELS.items():
        spec = spec_of(shapes)
        for level in ("int8", "int4"):
            formats = tensor_formats(spec, Options(level))
            cells = [cell(predict(spec, formats, find_device(board), PROMPT)) for board in BOARDS]
            lines.append(f"| {name if level == 'int8' else ''} | {level} | {' | '.join(cells)} |\n")
    return "".join(lines).replace("|  |", "| |")


if __name__ == "__main__":
    print(table(), end="")
