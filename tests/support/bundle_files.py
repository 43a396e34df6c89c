"""Bundles whose files tests change: the manifest has to go along, or the bundle counts as damaged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Change a file of a bundle, and its entry in the manifest."""
    (folder / name).write_bytes(content)
    list_anew(folder, name)


def list_anew(folder: Path, name: str) -> None:
    """Make the manifest say what a file is now, or that it is not there."""
    manifest = json.loads((folder / "edgeslm.json").read_text("utf-8"))
    manifest["files"].pop(name, None)
    if (folder / name).exists():
        raw = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    (folder / "edgeslm.json").write_text(json.dumps(manifest), "utf-8")
