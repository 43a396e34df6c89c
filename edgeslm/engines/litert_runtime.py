"""ai-edge-litert, behind what the engine needs of it: open a checked file, keep buffers, run a signature.

Its CompiledModel takes caches as buffers that a run reads and writes in place. Its plain Interpreter would copy all of
them in and out for every token.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeslm.errors import EngineError, MissingExtraError
from edgeslm.log import logger

log = logger("litert")

MINIMUM_VERSION = (2, 3)  # the first that was tried
# XNNPACK packs weights for its kernels: once for all signatures, in memory, if its cache is "at" this path.
PACKED_IN_MEMORY = ":memory" if sys.platform in ("linux", "android") else ""
NOWHERE = "/nonexistent"  # where no library for a GPU or NPU is found: only the CPU is used
STDERR = 2
_REPORT = re.compile(r"^(VERBOSE|INFO|WARNING|ERROR): |^└ ")

_redirecting = threading.Lock()


class Runtime:
    """One opened ``.tflite`` file. Calls must not overlap."""

    def __init__(self, path: Path, threads: int) -> None:
        """
        Raises:
            MissingExtraError: ai-edge-litert is not installed.
            EngineError: it is too old, or refuses the file.
        """
        modules = import_litert()
        options = modules["options"].Options(
            cpu_options=modules["options"].CpuOptions(num_threads=threads, xnnpack_weight_cache_path=PACKED_IN_MEMORY)
        )
        with quiet_stderr(), _translated(f"{path.name}: LiteRT cannot open it"):
            environment = _process.environment(modules["environment"])
            self._model = modules["compiled_model"].CompiledModel.from_file(
                str(path), environment=environment, options=options
            )
            signature = next(iter(self._model.get_signature_list()))
            # The first use of a buffer makes an environment of the process, with its reports.
            self.buffer(signature, "tokens").read(1, np.int32)

    def buffer(self, signature: str, name: str) -> Any:
        """A new buffer for an input. What it holds is undefined until it is written."""
        with _translated("LiteRT has no memory for a buffer"):
            return self._model.create_input_buffer_by_name(signature, name)

    def output(self, signature: str, name: str) -> Any:
        """A new buffer for an output."""
        with _translated("LiteRT has no memory for a buffer"):
            return self._model.create_output_buffer_by_name(signature, name)

    def run(self, signature: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """One call of a signature; a buffer may be both input and output."""
        with _translated(f"LiteRT failed in {signature}"):
            self._model.run_by_name(signature, inputs, outputs)

    def close(self) -> None:
        self._model.close()


def write(buffer: Any, values: npt.NDArray[Any]) -> None:
    with _translated("LiteRT failed to fill a buffer"):
        buffer.write(values)


def read(buffer: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    with _translated("LiteRT failed to read a buffer"):
        values: npt.NDArray[np.float32] = buffer.read(int(np.prod(shape)), np.float32)
    return values.reshape(shape)


def tflite_note() -> str:
    """What to say where tflite-runtime is installed and ai-edge-litert is not."""
    if importlib.util.find_spec("tflite_runtime") is None:
        return ""
    return " (tflite-runtime is installed, but its last version cannot read the weights of language models)"


def import_litert() -> dict[str, Any]:
    """The modules of ai-edge-litert that are used, by name.

    Raises:
        MissingExtraError: it is not installed.
        EngineError: it is too old.
    """
    try:
        package = importlib.import_module("ai_edge_litert")
    except ModuleNotFoundError:
        raise MissingExtraError("the litert engine", "ai-edge-litert", "litert", tflite_note()) from None
    found = getattr(package, "__version__", "0.0")
    if tuple(int(n) for n in re.findall(r"\d+", found)[:2]) < MINIMUM_VERSION:
        raise EngineError(
            f"ai-edge-litert {found} was not tried; expected {MINIMUM_VERSION[0]}.{MINIMUM_VERSION[1]} "
            "or later: pip install -U ai-edge-litert"
        )
    names = ("compiled_model", "environment", "options")
    return {name: importlib.import_module(f"ai_edge_litert.{name}") for name in names}


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """LiteRT's exceptions, which are RuntimeErrors of several lines, as one line of ours."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"{what}: {' '.join(str(error).split())[:400]}") from error


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """LiteRT reports on the process's standard error what it finds and makes; here that goes to the log, at DEBUG.

    Whatever else is written there meanwhile is passed on afterwards.
    """
    with _redirecting, tempfile.TemporaryFile() as file:
        try:
            _flush()
            kept = os.dup(STDERR)
        except OSError:  # there is no standard error
            yield
            return
        try:
            os.dup2(file.fileno(), STDERR)
            yield
        finally:
            _flush()
            os.dup2(kept, STDERR)
            os.close(kept)
            file.seek(0)
            _pass_on(file.read().decode("utf-8", "replace"))


def _pass_on(text: str) -> None:
    for line in text.splitlines(keepends=True):
        if _REPORT.match(line):
            log.debug("%s", line.rstrip())
        elif line.strip():
            os.write(STDERR, line.encode())


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()


class _Process:
    """What all models of the process share: LiteRT's environment, which reports when it is torn down.

    The interpreter drops this object at its own very end, when nothing of it writes to standard error any more;
    LiteRT's libraries are torn down even later.
    """

    def __init__(self) -> None:
        self._environment: Any = None
        self._tools = (sys.is_finalizing, os.open, os.dup2)  # modules are gone by then

    def environment(self, module: Any) -> Any:
        if self._environment is None:
            self._environment = module.Environment.create(
                runtime_path=NOWHERE, compiler_plugin_path=NOWHERE, dispatch_library_path=NOWHERE
            )
        return self._environment

    def __del__(self, nowhere: str = os.devnull, flags: int = os.O_WRONLY, stderr: int = STDERR) -> None:
        ending, open_, dup2 = self._tools
        if self._environment is not None and ending():
            dup2(open_(nowhere, flags), stderr)


_process = _Process()
