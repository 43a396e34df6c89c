"""The translator beside CTranslate2 and onnxruntime-genai: sentences per second, quality, load time, memory.

    ct2-transformers-converter --model edgeslm/models/everyday --quantization int8 --output_dir ct2
    edgeslm convert edgeslm/models/everyday int4 --quantize int4
    python tests/bench/translate.py eng-deu.test.tsv.xz --ctranslate2 ct2 --genai int4 [--python .venv-ct2/bin/python]

Every contestant lives in a process of its own and they take turns, round after round; each ratio is the median of those
within the rounds. All get texts and give texts: the others by the same Hugging Face tokenizer, a batch at once. Their
model's work alone, tokens to tokens, is timed as well (`of it`). Starting is counted from the first import to the open
model, and to the first translated sentence; it is the median of processes that are started in turns. Sentences that
occur twice are asked once. The corpus: a sentence and its translation on each line, separated by a tab. Quality needs
sacrebleu.
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
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "edgeslm" / "models" / "everyday"
PROMPT, END = "<s><2de> {}<sep>", "</s>"
FIRST = "I need new shoes."


class Run(Protocol):
    """Translates texts; returns the seconds that the model itself took, too."""

    def __call__(self, texts: list[str]) -> tuple[list[str], float]: ...


def edgeslm_run(model: str, threads: int, batch: int, checkpoint: str) -> Run:
    import edgeslm
    from edgeslm import embedded

    # One bundle, since of several each is opened only when it is needed.
    translator = edgeslm.Translator.load(model or embedded.BUNDLE, threads=threads, batch=batch)

    def run(texts: list[str]) -> tuple[list[str], float]:
        start = time.perf_counter()
        found = [found.text for found in translator.translate_batch(texts, "en", "de")]
        return found, time.perf_counter() - start

    return run


def ctranslate2_run(model: str, threads: int, batch: int, checkpoint: str) -> Run:
    import ctranslate2
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{checkpoint}/tokenizer.json")
    # Its best setting for a model of this size: workers of one thread.
    generator = ctranslate2.Generator(model, compute_type="int8", inter_threads=threads, intra_threads=1)
    options = {"max_length": 64, "include_prompt_in_result": False, "sampling_topk": 1, "end_token": END}

    def run(texts: list[str]) -> tuple[list[str], float]:
        prompts = [found.tokens for found in encoded(tokenizer, texts)]
        start = time.perf_counter()
        results = generator.generate_batch(prompts, max_batch_size=batch, **options)
        seconds = time.perf_counter() - start
        return decoded(tokenizer, [result.sequences_ids[0] for result in results]), seconds

    return run


def genai_run(model: str, threads: int, batch: int, checkpoint: str) -> Run:
    import onnxruntime_genai as og
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{checkpoint}/tokenizer.json")
    opened = og.Model(model)
    params = og.GeneratorParams(opened)
    params.set_search_options(do_sample=False, max_length=128)

    def one(prompt: list[int]) -> list[int]:
        generator = og.Generator(opened, params)
        generator.append_tokens(prompt)
        while not generator.is_done():
            generator.generate_next_token()
        return [int(i) for i in generator.get_sequence(0)[len(prompt) :]]

    def run(texts: list[str]) -> tuple[list[str], float]:
        prompts = [found.ids for found in encoded(tokenizer, texts)]
        start = time.perf_counter()
        results = [one(prompt) for prompt in prompts]
        return decoded(tokenizer, results), time.perf_counter() - start

    return run


def encoded(tokenizer: Any, texts: list[str]) -> list[Any]:
    found: list[Any] = tokenizer.encode_batch([PROMPT.format(text) for text in texts], add_special_tokens=False)
    return found


def decoded(tokenizer: Any, answers: list[list[int]]) -> list[str]:
    return [text.strip() for text in tokenizer.decode_batch(answers)]


KINDS = {"edgeslm": edgeslm_run, "ctranslate2": ctranslate2_run, "genai": genai_run}


def child(kind: str, model: str, threads: int, batch: int, checkpoint: str) -> None:
    """Open the model, then run what comes on each line of stdin."""
    before = status()
    start = time.perf_counter()
    run = KINDS[kind](model, threads, batch, checkpoint)
    load_s = time.perf_counter() - start
    run([FIRST])
    print(json.dumps({"load_s": load_s, "first_s": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        start = time.perf_counter()
        outputs, model_s = run(texts)
        seconds = time.perf_counter() - start
        memory = {key: value - before.get(key, 0) for key, value in status().items()}
        print(json.dumps({"seconds": seconds, "model_s": model_s, "outputs": outputs, **memory}), flush=True)


def status() -> dict[str, float]:
    """Megabytes of this process: resident, and not of a file among them."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {
        "resident_mb": int(lines["VmRSS"].split()[0]) / 1024,
        "anonymous_mb": int(lines["RssAnon"].split()[0]) / 1024,
    }


class Contestant:
    """A child process."""

    def __init__(self, kind: str, model: str, batch: int, options: argparse.Namespace, python: str) -> None:
        self.name, self.kind = f"{kind} {f'batch {batch}' if batch > 1 else 'one at a time'}", kind
        command = [python, __file__, "--child", kind, model, str(options.threads), str(batch), str(options.checkpoint)]
        environment = {**os.environ, "PYTHONSAFEPATH": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout is not None
        self.starts: list[dict[str, float]] = [json.loads(self._process.stdout.readline())]  # waited for
        self.rounds: list[dict[str, Any]] = []

    def run(self, texts: list[str]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        send(stdin, texts)
        found: dict[str, Any] = json.loads(stdout.readline())
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def send(pipe: IO[str], value: object) -> None:
    pipe.write(json.dumps(value) + "\n")
    pipe.flush()


def contestants(options: argparse.Namespace) -> Iterator[Contestant]:
    for batch in (1, options.batch):
        yield Contestant("edgeslm", options.edgeslm, batch, options, sys.executable)
        if options.ctranslate2:
            yield Contestant("ctranslate2", options.ctranslate2, batch, options, options.python)
    if options.genai:
        yield Contestant("genai", options.genai, 1, options, sys.executable)


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
    parser.add_argument("--checkpoint", type=Path, default=MODEL, help="of another model, for its tokenizer")
    parser.add_argument("--edgeslm", default="", metavar="BUNDLE", help="default: the embedded one")
    parser.add_argument("--ctranslate2", default="", metavar="FOLDER")
    parser.add_argument("--genai", default="", metavar="BUNDLE")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has ctranslate2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32, help="on each thread")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=7, help="of each contestant")
    parser.add_argument("--sentences", type=int, default=10**9, help="of each round after the first")
    options = parser.parse_args()
    with lzma.open(options.corpus, "rt", encoding="utf-8") as file:
        pairs = [line.rstrip("\n").split("\t") for line in file]
    texts = list(dict.fromkeys(pair[0] for pair in pairs))
    some = texts[:: max(1, len(texts) // options.sentences)]
    running = list(contestants(options))
    for _ in range(options.starts - 1):
        for c, again in zip(running, contestants(options), strict=True):
            c.starts += again.starts
            again.close()
    every = {c.name: c.run(texts) for c in running}  # warms up; all of it, for the quality
    for _ in range(options.rounds):
        for c in running:
            c.rounds.append(c.run(some))
    for c in running:
        c.close()
    print("contestant\tsentences/s\tof edgeslm's\tof it\tload s\tfirst s\tMB resident\tanonymous\tBLEU\tchrF")
    for c in running:
        peer = next(p for p in running if p.kind == "edgeslm" and p.name.endswith(c.name[len(c.kind) :]))
        first = every[c.name]
        by_text = dict(zip(texts, first["outputs"], strict=True))
        scores = quality([by_text[pair[0]] for pair in pairs], [[pair[1]] for pair in pairs])
        speed = statistics.median(len(some) / r["seconds"] for r in c.rounds)
        ratios = [f"{slower(peer, c, 'seconds'):.2f}", f"{slower(peer, c, 'model_s'):.2f}"]
        start = [f"{statistics.median(s[name] for s in c.starts):.3f}" for name in ("load_s", "first_s")]
        memory = [f"{first[name]:.0f}" for name in ("resident_mb", "anonymous_mb")]
        print("\t".join([c.name, f"{speed:.0f}", *ratios, *start, *memory, *(f"{score:.1f}" for score in scores)]))


def slower(one: Contestant, other: Contestant, what: str) -> float:
    """The other's speed as a part of the one's, whose every second counts."""
    return statistics.median(p["seconds"] / r[what] for p, r in zip(one.rounds, other.rounds, strict=True))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
    else:
        main()
