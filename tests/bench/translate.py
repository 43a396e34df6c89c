"""The translator beside CTranslate2 and onnxruntime-genai: sentences per second, quality, load time, memory.

    ct2-transformers-converter --model edgeslm/models/everyday-en-de --quantization int8 --output_dir ct2
    edgeslm convert edgeslm/models/everyday-en-de int4 --quantize int4 --embed int8
    python tests/bench/translate.py eng-deu.test.tsv.xz --ctranslate2 ct2 --genai int4 [--python .venv-ct2/bin/python]

Every contestant lives in a process of its own and they take turns, round after round; each ratio is the median of those
within the rounds. edgeslm gets texts and gives texts; the others are given tokens and give tokens, so that only their
model's work is counted. Sentences that occur twice are asked once. The corpus: a sentence and its translation on each
line, separated by a tab. Quality needs sacrebleu.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "edgeslm" / "models" / "everyday-en-de"
PROMPT, END = "<s><2de> {}<sep>", "</s>"
Run = Callable[[list[Any]], list[Any]]


def edgeslm_texts(model: str, threads: int, batch: int) -> Run:
    import edgeslm
    from edgeslm import embedded

    # One bundle, since of several each is opened only when it is needed.
    translator = edgeslm.Translator.load(model or embedded.BUNDLE, threads=threads, batch=batch)
    return lambda texts: [found.text for found in translator.translate_batch(texts, "en", "de")]


def ctranslate2_tokens(model: str, threads: int, batch: int) -> Run:
    import ctranslate2

    # Its best setting for a model of this size: workers of one thread.
    generator = ctranslate2.Generator(model, compute_type="int8", inter_threads=threads, intra_threads=1)
    options = {"max_length": 64, "include_prompt_in_result": False, "sampling_topk": 1, "end_token": END}

    def run(prompts: list[Any]) -> list[Any]:
        return [r.sequences[0] for r in generator.generate_batch(prompts, max_batch_size=batch, **options)]

    return run


def genai_ids(model: str, threads: int, batch: int) -> Run:
    import onnxruntime_genai as og

    opened = og.Model(model)
    params = og.GeneratorParams(opened)
    params.set_search_options(do_sample=False, max_length=128)

    def one(prompt: list[int]) -> list[int]:
        generator = og.Generator(opened, params)
        generator.append_tokens(prompt)
        while not generator.is_done():
            generator.generate_next_token()
        return [int(i) for i in generator.get_sequence(0)[len(prompt) :]]

    return lambda prompts: [one(prompt) for prompt in prompts]


KINDS = {"edgeslm": edgeslm_texts, "ctranslate2": ctranslate2_tokens, "genai": genai_ids}


def child(kind: str, model: str, threads: int, batch: int) -> None:
    """Open the model, then run what comes on each line of stdin."""
    before = status()
    start = time.perf_counter()
    run = KINDS[kind](model, threads, batch)
    loaded = time.perf_counter() - start
    print(json.dumps(loaded), flush=True)
    for line in sys.stdin:
        inputs = json.loads(line)
        start = time.perf_counter()
        outputs = run(inputs)
        seconds = time.perf_counter() - start
        memory = {key: value - before.get(key, 0) for key, value in status().items()}
        print(json.dumps({"seconds": seconds, "outputs": outputs, **memory}), flush=True)


def status() -> dict[str, float]:
    """Megabytes of this process: resident, and not of a file among them."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {
        "resident_mb": int(lines["VmRSS"].split()[0]) / 1024,
        "anonymous_mb": int(lines["RssAnon"].split()[0]) / 1024,
    }


class Contestant:
    """A child process, and what its inputs and outputs look like."""

    def __init__(self, kind: str, model: str, threads: int, batch: int, python: str) -> None:
        self.name, self.kind = f"{kind} {f'batch {batch}' if batch > 1 else 'one at a time'}", kind
        command = [python, __file__, "--child", kind, model, str(threads), str(batch)]
        environment = {**os.environ, "PYTHONSAFEPATH": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout is not None
        self.load_s = float(self._process.stdout.readline())  # waited for: one at a time
        self.rounds: list[dict[str, Any]] = []

    def run(self, inputs: list[Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        send(stdin, inputs)
        found: dict[str, Any] = json.loads(stdout.readline())
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def send(pipe: IO[str], value: object) -> None:
    pipe.write(json.dumps(value) + "\n")
    pipe.flush()


def inputs_of(kind: str, texts: list[str]) -> list[Any]:
    if kind == "edgeslm":
        return list(texts)
    encoded = [tokenizer().encode(PROMPT.format(text), add_special_tokens=False) for text in texts]
    return [e.tokens if kind == "ctranslate2" else e.ids for e in encoded]


def texts_of(kind: str, outputs: list[Any]) -> list[str]:
    if kind == "edgeslm":
        return outputs
    if kind == "ctranslate2":
        outputs = [[tokenizer().token_to_id(token) for token in tokens] for tokens in outputs]
    return [tokenizer().decode(ids).strip() for ids in outputs]


def tokenizer() -> Any:
    from tokenizers import Tokenizer

    global _tokenizer
    _tokenizer = _tokenizer or Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    return _tokenizer


_tokenizer: Any = None


def contestants(options: argparse.Namespace) -> Iterator[Contestant]:
    for batch in (1, options.batch):
        yield Contestant("edgeslm", options.edgeslm, options.threads, batch, sys.executable)
        if options.ctranslate2:
            yield Contestant("ctranslate2", options.ctranslate2, options.threads, batch, options.python)
    if options.genai:
        yield Contestant("genai", options.genai, options.threads, 1, sys.executable)


def quality(hypotheses: list[str], references: list[list[str]]) -> tuple[float, float]:
    """BLEU and chrF."""
    import sacrebleu

    depth = max(map(len, references))
    columns = [[found[i] if i < len(found) else None for found in references] for i in range(depth)]
    return sacrebleu.corpus_bleu(hypotheses, columns).score, sacrebleu.corpus_chrf(hypotheses, columns).score


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--edgeslm", default="", metavar="BUNDLE", help="default: the embedded one")
    parser.add_argument("--ctranslate2", default="", metavar="FOLDER")
    parser.add_argument("--genai", default="", metavar="BUNDLE")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has ctranslate2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sentences", type=int, default=10**9, help="of each round after the first")
    options = parser.parse_args()
    with lzma.open(options.corpus, "rt", encoding="utf-8") as file:
        pairs = [line.rstrip("\n").split("\t") for line in file]
    texts = list(dict.fromkeys(pair[0] for pair in pairs))
    some = texts[:: max(1, len(texts) // options.sentences)]
    running = list(contestants(options))
    every = {c.name: c.run(inputs_of(c.kind, texts)) for c in running}  # warms up; all of it, for the quality
    inputs = {c.kind: inputs_of(c.kind, some) for c in running}
    for _ in range(options.rounds):
        for c in running:
            c.rounds.append(c.run(inputs[c.kind]))
    for c in running:
        c.close()
    print("contestant\tsentences/s\tof edgeslm's\tload s\tMB resident\tanonymous\tBLEU\tchrF")
    for c in running:
        peer = next(p for p in running if p.kind == "edgeslm" and p.name.endswith(c.name[len(c.kind) :]))
        ratio = statistics.median(p["seconds"] / r["seconds"] for p, r in zip(peer.rounds, c.rounds, strict=True))
        first, found = every[c.name], texts_of(c.kind, every[c.name]["outputs"])
        by_text = dict(zip(texts, found, strict=True))
        scores = quality([by_text[pair[0]] for pair in pairs], [[pair[1]] for pair in pairs])
        speed = statistics.median(len(some) / r["seconds"] for r in c.rounds)
        row = [c.name, f"{speed:.0f}", f"{ratio:.2f}", f"{c.load_s:.3f}", f"{first['resident_mb']:.0f}"]
        print("\t".join([*row, f"{first['anonymous_mb']:.0f}", *(f"{score:.1f}" for score in scores)]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
