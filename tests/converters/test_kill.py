"""kill -9 during a conversion, at steps that touch the disk: the old bundle, or none, or the new one.

EDGESLM_KILL_STRIDE kills at every step (1), or at one of so many (3).
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tiny_decoders import make_spec

from edgeslm.bundle import Bundle
from edgeslm.converters.convert import convert
from edgeslm.converters.policy import Options
from edgeslm.converters.staging import stage
from edgeslm.errors import BundleError
from edgeslm.manifest import Manifest, TargetEntry

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")

STRIDE = int(os.environ.get("EDGESLM_KILL_STRIDE", "3"))

# Events of Python's audit hooks that change a file system; fsync has none, and needs none: it changes nothing visible.
EVENTS = {
    "os.rename",
    "os.remove",
    "os.link",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "shutil.rmtree",
    "shutil.copyfile",
}


def in_child(action: Callable[[], object], at_change: Callable[[int], object]) -> int:
    """Run in a forked child that calls ``at_change`` just before each change of a file, numbered from 1; returns its
    exit status."""
    pid = os.fork()
    if pid == 0:
        seen = 0
        watching = True

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal seen, watching
            writes = (
                event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
            )
            if watching and (event in EVENTS or writes):
                seen += 1
                watching = False
                at_change(seen)
                watching = True

        sys.addaudithook(hook)
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed(action: Callable[[], object], die_at: int) -> int:
    """Run in a child that is killed at its ``die_at``-th change; returns its exit status."""
    return in_child(action, lambda step: os.kill(os.getpid(), signal.SIGKILL) if step == die_at else None)


def state(folder: Path) -> str | None:
    """Which bundle stands there, fully checked: its quantisation level, or None."""
    if not (folder / "edgeslm.json").exists():
        return None
    return str(Bundle.open(folder, check="full").target("onnx").settings["quantize"])


def kill_everywhere(start: Callable[[], None], action: Callable[[], object], folder: Path) -> list[str | None]:
    """Kill at one step after another until the conversion survives; the state found after each."""
    found = []
    for step in range(1, 1000, STRIDE):
        start()
        status = killed(action, die_at=step)
        found.append(state(folder))
        if status == 0:
            return found
        assert status == -signal.SIGKILL, f"step {step}: exit status {status}"
    raise AssertionError("never finished")


def states_on_the_way(action: Callable[[], object], folder: Path, copies: Path) -> list[str | None]:
    """What a kill at each step would leave, from one run: copies of the folder as it stands just before each change."""

    def copy(step: int) -> None:
        if folder.exists():
            shutil.copytree(folder, copies / f"{step:03d}", symlinks=True)

    copies.mkdir()
    assert in_child(action, copy) == 0
    return [*(state(path) for path in sorted(copies.iterdir())), state(folder)]


def test_a_first_conversion(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def action() -> None:
        convert(tiny_checkpoint, out, options=Options(quantize="int8"), check=False)

    found = states_on_the_way(action, out, tmp_path / "copies")
    assert len(found) > 20 and found[0] is None and found[-1] == "int8"


def test_leftovers_do_not_stand_in_the_way(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def action() -> None:
        convert(tiny_checkpoint, out, options=Options(quantize="int8"), check=False)

    found = kill_everywhere(lambda: None, action, out)  # each run finds what the one before left
    assert found[-1] == "int8"
    listed = set(Bundle.open(out).manifest.files) | {"edgeslm.json"}
    assert {p.name for p in out.iterdir()} == listed


def test_replacing_a_target(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(tiny_checkpoint, out, options=Options(quantize="int8"), check=False)

    def action() -> None:
        convert(tiny_checkpoint, out, options=Options(quantize="int4"), check=False)

    found = states_on_the_way(action, out, tmp_path / "copies")
    assert len(found) > 20 and found[0] == "int8" and found[-1] == "int4" and None not in found
    listed = set(Bundle.open(out).manifest.files) | {"edgeslm.json"}
    assert {p.name for p in out.iterdir()} == listed


def test_replacing_again_clears_what_was_left(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    levels = iter(["int8", "int4"] * 200)
    for step in range(1, 60, 2 + STRIDE):
        options = Options(quantize=next(levels))
        killed(partial(convert, tiny_checkpoint, out, options=options, check=False), die_at=step)
    convert(tiny_checkpoint, out, options=Options(quantize="int8"), check=False)
    listed = set(Bundle.open(out, check="full").manifest.files) | {"edgeslm.json"}
    assert {p.name for p in out.iterdir()} == listed


def test_files_in_folders_and_the_folders_go_together(tmp_path: Path) -> None:
    """A package is a folder; what a kill leaves of one may be folders without a file."""
    spec, out, levels = make_spec(), tmp_path / "out", iter(["int8", "int4"] * 200)

    def action() -> None:
        old = Bundle.open(out).manifest if (out / "edgeslm.json").exists() else None
        with stage(out, old) as staging:
            folder = staging.free_name("model", (".mlpackage",)) + ".mlpackage"
            files = {"model": f"{folder}/Data/a/model", "weights": f"{folder}/Data/a/weights/w", "top": f"{folder}/M"}
            for name in files.values():
                staging.write(name, name.encode())
            staging.commit(Manifest(spec, staging.files, {"onnx": TargetEntry(files, {"quantize": next(levels)})}))

    found = kill_everywhere(lambda: next(levels), action, out)  # each run finds what the one before left
    assert len(found) > 20 // STRIDE and {"int8", "int4"} >= {level for level in found if level}
    action()
    left = [p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() or not any(p.iterdir())]
    assert sorted(left) == sorted({*Bundle.open(out, check="full").manifest.files, "edgeslm.json"})


def test_a_folder_of_somebody_else_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"precious\.txt"):
        convert(tiny_checkpoint, tmp_path, check=False)
    assert (tmp_path / "precious.txt").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_two_conversions_into_one_folder(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with stage(tmp_path / "out", None), pytest.raises(BundleError, match="another conversion"):
        convert(tiny_checkpoint, tmp_path / "out", check=False)
