"""A bundle on disk, opened without trusting it: paths stay inside, sizes and hashes match, data is mapped."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from weakref import WeakValueDictionary

from edgeslm.errors import BundleError, MemoryLimitError
from edgeslm.files import open_plain
from edgeslm.manifest import FileEntry, Manifest, TargetEntry, read_manifest
from edgeslm.spec import DecoderSpec, spec_to_json

Check = Literal["sizes", "fast", "full"]
HASHED: dict[Check, int] = {"sizes": -1, "fast": 64 << 20, "full": 1 << 62}  # files up to this size are hashed
MAX_SMALL_FILE = 256 << 20  # the largest tokenizer.json in the field is about 40 MB


@dataclass(frozen=True)
class Bundle:
    """An opened bundle folder. Immutable; engines keep what they map alive themselves."""

    folder: Path
    manifest: Manifest
    _maps: WeakValueDictionary[str, mmap.mmap] = field(
        default_factory=WeakValueDictionary, init=False, repr=False, compare=False
    )  # so that engines opened on one bundle share them

    @classmethod
    def open(cls, path: str | os.PathLike[str], check: Check = "fast") -> Bundle:
        """Read the manifest and check every file it lists.

        Args:
            path: the bundle's folder.
            check: how, as :meth:`begin_check` takes it.

        Raises:
            BundleError: what is wrong, in which file.
        """
        folder = Path(path)
        if not folder.is_dir():
            kind = "is a file" if folder.exists() else "does not exist"
            raise BundleError(f"{folder}: {kind}; expected a bundle folder (edgeslm convert makes one)")
        bundle = cls(folder, read_manifest(folder))
        bundle.begin_check(check)()
        return bundle

    def begin_check(self, how: Check) -> Callable[[], None]:
        """Compare the sizes of all files with what the manifest tells; what is returned goes on with their content.

        It does so mostly in one call for each file, the largest first, which leaves the interpreter free for others.

        Args:
            how: "fast" compares sha256 of files up to 64 MB, "full" of all, "sizes" of none: for whoever comes back.

        Raises:
            BundleError: what is wrong, in which file. The check that is returned raises it, too.
        """
        for name, entry in self.manifest.files.items():
            with open_plain(self.folder, name) as file:
                if (size := os.fstat(file.fileno()).st_size) not in entry.sizes:
                    raise _damaged(name, f"{entry.bytes} bytes", f"{size}")
        hashed = [name for name, entry in self.manifest.files.items() if entry.bytes <= HASHED[how]]
        contents = {name: self.map(name) for name in sorted(hashed, key=lambda name: -self.manifest.files[name].bytes)}
        return lambda: self._compare(contents)

    def _compare(self, contents: Mapping[str, memoryview]) -> None:
        for name, content in contents.items():
            entry, found = self.manifest.files[name], hashlib.sha256(content).hexdigest()
            if found not in entry.hashes:
                raise _damaged(name, f"sha256 {entry.sha256[:12]}…", f"{found[:12]}…")

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

    def map(self, name: str, limit: int | None = None) -> memoryview:
        """The bytes of a listed file, read-only over a memory map; of exactly the size the manifest gives."""
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"{self.folder}: no {name} in this bundle")
        if limit is not None and entry.bytes > limit:
            raise BundleError(f"{name}: {entry.bytes} bytes; expected at most {limit}")
        return memoryview(self._maps.get(name) or self._map(name, entry))

    def _map(self, name: str, entry: FileEntry) -> mmap.mmap | bytes:
        with open_plain(self.folder, name) as file:
            size = os.fstat(file.fileno()).st_size
            if size not in entry.sizes:
                raise _damaged(name, f"{entry.bytes} bytes", f"{size}")
            if not size:
                return b""
            try:
                mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
            except OSError as error:
                raise MemoryLimitError(f"{name}: its {size} bytes cannot be mapped ({error.strerror})") from None
        self._maps[name] = mapped
        return mapped


def _damaged(name: str, expected: str, found: str) -> BundleError:
    return BundleError(
        f"{name}: expected {expected}, found {found}: the file was changed or cut since conversion; "
        "copy or convert it again"
    )
