"""``genai_config.json``, with which onnxruntime-genai opens the bundle.

Format: onnxruntime-genai, https://onnxruntime.ai/docs/genai/reference/config.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeslm.converters.onnx_builder import padded_head_dim
from edgeslm.errors import UnsupportedModelError
from edgeslm.spec import DecoderSpec

SEARCH_KEYS = ("do_sample", "repetition_penalty", "temperature", "top_k", "top_p")


def genai_config(spec: DecoderSpec, generation: Mapping[str, Any], model_file: str) -> dict[str, Any]:
    """The configuration as JSON values; ``generation`` holds what ``generation_config.json`` says.

    Raises:
        UnsupportedModelError: the layers' caches differ in shape, which the format cannot say.
    """
    caches = {(b.mixer.n_heads, b.mixer.n_kv_heads, padded_head_dim(b.mixer)) for b in spec.blocks}
    if len(caches) != 1:
        raise UnsupportedModelError(
            "no genai_config.json: onnxruntime-genai cannot open layers whose head counts or sizes differ"
        )
    n_heads, n_kv_heads, head_dim = caches.pop()
    tokens = {k: generation[k] for k in ("bos_token_id", "pad_token_id") if generation.get(k) is not None}
    eos = generation.get("eos_token_id", [])
    stops = [i for i in (eos if isinstance(eos, list) else [eos]) if i is not None and 0 <= i < spec.vocab_size]
    search = {k: generation[k] for k in SEARCH_KEYS if generation.get(k) is not None}
    return {
        "model": {
            "type": "decoder",  # any decoder with these inputs and outputs; a family's name would switch on its habits
            **tokens,
            "eos_token_id": stops,  # without any, onnxruntime-genai stops at id 0
            "vocab_size": spec.vocab_size,
            "context_length": spec.context_length,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": model_file,
                "head_size": head_dim,
                "hidden_size": spec.hidden,
                "num_attention_heads": n_heads,
                "num_hidden_layers": len(spec.layout),
                "num_key_value_heads": n_kv_heads,
                **_sliding_window(spec),
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {
            "do_sample": False,
            "min_length": 0,
            "num_beams": 1,
            **search,
            "max_length": spec.context_length,
            "past_present_share_buffer": True,
        },
    }


def _sliding_window(spec: DecoderSpec) -> dict[str, Any]:
    """Which layers have bounded caches, and the rows these need; nothing for a decoder without windows."""
    layers = [i for i, block in enumerate(spec.layers) if block.mixer.window]
    if not layers:
        return {}
    return {
        "sliding_window": {
            "window_size": max(spec.layers[i].mixer.window for i in layers),
            "slide_key_value_cache": False,  # the operator does it
            "slide_inputs": False,
            "layers": layers,
            "cache_slack": 0,  # rows beyond the window: onnxruntime-genai's default
        }
    }
