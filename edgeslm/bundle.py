"""A bundle on disk, opened without trusting it: paths stay inside, sizes and hashes match, data is mapped."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from edgeslm.errors import BundleError, MemoryLimitError
from edgeslm.files import open_plain
from edgeslm.manifest import FileEntry, Manifest, TargetEntry, read_manifest
from edgeslm.spec import DecoderSpec, spec_to_json

Check = Literal["fast", "full"]
HASHED_WHEN_LOADING = 64 << 20  # files up to this size are hashed by every load; `check="full"` hashes all
MAX_SMALL_FILE = 256 << 20  # the largest tokenizer.json in the field is about 40 MB


@dataclass(frozen=True)
class Bundle:
    """An opened bundle folder. Immutable; engines keep what they map alive themselves."""

    folder: Path
    manifest: Manifest
    _maps: WeakValueDictionary[str, npt.NDArray[np.uint8]] = field(
        default_factory=WeakValueDictionary, init=False, repr=False, compare=False
    )  # so that engines opened on one bundle share them

    @classmethod
    def open(cls, path: str | os.PathLike[str], check: Check = "fast") -> Bundle:
        """Read the manifest and check every file it lists.

        Args:
            path: the bundle's folder.
            check: "fast" compares sizes, and sha256 of files up to 64 MB; "full" hashes everything.

        Raises:
            BundleError: what is wrong, in which file.
        """
        folder = Path(path)
        if not folder.is_dir():
            kind = "is a file" if folder.exists() else "does not exist"
            raise BundleError(f"{folder}: {kind}; expected a bundle folder (edgeslm convert makes one)")
        bundle = cls(folder, read_manifest(folder))
        for name, entry in bundle.manifest.files.items():
            bundle._check_file(name, entry, check)
        return bundle

    @property
    def spec(self) -> DecoderSpec:
        """The decoder this bundle holds."""
        return self.manifest.spec

    def target(self, name: str) -> TargetEntry:
        """A converted form of the model, by name."""
        found = self.manifest.targets.get(name)
        if found is None:
            have = ", ".join(self.manifest.targets) or "none"
            raise BundleError(
                f"{self.folder}: no target {name!r} (it has: {have}); add it with edgeslm convert --to {name}"
            )
        return found

    def file(self, target: str, role: str) -> Path:
        """Path of a target's file by role, such as ("onnx", "model_all")."""
        files = self.target(target).files
        if role not in files:
            raise BundleError(f"{self.folder}: target {target!r} has no {role!r} file; it has {sorted(files)}")
        return self.folder / files[role]

    def fingerprint(self, target: str) -> str:
        """What a target computes, as a sha256: of the decoder and the target's files."""
        files = {role: self.manifest.files[name].sha256 for role, name in self.target(target).files.items()}
        return hashlib.sha256(json.dumps([spec_to_json(self.spec), files], sort_keys=True).encode()).hexdigest()

    def has(self, name: str) -> bool:
        """Does the bundle list a file of this name?"""
        return name in self.manifest.files

    def read(self, name: str) -> bytes:
        """The content of a small file (tokenizer.json, …)."""
        return bytes(self.map(name, limit=MAX_SMALL_FILE))

    def map(self, name: str, limit: int | None = None) -> npt.NDArray[np.uint8]:
        """A listed file as a read-only uint8 array over a memory map; of exactly the size the manifest gives."""
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"{self.folder}: no {name} in this bundle")
        if limit is not None and entry.bytes > limit:
            raise BundleError(f"{name}: {entry.bytes} bytes; expected at most {limit}")
        if (mapped := self._maps.get(name)) is None:
            mapped = self._maps[name] = self._map(name, entry)
        return mapped

    def _map(self, name: str, entry: FileEntry) -> npt.NDArray[np.uint8]:
        with open_plain(self.folder, name) as file:
            size = os.fstat(file.fileno()).st_size
            if size not in entry.sizes:
                raise _damaged(name, f"{entry.bytes} bytes", f"{size}")
            if not size:
                return np.empty(0, np.uint8)
            try:
                mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
            except OSError as error:
                raise MemoryLimitError(f"{name}: its {size} bytes cannot be mapped ({error.strerror})") from None
        return np.frombuffer(mapped, np.uint8)

    def _check_file(self, name: str, entry: FileEntry, check: Check) -> None:
        with open_plain(self.folder, name) as file:
            size = os.fstat(file.fileno()).st_size
            if size not in entry.sizes:
                raise _damaged(name, f"{entry.bytes} bytes", f"{size}")
            if check == "full" or size <= HASHED_WHEN_LOADING:
                found = hashlib.file_digest(file, "sha256").hexdigest()
                if found not in entry.hashes:
                    raise _damaged(name, f"sha256 {entry.sha256[:12]}…", f"{found[:12]}…")


def _damaged(name: str, expected: str, found: str) -> BundleError:
    return BundleError(
        f"{name}: expected {expected}, found {found}: the file was changed or cut since conversion; "
        "copy or convert it again"
    )
