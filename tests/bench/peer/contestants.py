"""The runtimes that peers.py compares: their environments, their models, and the processes that they run in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SHAPES = ("qwen2.5-0.5b", "llama-3.2-1b")  # checkpoint.py has them

# What each environment holds; ours is the Python that runs this. llama.cpp is compiled here, for this machine.
ENVIRONMENTS = {
    "models": ["numpy==2.4.6", "safetensors==0.8.0", "gguf==0.19.0"],
    "llama.cpp": ["llama-cpp-python==0.3.36"],
    "openvino": ["openvino-genai==2026.4.1.0"],
    "onnxruntime-genai": ["onnxruntime-genai==0.18.0"],
    "ctranslate2": ["ctranslate2==4.8.5", "safetensors==0.8.0"],
}


@dataclass(frozen=True)
class Contestant:
    runtime: str
    form: str  # of the weights
    model: str
    bits: int
    deep: bool = True  # it keeps a cache from one request to the next; without, only the first depth is measured


CONTESTANTS = (
    Contestant("edgeslm", "int4, groups of 32", "int4-32", 4),
    Contestant("edgeslm", "int4, groups of 128", "int4-128", 4),
    Contestant("llama.cpp", "Q4_0", "q4_0.gguf", 4),
    Contestant("openvino", "Q4_0", "q4_0.gguf", 4),
    Contestant("onnxruntime-genai", "int4, groups of 32", "int4-32", 4),
    Contestant("edgeslm", "int8, groups of 32", "int8-32", 8),
    Contestant("edgeslm", "int8, groups of 128", "int8-128", 8),
    Contestant("llama.cpp", "Q8_0", "q8_0.gguf", 8),
    Contestant("openvino", "Q8_0", "q8_0.gguf", 8),
    Contestant("onnxruntime-genai", "int8, groups of 32", "int8-32", 8),
    Contestant("ctranslate2", "int8, a scale per row", "ct2-int8", 8, deep=False),
)
CONTEXT = 16384  # of our bundles


class Worker:
    """A contestant's process."""

    def __init__(self, python: Path, contestant: Contestant, model: Path, *options: object) -> None:
        command = [python, HERE / "worker.py", contestant.runtime, model, *options]
        self._name = f"{contestant.runtime} {contestant.form}"
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the process
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
        self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self._errors.close()

    def ask(self, **question: object) -> dict[str, Any]:
        assert self.process.stdin
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return self._answer()

    def seconds(self, do: str, **sizes: int) -> float:
        return float(self.ask(do=do, **sizes)["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self._errors.seek(0)
            raise SystemExit(f"{self._errors.read()}{self._name}: its process ended with code {code}")
        found: dict[str, Any] = json.loads(line)
        return found


class Arena:
    """The folder with environments and models of one shape."""

    def __init__(self, folder: Path, shape: str, seed: int, kv_dtype: str) -> None:
        self._environments, self._shape, self._seed = folder / "environments", shape, seed
        self._kv_dtype = kv_dtype  # ours
        self._models = folder / "models" / shape

    def python(self, environment: str) -> Path:
        return Path(sys.executable) if environment == "edgeslm" else self._environments / environment / "bin" / "python"

    def set_up(self) -> None:
        for name, packages in ENVIRONMENTS.items():
            if not self.python(name).exists():
                venv.create(self._environments / name, with_pip=True)
            _run(self.python(name), "-m", "pip", "install", "-q", *packages)

    def model(self, name: str) -> Path:
        """A model's path, made where it is absent: under another name first, as it may take minutes."""
        path = self._models / name
        if not path.exists():
            partial = self._models / f"partial-{name}"
            print(f"making {path}", file=sys.stderr)
            self._make(name, partial)
            partial.rename(path)
        return path

    def _make(self, name: str, out: Path) -> None:
        if name == "hf":
            _run(self.python("models"), HERE / "checkpoint.py", self._shape, out, "--seed", self._seed)
            return
        checkpoint = self.model("hf")
        if name.endswith(".gguf"):
            _run(self.python("models"), HERE / "gguf_file.py", checkpoint, out, name.removesuffix(".gguf"))
        elif name.startswith("ct2"):
            _run(self.python("ctranslate2"), HERE / "ct2_model.py", checkpoint, out)
        else:
            level, group = name.split("-")
            settings = ["--quantize", level, "--group-size", group, "--context", CONTEXT, "--no-verify"]
            _run(self.python("edgeslm"), "-m", "edgeslm", "convert", checkpoint, out, *settings)

    def open(self, contestant: Contestant, threads: int, context: int) -> Worker:
        python = self.python(contestant.runtime)
        if not python.exists():
            raise SystemExit(f"{python} is absent: run with --setup first")
        options = ["--threads", threads, "--context", context]
        options += ["--kv-dtype", self._kv_dtype] if contestant.runtime == "edgeslm" else []
        return Worker(python, contestant, self.model(contestant.model), *options)


def _run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)


def file_bytes(model: Path) -> int:
    """Of a model's weights."""
    return model.stat().st_size if model.is_file() else max(path.stat().st_size for path in model.iterdir())
