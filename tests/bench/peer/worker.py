"""One runtime in a process of its own, driven by JSON lines: run by the Python of the runtime's environment.

    python worker.py llama.cpp MODEL --threads 2 --context 8448

Says {"load_s"} once it is open; then answers each line of standard input:
    {"do": "prefill", "tokens": 256}              {"seconds"} of a prompt on an empty cache, to its last logits
    {"do": "decode", "depth": 100, "tokens": 32}  {"seconds"} of greedy steps behind so many tokens, and
                                                  the first {"token"}
    {"do": "size"}                                {"peak_rss_bytes", "anon_bytes"} of the process, and {"step_bytes"} of
                                                  weights that a step reads, null where the runtime does not tell
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

PROMPT_IDS = range(2, 258)  # every runtime's vocabulary has them


def prompt(tokens: int, seed: int = 0) -> list[int]:
    """Seeded token ids, the same in every runtime."""
    return [int(i) for i in np.random.default_rng(seed).integers(PROMPT_IDS.start, PROMPT_IDS.stop, tokens)]


class Runtime(Protocol):
    step_bytes: int | None  # of weights that a step reads, where the runtime tells

    def prefill(self, tokens: int) -> float:
        """Seconds of a prompt on an empty cache."""

    def decode(self, depth: int, tokens: int) -> tuple[float, int]:
        """Seconds of ``tokens`` greedy steps behind a prompt of ``depth``, and the token that the prompt led to."""


class Stepper:
    """A runtime that takes tokens piece by piece and can forget some: a deep prompt is then run once."""

    held = 0
    step_bytes: int | None = None

    def feed(self, ids: list[int]) -> int:
        """Append; the likeliest next token."""
        raise NotImplementedError

    def forget(self, length: int) -> None:
        raise NotImplementedError

    def prefill(self, tokens: int) -> float:
        ids = prompt(tokens)
        self.forget(0)
        start = perf_counter()
        self.feed(ids)
        seconds = perf_counter() - start
        self.held = tokens
        return seconds

    def decode(self, depth: int, tokens: int) -> tuple[float, int]:
        kept = min(self.held, depth - 1)
        self.forget(kept)
        first = token = self.feed(prompt(depth)[kept:])
        self.held = depth
        start = perf_counter()
        for _ in range(tokens):
            token = self.feed([token])
        return perf_counter() - start, first


class Edgeslm(Stepper):
    def __init__(self, model: Path, threads: int, context: int, kv_dtype: str) -> None:
        from edgeslm.bundle import Bundle
        from edgeslm.engines.registry import open_engine

        engine = open_engine(Bundle.open(model), "native", threads, kv_dtype=kv_dtype)
        self.step_bytes = engine.step_bytes
        self._session = engine.new_session()

    def feed(self, ids: list[int]) -> int:
        return int(self._session.forward(ids)[-1].argmax())

    def forget(self, length: int) -> None:
        self._session.truncate(length)


class LlamaCpp(Stepper):
    def __init__(self, model: Path, threads: int, context: int) -> None:
        import llama_cpp

        self._c, self._length = llama_cpp, 0
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(model), llama_cpp.llama_model_default_params())
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_batch = context, context
        settings.n_threads = settings.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        self._vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def feed(self, ids: list[int]) -> int:
        tokens = (self._c.llama_token * len(ids))(*ids)
        status = self._c.llama_decode(self._context, self._c.llama_batch_get_one(tokens, len(ids)))
        if status:
            raise RuntimeError(f"llama_decode: {status}")
        self._length += len(ids)
        logits = self._c.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, (self._vocab,)).argmax())

    def forget(self, length: int) -> None:
        self._c.llama_memory_seq_rm(self._c.llama_get_memory(self._context), 0, length, -1)


class OnnxRuntimeGenai(Stepper):
    """It is handed the token to feed by its own search: a step is one generate_next_token."""

    def __init__(self, model: Path, threads: int, context: int) -> None:
        import onnxruntime_genai

        config = onnxruntime_genai.Config(str(model))
        options = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self._model = onnxruntime_genai.Model(config)
        settings = onnxruntime_genai.GeneratorParams(self._model)
        settings.set_search_options(max_length=context, do_sample=False)
        self._generator = onnxruntime_genai.Generator(self._model, settings)

    def feed(self, ids: list[int]) -> int:
        self._generator.append_tokens(np.array(ids, np.int32))
        return int(np.asarray(self._generator.get_logits()).reshape(-1).argmax())

    def forget(self, length: int) -> None:
        self._generator.rewind_to(length)


class OpenVino:
    step_bytes = None

    def __init__(self, model: Path, threads: int, context: int) -> None:
        import openvino_genai

        self._genai, self._runs = openvino_genai, 0
        self._pipeline = openvino_genai.LLMPipeline(str(model), "CPU", INFERENCE_NUM_THREADS=threads)

    def _generate(self, depth: int, tokens: int, seed: int) -> Any:
        import openvino

        settings = self._genai.GenerationConfig()
        settings.max_new_tokens, settings.ignore_eos, settings.do_sample = tokens, True, False
        settings.apply_chat_template = False
        ids = openvino.Tensor(np.array([prompt(depth, seed)], np.int64))
        return self._pipeline.generate(ids, settings)

    def prefill(self, tokens: int) -> float:
        self._runs += 1  # another prompt each time: it remembers those it has seen
        return float(self._generate(tokens, 1, self._runs).perf_metrics.get_ttft().mean) / 1000

    def decode(self, depth: int, tokens: int) -> tuple[float, int]:
        found = self._generate(depth, tokens + 1, 0)
        return float(found.perf_metrics.get_tpot().mean) / 1000 * tokens, int(found.tokens[0][0])


class CTranslate2:
    step_bytes = None

    def __init__(self, model: Path, threads: int, context: int) -> None:
        import ctranslate2

        self._generator = ctranslate2.Generator(str(model), compute_type="int8", inter_threads=1, intra_threads=threads)

    def _steps(self, depth: int, tokens: int) -> list[tuple[float, int]]:
        """When each token came, from the start, and which."""
        steps: list[tuple[float, int]] = []
        words = [[f"<{i}>" for i in prompt(depth)]]
        start = perf_counter()

        def note(step: Any) -> bool:
            steps.append((perf_counter() - start, step.token_id))
            return False

        self._generator.generate_batch(
            words, max_length=tokens, min_length=tokens, beam_size=1, callback=note, include_prompt_in_result=False
        )
        return steps

    def prefill(self, tokens: int) -> float:
        return self._steps(tokens, 1)[0][0]

    def decode(self, depth: int, tokens: int) -> tuple[float, int]:
        steps = self._steps(depth, tokens + 1)
        return steps[-1][0] - steps[0][0], steps[0][1]


RUNTIMES: dict[str, Callable[[Path, int, int], Runtime]] = {
    "edgeslm": Edgeslm,
    "llama.cpp": LlamaCpp,
    "openvino": OpenVino,
    "onnxruntime-genai": OnnxRuntimeGenai,
    "ctranslate2": CTranslate2,
}


def memory() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {k: int(v.split()[0]) for k, v in (line.split(":", 1) for line in lines) if v.endswith("kB")}
    return {"peak_rss_bytes": kilobytes["VmHWM"] * 1024, "anon_bytes": kilobytes["RssAnon"] * 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runtime", choices=RUNTIMES)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--kv-dtype", help="of edgeslm")
    args = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what runtimes print is no answer

    def answer(**values: float | None) -> None:
        print(json.dumps(values), file=answers, flush=True)

    start = perf_counter()
    own = {"kv_dtype": args.kv_dtype} if args.kv_dtype else {}
    runtime = RUNTIMES[args.runtime](args.model, args.threads, args.context, **own)
    answer(load_s=perf_counter() - start)
    for line in sys.stdin:
        match json.loads(line):
            case {"do": "prefill", "tokens": tokens}:
                answer(seconds=runtime.prefill(tokens))
            case {"do": "decode", "depth": depth, "tokens": tokens}:
                seconds, token = runtime.decode(depth, tokens)
                answer(seconds=seconds, token=token)
            case {"do": "size"}:
                answer(**memory(), step_bytes=runtime.step_bytes)


if __name__ == "__main__":
    main()
