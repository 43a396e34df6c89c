"""The Raspberry Pi's kiosk: in a pipe, and on a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

KIOSK = [sys.executable, str(Path(__file__).parents[2] / "examples" / "raspberrypi" / "translate_kiosk.py")]


def test_in_a_pipe() -> None:
    done = subprocess.run(KIOSK, input="I need new shoes.\nI am {x}.\n", capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "Ich brauche neue Schuhe." and second.count("{x}") == 1
    spanish = [*KIOSK, "--between", "es", "en"]
    done = subprocess.run(
        spanish, input="¿Dónde está la estación?\nI need new shoes.\n\n", capture_output=True, text=True
    )
    assert done.stdout == "Where is the station?\nNecesito zapatos nuevos.\n\n"
    assert subprocess.run([*KIOSK, "--to", "xx"], input="a", capture_output=True, text=True).returncode == 1


def test_on_a_terminal() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(KIOSK[0], KIOSK, {**os.environ, "TERM": "xterm", "COLUMNS": "60", "LINES": "20"})
    shown = read_until(terminal, "Type a sentence")
    os.write(terminal, b"I need new shoes.\n")
    shown = read_until(terminal, "Ich brauche neue Schuhe.")
    assert "en ↔ de, offline" in shown
    os.write(terminal, b"The compiler emits a warning for unused variables.\n")
    read_until(terminal, "(unsure)")
    os.write(terminal, b"\x04")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)


def read_until(terminal: int, text: str) -> str:
    """What the terminal shows up to and with this text."""
    shown, deadline = b"", time.monotonic() + 60
    while text not in shown.decode(errors="replace"):
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 4096)
    return shown.decode(errors="replace")
