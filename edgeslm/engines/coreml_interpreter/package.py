"""A ``.mlpackage`` folder, opened without trusting it.

Manifest.json     items by identifier, each with a path below Data/; rootModelIdentifier names the model
Data/com.apple.CoreML/model.mlmodel        the model, a protobuf message
Data/com.apple.CoreML/weights/weight.bin   its large constants; the program calls it @model_path/weights/weight.bin
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeslm.engines.coreml_interpreter.proto import MAX_MODEL_BYTES
from edgeslm.errors import BundleError
from edgeslm.files import open_plain
from edgeslm.manifest import parse_json, safe_path

MANIFEST = "Manifest.json"
MODEL_PATH = "@model_path/"
MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Package:
    """An opened package: its folder, and the path of its model below it."""

    folder: Path
    model: str

    def read_model(self) -> bytes:
        """The bytes of the model."""
        with open_plain(self.folder, self.model) as file:
            return file.read(MAX_MODEL_BYTES + 1)

    def map(self, name: str) -> npt.NDArray[np.uint8]:
        """A file that the program names by ``@model_path/…``, as read-only bytes over a memory map."""
        if not name.startswith(MODEL_PATH):
            raise BundleError(f"{self.folder.name}: the program names a file {name!r}; expected {MODEL_PATH}…")
        path = f"{self.model.rpartition('/')[0]}/{safe_path(name.removeprefix(MODEL_PATH))}"
        with open_plain(self.folder, path) as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                raise BundleError(f"{path}: is empty")
            return np.frombuffer(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ), np.uint8)


def open_package(folder: Path) -> Package:
    """Find the model of a package through its manifest.

    Raises:
        BundleError: no manifest, a damaged one, or one that names no model inside the package.
    """
    with open_plain(folder, MANIFEST) as file:
        root = parse_json(file.read(MAX_MANIFEST_BYTES + 1), MANIFEST, limit=MAX_MANIFEST_BYTES)
    items = root.get("itemInfoEntries") if isinstance(root, dict) else None
    identifier = root.get("rootModelIdentifier") if isinstance(root, dict) else None
    item = items.get(identifier) if isinstance(items, dict) and isinstance(identifier, str) else None
    path = item.get("path") if isinstance(item, dict) else None
    if not isinstance(path, str):
        raise BundleError(f"{folder.name}: {MANIFEST} names no root model; convert the model again")
    return Package(folder, f"Data/{safe_path(path)}")
