"""Does an engine work here? Tried in a process of its own: a library that crashes or hangs then takes nothing with it.

Engines over the "onnx" target run the embedded translator, LiteRT a tiny model, and what they compute is compared with
the original's answer; of Core ML the library is loaded. ``python -m edgeslm.cli.trial NAME`` is that process.
"""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

from edgeslm.embedded import BUNDLE, TRIAL
from edgeslm.engines.registry import ENGINES, unavailable
from edgeslm.errors import EdgeslmError, EngineError

PASSED = "edgeslm: the trial was passed"  # a line of its own near the end; libraries may print what they like
TIMEOUT_S = 60.0  # a slow board needs some seconds to load a large library from its card
KEPT, SHOWN = 8192, 200  # bytes of what a trial said last; characters of it that are shown
ILLEGAL = "its binary uses instructions that this CPU lacks: install another version, or use another engine"
WINDOWS_STATUS = {0xC000001D: "illegal instruction", 0xC0000005: "access violation", 0xC0000409: "abort"}


def why_not(name: str, timeout_s: float = TIMEOUT_S) -> str:
    """Why an engine cannot be used here, or "" if it can; takes as long as loading its library and a few tokens."""
    reason = unavailable(name)
    return reason or _verdict([sys.executable, "-m", __name__, name], timeout_s)


def _verdict(command: list[str], timeout_s: float) -> str:
    """What ended a trial other than passing it."""
    try:
        process = subprocess.Popen(
            command, bufsize=0, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        return f"could not be tried: {error.strerror}"
    said = bytearray()
    reader = threading.Thread(target=_keep_end, args=(process.stdout, said), daemon=True)
    with process:
        reader.start()
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            code = None
        reader.join(timeout=1)  # not for ever: a child of the trial may hold the other end
    if code is None:
        return f"hangs: no answer within {timeout_s:g} s"
    lines = _lines(said.decode("utf-8", "replace"))
    if code == 0 and PASSED in lines:
        return ""
    crash = _crash(code)
    if crash:
        return f"crashes: {crash}"
    return f"fails: {lines[-1][-SHOWN:] if lines else 'no word'} (exit code {code})"


def _keep_end(stream: IO[bytes], said: bytearray) -> None:
    """Read to the end, which may never come, and keep the last bytes."""
    with suppress(ValueError):  # closed by then
        while piece := stream.read(KEPT):
            said += piece
            del said[:-KEPT]


def _crash(code: int) -> str:
    """The signal that ended a process, in words; "" where it ended by itself."""
    if code >= 0:
        return WINDOWS_STATUS.get(code & 0xFFFFFFFF, "")
    try:
        found = signal.Signals(-code)
    except ValueError:
        return f"signal {-code}"
    words = f"{found.name} ({signal.strsignal(found)})"
    return f"{words}: {ILLEGAL}" if found == signal.SIGILL else words


def _lines(text: str) -> list[str]:
    """Those that say something, of printable characters."""
    lines = ("".join(c for c in raw if c.isprintable()).strip() for raw in text.splitlines())
    return [line for line in lines if line]


def attempt(name: str) -> None:
    """Run an engine on a bundle that came with the package; where there is none for it, load its library."""
    if ENGINES[name][0] == "onnx":
        _run(name, BUNDLE)
    elif name == "litert":
        _run(name, TRIAL)
    elif sys.platform == "darwin":
        importlib.import_module("coremltools")
    else:
        importlib.import_module("edgeslm.engines.coreml_interpreter.proto").model_class()


def _run(name: str, folder: Path) -> None:
    from edgeslm.bundle import Bundle
    from edgeslm.converters.verify import verify

    report = verify(Bundle.open(folder), engine=name, threads=1)
    for found in (found for target in report.targets.values() for found in target):
        if not found.kl <= found.limits["kl"]:  # a NaN fails too
            limit = f"expected at most {found.limits['kl']:g}: use another engine, or another version of its library"
            raise EngineError(f"answers wrongly: KL {found.kl:.2g} from the original, {limit}")


if __name__ == "__main__":
    try:
        attempt(sys.argv[1])
    except Exception as error:
        sys.exit(str(error) if isinstance(error, EdgeslmError) else f"{type(error).__name__}: {error}")
    print(PASSED, flush=True)
