from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_files import list_anew

from edgeslm import __version__

Edgeslm = Callable[..., Any]
PROMPT = "<s><2de> I need new shoes.<sep>"
ANSWER = " Ich brauche neue Schuhe."
ENGINE = ("--engine", "onnxruntime")
VERBS = ["convert", "verify", "inspect", "run", "translate", "bench", "plan", "doctor", "demo"]


def test_version_and_help(process: Edgeslm) -> None:
    assert process("--version").out.strip().endswith(__version__)
    overview = process("--help")
    assert overview.code == 0 and all(verb in overview.out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself_with_an_example(edgeslm: Edgeslm, verb: str) -> None:
    done = edgeslm(verb, "--help")
    assert done.code == 0 and f"edgeslm {verb}" in done.out.split("Usage:")[1].split("\n", 1)[1]
    assert "--json" in done.out


def test_run_prints_the_completion(process: Edgeslm, bundle: Path) -> None:
    done = process("run", bundle, PROMPT, *ENGINE)
    assert (done.code, done.out, done.err) == (0, ANSWER + "\n", "")


def test_run_json(edgeslm: Edgeslm, bundle: Path) -> None:
    found = edgeslm("run", bundle, PROMPT, *ENGINE, "--json").json
    assert set(found) == {"text", "tokens", "finish_reason", "timings", "memory", "logprobs", "energy"}
    assert set(found["energy"]) == {"seconds", "joules", "energy_source", "celsius", "throttling", "tok_j"}
    assert found["energy"]["seconds"] > 0 and found["energy"]["energy_source"]
    assert all(value > 0 for value in found["memory"].values())
    assert found["logprobs"] is None
    assert found["text"] == ANSWER and found["finish_reason"] == "eos"
    assert found["timings"]["new_tokens"] == len(found["tokens"]) > 3


def test_run_reads_stdin(edgeslm: Edgeslm, bundle: Path) -> None:
    for ending in (b"", b"\n", b"\r\n"):
        assert edgeslm("run", bundle, "-", *ENGINE, stdin=PROMPT.encode() + ending).out == ANSWER + "\n"
    assert edgeslm("run", bundle, "-", *ENGINE, stdin=b"a\xff").code == 1


def test_sampling_options(edgeslm: Edgeslm, bundle: Path) -> None:
    def text(*options: object) -> str:
        done = edgeslm("run", bundle, PROMPT, *ENGINE, "--max-new-tokens", 12, *options)
        assert done.code == 0, done.err
        return str(done.out)

    first = text("--temp", 1.5, "--seed", 1)
    assert first == text("--temperature", 1.5, "--seed", 1) != text("--temp", 1.5, "--seed", 2)
    assert text("--temp", 1.5, "--top-k", 1) == text("--temp", 0) == ANSWER + "\n"
    assert text("--top-p", 0) == ANSWER + "\n"


def test_stopping_and_penalty_options(edgeslm: Edgeslm, bundle: Path) -> None:
    def found(*options: object) -> Any:
        return edgeslm("run", bundle, PROMPT, *ENGINE, "--json", *options).json

    whole = found("--logprobs", 2)
    assert whole["text"] == ANSWER and whole["finish_reason"] == "eos"
    for chosen, token in zip(whole["logprobs"], whole["tokens"], strict=True):
        assert chosen["token"] == token == chosen["top"][0]["token"]
        assert 0 >= chosen["logprob"] == chosen["top"][0]["logprob"] > chosen["top"][1]["logprob"]
    stopped = found("--stop", "xyz", "--stop", "che ne")
    assert (stopped["text"], stopped["finish_reason"]) == (" Ich brau", "stop")
    first = whole["tokens"][0]
    assert found("--stop-token", first)["tokens"] == [] and found("--stop-token", first)["finish_reason"] == "stop"
    other = found("--logit-bias", f"{first}=-1000", "--max-new-tokens", 5)
    assert first not in other["tokens"]
    repeated = found("--logit-bias", f"{first}=1000", "--max-new-tokens", 5, "--frequency-penalty", 0.5)
    assert repeated["tokens"] == [first] * 5
    never_twice = found("--max-new-tokens", 30, "--presence-penalty", 1000, "--temp", 1, "--seed", 1)["tokens"]
    assert len(never_twice) == len(set(never_twice)) > 3
    assert found("--repetition-penalty", 50, "--max-new-tokens", 8)["text"] != ANSWER
    assert found("--min-p", 1)["text"] == ANSWER


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("run",),
        *[("run", "b", "p", *extra) for extra in (("--threads", 0), ("--threads", "x"), ("--engine", "gpu"))],
        *[("run", "b", "p", "--temp", value) for value in (-1, "nan", "inf", "", "warm")],
        *[("run", "b", "p", "--top-p", value) for value in (-1, 1.1, "nan")],
        *[("run", "b", "p", "--min-p", value) for value in (-1, 1.1, "inf", "")],
        *[("run", "b", "p", "--repetition-penalty", value) for value in (-1, 0, "nan")],
        *[("run", "b", "p", "--presence-penalty", value) for value in ("inf", "x")],
        *[("run", "b", "p", "--logit-bias", value) for value in ("3", "=1", "3=", "3=nan", "-1=1", "x=1", "3=1=2")],
        *[("run", "b", "p", "--stop-token", value) for value in (-1, "x")],
        *[("run", "b", "p", "--logprobs", value) for value in (-1, 101)],
        *[("run", "b", "p", "--seed", value) for value in (-1, 2**64, 1.5)],
        *[("run", "b", "p", "--max-new-tokens", value) for value in (-1, 0, "")],
        ("convert", "a", "b", "--quantize", "int3"),
        ("convert", "a", "b", "--group-size", 48),
        ("bench", "b", "--engine", "native,gpu"),
        ("bench", "b", "--threads", "1,0"),
        ("bench", "b", "-p", 0),
    ],
    ids=str,
)
def test_wrong_usage_is_code_2(edgeslm: Edgeslm, arguments: tuple[object, ...]) -> None:
    done = edgeslm(*arguments, "--json")
    assert done.code == 2 and "Traceback" not in done.err
    assert set(done.json["error"]) == {"type", "message"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "BUNDLE", PROMPT, *ENGINE, "--max-new-tokens", 10**30),
        ("run", "BUNDLE", "word " * 1000, *ENGINE),
        ("run", "absent", "p"),
        ("run", "BUNDLE/model.onnx", "p"),
        ("inspect", "absent"),
        ("verify", "absent"),
        ("bench", "absent"),
        ("bench", "BUNDLE", "-p", 5000, *ENGINE),
        ("convert", "absent", "out"),
    ],
    ids=str,
)
def test_an_error_is_one_line_and_code_1(edgeslm: Edgeslm, bundle: Path, arguments: tuple[object, ...]) -> None:
    filled = [str(a).replace("BUNDLE", str(bundle)) for a in arguments]
    done = edgeslm(*filled)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("edgeslm: ") and done.err.count("\n") == 1
    as_json = edgeslm(*filled, "--json")
    assert as_json.code == 1 and done.err == f"edgeslm: {as_json.json['error']['message']}\n"


def test_debug_shows_the_traceback(process: Edgeslm) -> None:
    done = process("inspect", "absent", EDGESLM_DEBUG="1")
    assert done.code == 1 and "Traceback" in done.err


def test_a_closed_pipe_ends_quietly(bundle: Path) -> None:
    command = [sys.executable, "-m", "edgeslm", "run", str(bundle), PROMPT, *ENGINE, "--temp", "2", "--top-k", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.close()
        assert (child.stderr.read(), child.wait()) == (b"", 0)


INTERRUPTIBLE = """
import itertools, signal, sys, edgeslm.benchmark as benchmark
from edgeslm.cli import main
from edgeslm.generation.loop import Generation

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

def announced(function, at):
    calls = itertools.count(1)

    def call(*arguments):
        if next(calls) == at:
            print("started", file=sys.stderr, flush=True)
        return function(*arguments)

    return call

benchmark._run = announced(benchmark._run, 1)
Generation._take = announced(Generation._take, 9)
sys.exit(main(sys.argv[1:]))
"""


def interrupted(*arguments: object) -> tuple[int, str, str]:
    """Code, output and messages of a command that is interrupted once it is under way."""
    command = [sys.executable, "-c", INTERRUPTIBLE, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert child.stderr.readline() == "started\n"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate()
    return child.returncode, out, err.lstrip()


def test_an_interrupt_is_code_130(bundle: Path) -> None:
    endless = ("bench", bundle, *ENGINE, "-p", 200, "-n", 200, "--repeat", 1000)
    assert interrupted(*endless) == (130, "", "edgeslm: interrupted\n")


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_an_interrupted_run_keeps_what_came(bundle: Path, engine: str) -> None:
    endless = ("run", bundle, PROMPT, "--engine", engine, "--temp", 5, "--logit-bias", "2=-99", "--max-new-tokens", 480)
    code, out, err = interrupted(*endless)
    assert (code, err) == (130, "edgeslm: interrupted\n") and len(out) > 5
    code, out, err = interrupted(*endless, "--json")
    assert (code, err) == (130, "edgeslm: interrupted\n")
    found = json.loads(out)
    assert found["finish_reason"] == "cancelled" and 8 <= len(found["tokens"]) < 480 and len(found["text"]) > 5


def test_inspect(edgeslm: Edgeslm, bundle: Path) -> None:
    found = edgeslm("inspect", bundle, "--json").json
    assert found["model"]["context_length"] == 512 and found["model"]["tokenizer"] is True
    assert found["targets"]["onnx"]["settings"]["quantize"] == "int8"
    assert found["files"]["model.onnx.data"] == (bundle / "model.onnx.data").stat().st_size
    assert "model.onnx.data" in edgeslm("inspect", bundle).out


def test_doctor(edgeslm: Edgeslm, monkeypatch: pytest.MonkeyPatch) -> None:
    found = edgeslm("doctor", "--json").json
    assert found["edgeslm"] == __version__ and found["threads"] >= 1
    assert all(set(engine) == {"available", "reason"} for engine in found["engines"].values())
    assert found["engines"]["native"]["available"] and found["isa"]
    monkeypatch.setattr("edgeslm.cli.trial.why_not", lambda name, _: "crashes: SIGILL" if name == "native" else "")
    refused = edgeslm("doctor", "--json").json
    assert refused["isa"] is None
    assert refused["engines"]["native"] == {"available": False, "reason": "crashes: SIGILL"}


def test_verify_passes_and_fails(edgeslm: Edgeslm, bundle: Path, tmp_path: Path) -> None:
    done = edgeslm("verify", bundle, *ENGINE, "--json")
    assert done.code == 0 and done.json["passed"] is True
    assert {"engine", "max_abs_error", "kl", "top1_agreement", "limits", "passed"} <= set(done.json["targets"]["onnx"])
    for name, change in (("other", other_answer), ("none", no_answer)):
        broken = shutil.copytree(bundle, tmp_path / name)
        change(broken)
        failed = edgeslm("verify", broken, *ENGINE, "--json")
        assert failed.code == 3 and failed.json["passed"] is False


def other_answer(folder: Path) -> None:
    """As if the original had answered otherwise."""
    answer = dict(np.load(folder / "reference.npz"))
    answer["top_ids"] = np.roll(answer["top_ids"], 7, axis=0)
    np.savez(folder / "reference.npz", **answer)
    list_anew(folder, "reference.npz")


def no_answer(folder: Path) -> None:
    (folder / "reference.npz").unlink()
    list_anew(folder, "reference.npz")


def test_convert_and_run(edgeslm: Edgeslm, tmp_path: Path) -> None:
    from edgeslm.embedded import CHECKPOINT as MODEL

    options = ("--quantize", "int4", "--embed", "int8", "--group-size", 64, "--context", 128, "--no-verify")
    done = edgeslm("convert", MODEL, tmp_path / "b", *options, "--json")
    assert done.code == 0 and done.json["verification"] is None
    assert done.json["targets"]["onnx"] == {"quantize": "int4", "group_size": 64, "embed": "int8"}
    assert done.err  # progress
    assert edgeslm("inspect", tmp_path / "b", "--json").json["model"]["context_length"] == 128


def test_a_conversion_that_differs_too_much_says_so(
    edgeslm: Edgeslm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeslm.converters import verify
    from edgeslm.embedded import CHECKPOINT as MODEL

    monkeypatch.setattr(verify, "LIMITS", {"int8": {"kl": 0.0}})
    done = edgeslm("convert", MODEL, tmp_path / "b", "--json")
    assert done.code == 0 and done.json["verification"]["passed"] is False
    assert "differs too much from the original" in done.err


def test_warnings_go_to_stderr(process: Edgeslm, bundle: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(bundle, tmp_path / "b")
    (changed / "generation_config.json").write_text('{"eos_token_id": 2, "no_repeat_ngram_size": 9}')
    list_anew(changed, "generation_config.json")
    done = process("run", changed, PROMPT, *ENGINE, "--json")
    assert done.json["text"] == ANSWER
    assert done.err == "edgeslm: generation_config.json: no_repeat_ngram_size 9 is not applied\n"


def test_demo(edgeslm: Edgeslm, tmp_path: Path) -> None:
    found = edgeslm("demo", "--out", tmp_path / "b", "--json").json
    assert found["verification"]["passed"] and found["engine"] == "native"
    translations = {t["english"]: t["german"] for t in found["translations"]}
    assert translations["I need new shoes."] == "Ich brauche neue Schuhe."


@pytest.mark.parametrize("missing", ["onnx", "safetensors"])
def test_demo_names_the_extra_that_is_missing(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from edgeslm.cli import main; sys.exit(main(['demo']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == f'edgeslm: edgeslm demo needs {missing}, which is not installed: pip install "edgeslm[convert]"\n'
    )
