"""Reading ``config.json``: typed, and with a memory of what was read, so that nothing is overlooked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgeslm.errors import CheckpointError, UnsupportedModelError

# Keys that do not change what a causal decoder computes at inference: provenance, training, generation
# defaults, task heads, tokens, what transformers itself ignores.
# fmt: off
_HARMLESS = frozenset((
    "architectures", "attention_dropout", "_attn_implementation", "attn_implementation",
    "_attn_implementation_autoset", "auto_map", "bad_words_ids", "begin_suppress_tokens", "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward", "classifier_dropout", "_commit_hash", "cross_attention_hidden_size",
    "decoder_start_token_id", "diversity_penalty", "do_sample", "dtype", "early_stopping", "embd_pdrop",
    "encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay_length_penalty", "finetuning_task",
    "_flash_attn_2_enabled", "forced_bos_token_id", "forced_eos_token_id", "gradient_checkpointing",
    "hidden_dropout", "id2label", "initializer_range", "is_decoder", "label2id", "length_penalty",
    "max_length", "min_length", "model_max_length", "model_type", "name_or_path", "_name_or_path",
    "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_labels", "num_return_sequences",
    "output_attentions", "output_hidden_states", "output_scores", "pad_token_id", "prefix", "pretraining_tp",
    "problem_type", "pruned_heads", "remove_invalid_values", "repetition_penalty", "resid_pdrop",
    "return_dict", "return_dict_in_generate", "sep_token_id", "suppress_tokens", "task_specific_params",
    "temperature", "tf_legacy_loss", "tie_encoder_decoder", "tokenizer_class", "top_k", "top_p",
    "torch_dtype", "torchscript", "transformers.js_config", "transformers_version", "typical_p",
    "unk_token_id", "unsloth_fixed", "unsloth_version", "use_bfloat16", "use_cache",
))
# fmt: on
# Keys that are harmless with this value alone.
_NEUTRAL: Mapping[str, object] = {
    "add_cross_attention": False,
    "attention_bias": False,
    "full_attn_mod": 1,
    "interpolate_factor": 1,
    "is_causal": True,
    "is_encoder_decoder": False,
    "is_llama_config": True,
    "lm_head_bias": False,
    "mlp_bias": False,
    "rope_interleaved": False,
    "use_bidirectional_attention": False,
    "use_mrope": False,
}


class Config:
    """One JSON object of a checkpoint; every key must be read by the family or be known to be harmless.

    A key that is null counts as absent, as in transformers; ``in`` tells the two apart.
    """

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, dict):
            raise CheckpointError(f"{where}: expected an object, found {type(values).__name__}")
        self.values: dict[str, Any] = values
        self._where = where
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def _get(self, key: str) -> Any:
        self._read.add(key)
        return self.values.get(key)

    def refuse(self, key: str, expected: str) -> CheckpointError:
        """The error for a key whose value is not what it must be."""
        found = repr(self.values[key])[:80] if key in self.values else "nothing"
        return CheckpointError(f"{self._where}: {key}: expected {expected}, found {found}")

    def unsupported(self, key: str, supported: Iterable[str]) -> UnsupportedModelError:
        """The error for a sound value that edgeslm does not know; lists those that it does."""
        names = ", ".join(sorted(supported))
        return UnsupportedModelError(
            f"{self._where}: {key}: {self.values.get(key)!r:.80} is not supported; known are {names}"
        )

    def refuse_multimodal(self, supported: Iterable[str]) -> UnsupportedModelError:
        """The error for a checkpoint whose decoder is one part (``text_config``) of a larger model."""
        inner = self.values["text_config"]
        part = inner.get("model_type") if isinstance(inner, dict) else None
        return UnsupportedModelError(
            f"{self._where}: model_type: {self.values.get('model_type')!r:.80} is more than a text decoder: convert a "
            f"text-only checkpoint, or save its text decoder ({part!r:.80}) as one: in transformers, put "
            "model.model.language_model and model.lm_head into the causal model of config.text_config, and call "
            f"save_pretrained; known are {', '.join(sorted(supported))}"
        )

    def integer(self, key: str, default: int | None = None, low: int = 1, high: int = 1 << 24) -> int:
        """A whole number in low..high; without a default it must be there."""
        value = self._get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not low <= value <= high:
            raise self.refuse(key, f"a whole number in {low}..{high}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number above zero, far from the ends of float32; without a default it must be there."""
        value = self._get(key)
        if value is None and default is not None:
            return default
        if type(value) not in (int, float) or not 1e-30 < value < 1e30:
            raise self.refuse(key, "a number above zero")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self._get(key)
        if value is None:
            return default
        if type(value) is not bool:
            raise self.refuse(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string; without a default it must be there."""
        value = self._get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise self.refuse(key, "a string")
        return value

    def texts(self, key: str, length: int) -> list[str] | None:
        """A list of ``length`` strings, or None where absent."""
        value = self._get(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != length or not all(isinstance(v, str) for v in value):
            raise self.refuse(key, f"a list of {length} strings")
        return value

    def numbers(self, key: str, length: int) -> list[float]:
        """A list of ``length`` numbers above zero, which must be there."""
        value = self._get(key)
        if (
            not isinstance(value, list)
            or len(value) != length
            or not all(type(v) in (int, float) and 1e-30 < v < 1e30 for v in value)
        ):
            raise self.refuse(key, f"a list of {length} numbers above zero")
        return [float(v) for v in value]

    def integers(self, key: str, low: int, high: int) -> list[int] | None:
        """A list of whole numbers in low..high, or None where absent."""
        value = self._get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(type(v) is int and low <= v <= high for v in value):
            raise self.refuse(key, f"a list of whole numbers in {low}..{high}")
        return value

    def section(self, key: str) -> Config | None:
        """A nested object, or None where absent or empty."""
        value = self._get(key)
        return None if value is None or value == {} else Config(value, f"{self._where}: {key}")

    def check_all_read(self) -> None:
        """Refuse what nobody read: it may change what the model computes.

        Raises:
            UnsupportedModelError: names the keys.
        """
        if self.values.get("quantization_config") is not None:
            raise UnsupportedModelError(
                f"{self._where}: quantization_config: already quantised; convert the original checkpoint"
            )
        unknown = sorted(
            key
            for key, value in self.values.items()
            if key not in self._read
            and key not in _HARMLESS
            and value is not None
            and not (key in _NEUTRAL and value == _NEUTRAL[key])
        )
        if unknown:
            named = ", ".join(f"{key} = {self.values[key]!r:.40}" for key in unknown[:12])
            raise UnsupportedModelError(
                f"{self._where}: edgeslm does not know what these keys change, and will not ignore them: "
                f"{named}. If they change nothing, remove them from config.json"
            )
