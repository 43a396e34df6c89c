"""Make sampling.npz: what transformers' logits processors make of random logits (needs torch and transformers).

    python tests/generation/make_sampling.py

logits (12, 40) float32; prompts (12, 5) and completions (12, 7) of ids; settings: JSON, a list of options as Sampler
takes them; probabilities (settings, 12, 40) float32, 0 where a token is not kept. The order of the processors is what
transformers makes it; presence and frequency penalties, which it has not, stand where it puts a caller's own.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor, LogitsProcessorList

PROMPT, COMPLETION = 5, 7
BIASES: dict[str, float] = {"3": 2.5, "17": -4.0, "39": 1.25}
SETTINGS: list[dict[str, Any]] = [
    *({}, {"temperature": 0.5}, {"temperature": 3.0, "top_k": 7}, {"top_p": 0.8}, {"top_p": 0.0}, {"top_k": 1}),
    *({"temperature": 1.5, "top_k": 12, "top_p": 0.7}, {"top_k": 1000}, {"min_p": 0.1}, {"min_p": 1.0}),
    *({"temperature": 2.0, "min_p": 0.3}, {"top_p": 0.9, "min_p": 0.02}, {"top_k": 20, "min_p": 0.2}),
    {"temperature": 0.8, "top_k": 15, "top_p": 0.95, "min_p": 0.05},
    *({"repetition_penalty": 1.3}, {"repetition_penalty": 0.5}, {"presence_penalty": 1.5}),
    *({"frequency_penalty": 0.7}, {"frequency_penalty": -0.5, "presence_penalty": -1.0}, {"logit_bias": BIASES}),
    *({"suppress_tokens": [0, 3, 8]}, {"logit_bias": BIASES, "suppress_tokens": [8, 3], "repetition_penalty": 2.0}),
    {"repetition_penalty": 1.2, "presence_penalty": 0.4, "frequency_penalty": 0.3},
    {
        **{"temperature": 1.4, "top_k": 18, "top_p": 0.85, "min_p": 0.04, "logit_bias": BIASES},
        **{"repetition_penalty": 1.5, "presence_penalty": 0.6, "frequency_penalty": -0.2, "suppress_tokens": [5, 6]},
    },
]


class Penalties(LogitsProcessor):
    """OpenAI's presence and frequency penalties, over the completion."""

    def __init__(self, presence: float, frequency: float) -> None:
        self.presence, self.frequency = presence, frequency

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        ids = input_ids[:, PROMPT:]
        counts = torch.zeros_like(scores).scatter_add(1, ids, torch.ones_like(ids, dtype=scores.dtype))
        return scores - self.frequency * counts - self.presence * (counts > 0)


class Order(GenerationMixin):
    """What of a model decides which processors there are."""

    config = SimpleNamespace(is_encoder_decoder=False)


def processors(options: dict[str, Any]) -> LogitsProcessorList:
    """Those of transformers for these options, in its order."""
    given = dict(options)
    presence, frequency = given.pop("presence_penalty", 0.0), given.pop("frequency_penalty", 0.0)
    biases = given.pop("logit_bias", None)
    given["sequence_bias"] = biases and [[[int(token)], bias] for token, bias in biases.items()]
    config = GenerationConfig(**{"do_sample": True, "top_k": 0, "top_p": 1.0, **given})
    own = LogitsProcessorList([Penalties(presence, frequency)])
    return Order()._get_logits_processor(config, input_ids_seq_length=PROMPT, logits_processor=own, device="cpu")


def main() -> None:
    """Write the file beside this script."""
    random = np.random.RandomState(0)
    logits = (2 * random.standard_normal((12, 40))).astype(np.float32)
    ids = random.randint(9, 40, (12, PROMPT + COMPLETION))
    probabilities = [
        processors(options)(torch.tensor(ids), torch.tensor(logits).double()).softmax(-1).numpy()
        for options in SETTINGS
    ]
    np.savez_compressed(
        Path(__file__).with_name("sampling.npz"),
        logits=logits,
        prompts=ids[:, :PROMPT].astype(np.int16),
        completions=ids[:, PROMPT:].astype(np.int16),
        settings=json.dumps(SETTINGS),
        probabilities=np.array(probabilities, np.float32),
    )


if __name__ == "__main__":
    main()
