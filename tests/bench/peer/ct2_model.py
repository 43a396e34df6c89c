"""A checkpoint as a CTranslate2 model with int8 weights.

python ct2_model.py CHECKPOINT OUT
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt
from safetensors import safe_open

F32Array = npt.NDArray[np.float32]


class Tensors:
    """A checkpoint's tensors by name, as float32."""

    def __init__(self, checkpoint: Path) -> None:
        self._file = safe_open(checkpoint / "model.safetensors", "numpy")
        self._names = set(self._file.keys())

    def joined(self, *names: str) -> F32Array | None:
        """Those of these names, one above the other; None where there are none (biases)."""
        if not self._names.issuperset(names):
            return None
        return np.concatenate([self._file.get_tensor(name).astype(np.float32) for name in names])


def write_model(checkpoint: Path, out: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    spec = ctranslate2.specs.TransformerDecoderModelSpec.from_config(
        config["num_hidden_layers"],
        config["num_attention_heads"],
        activation=ctranslate2.specs.Activation.SWISH,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=False,
        rotary_base=config["rope_theta"],
        num_heads_kv=config["num_key_value_heads"],
        head_dim=config["head_dim"],
    )
    _fill(spec.decoder, Tensors(checkpoint))
    spec.register_vocabulary(["<|begin|>", "<|end|>", *(f"<{i}>" for i in range(2, config["vocab_size"]))])
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = "<|begin|>", "<|end|>", "<|begin|>"
    spec.config.layer_norm_epsilon = config["rms_norm_eps"]
    spec.validate()
    spec.optimize(quantization="int8")
    out.mkdir(parents=True, exist_ok=True)
    spec.save(str(out))


def _fill(decoder: Any, tensors: Tensors) -> None:
    decoder.scale_embeddings = False
    decoder.embeddings.weight = tensors.joined("model.embed_tokens.weight")
    decoder.projection.weight = decoder.embeddings.weight  # tied
    decoder.layer_norm.gamma = tensors.joined("model.norm.weight")
    for i, layer in enumerate(decoder.layer):
        block = f"model.layers.{i}."
        _fill_linear(layer.self_attention.linear[0], tensors, *(f"{block}self_attn.{n}_proj" for n in "qkv"))
        _fill_linear(layer.self_attention.linear[1], tensors, f"{block}self_attn.o_proj")
        _fill_linear(layer.ffn.linear_0, tensors, f"{block}mlp.gate_proj")
        _fill_linear(layer.ffn.linear_0_noact, tensors, f"{block}mlp.up_proj")
        _fill_linear(layer.ffn.linear_1, tensors, f"{block}mlp.down_proj")
        layer.self_attention.layer_norm.gamma = tensors.joined(f"{block}input_layernorm.weight")
        layer.ffn.layer_norm.gamma = tensors.joined(f"{block}post_attention_layernorm.weight")


def _fill_linear(linear: Any, tensors: Tensors, *names: str) -> None:
    linear.weight = tensors.joined(*(f"{name}.weight" for name in names))
    bias = tensors.joined(*(f"{name}.bias" for name in names))
    if bias is not None:
        linear.bias = bias


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    write_model(args.checkpoint, args.out)


if __name__ == "__main__":
    main()
