"""Bundles made from the embedded model, once, and a way to call the command line in a process of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeslm.cli import main
from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options
from edgeslm.embedded import CHECKPOINT as MODEL


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value that stdout must be."""
        return json.loads(self.out)


Edgeslm = Callable[..., Done]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "en-de"
    convert(MODEL, folder, options=Options("int8"), check=False)
    return folder


@pytest.fixture
def edgeslm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Edgeslm:
    """As the command, without the cost of a process."""

    def run(*arguments: object, stdin: bytes = b"") -> Done:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        code = main([str(a) for a in arguments])
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def process() -> Edgeslm:
    """The command itself."""

    def run(*arguments: object, **environment: str) -> Done:
        command = [sys.executable, "-m", "edgeslm", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, env={**os.environ, **environment}, check=False)
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run
