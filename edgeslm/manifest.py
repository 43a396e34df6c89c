"""``edgeslm.json``: what a bundle holds. Read without trusting it, written in one piece.

format          {"name": "edgeslm-bundle", "version": "MAJOR.MINOR"}; a reader refuses another major
spec            the DecoderSpec
files           path in the bundle → bytes, sha256
targets         name ("onnx", …) → files by role, settings, the tensor table if it has one, what verification measured
provenance      source, model type, licence, version of edgeslm: for people; nothing depends on it
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from edgeslm.errors import BundleError, ModelFormatError
from edgeslm.files import open_plain
from edgeslm.formats import FORMATS, GROUP_SIZES, SCALE_EXPONENTS
from edgeslm.spec import DecoderSpec, spec_from_json, spec_to_json, tensor_shapes

NAME = "edgeslm.json"
FORMAT_NAME = "edgeslm-bundle"
FORMAT_VERSION = (2, 0)
MAX_MANIFEST_BYTES = 64 << 20
_RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


class FileEntry(NamedTuple):
    """One file of the bundle.

    ``previous`` is the content that a re-conversion was replacing under the same name: files are replaced just after
    the manifest, so a process killed in between leaves the old content, which is sound (only files for people and
    for other runtimes are ever replaced in place).
    """

    bytes: int
    sha256: str
    previous: FileEntry | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Acceptable sizes in bytes."""
        return (self.bytes, self.previous.bytes) if self.previous else (self.bytes,)

    @property
    def hashes(self) -> tuple[str, ...]:
        """Acceptable sha256 digests."""
        return (self.sha256, self.previous.sha256) if self.previous else (self.sha256,)


class PartEntry(NamedTuple):
    """Where one part of a tensor lies in the target's data file."""

    offset: int
    bytes: int


class TensorEntry(NamedTuple):
    """One weight: format, logical shape, and the place of its parts in ``file``."""

    format: str
    shape: tuple[int, ...]
    group_size: int  # 0 for formats without groups
    file: str
    parts: dict[str, PartEntry]
    scale_exponent: int = 0  # the part scales_f16 is times 2^this; 0 for formats without groups


@dataclass(frozen=True)
class TargetEntry:
    """One converted form of the model."""

    files: dict[str, str]  # role → path in the bundle
    settings: dict[str, Any]  # quantize, group_size, embed, …
    tensors: dict[str, TensorEntry] = field(default_factory=dict)
    verification: dict[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The settings in one line, without lists and tables."""
        return ", ".join(f"{k} {v}" for k, v in self.settings.items() if not isinstance(v, list | dict))


@dataclass(frozen=True)
class Manifest:
    """The whole of ``edgeslm.json``."""

    spec: DecoderSpec
    files: dict[str, FileEntry]
    targets: dict[str, TargetEntry]
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "format": {"name": FORMAT_NAME, "version": "{}.{}".format(*FORMAT_VERSION)},
            "provenance": self.provenance,
            "files": _plain(self.files),
            "targets": {k: _plain(vars(v)) for k, v in self.targets.items()},
            "spec": spec_to_json(self.spec),
        }

    def dumps(self) -> bytes:
        """The bytes of ``edgeslm.json``."""
        return (json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n").encode()


def _plain(value: Any) -> Any:
    """Named tuples within objects as objects."""
    found = value._asdict() if isinstance(value, FileEntry | TensorEntry | PartEntry) else value
    return {k: _plain(v) for k, v in found.items()} if isinstance(found, dict) else found


def parse_manifest(raw: bytes) -> Manifest:
    """Read the bytes of ``edgeslm.json``.

    Raises:
        BundleError: not JSON, not ours, another major version, or anything missing, misshapen or out of range.
    """
    root = _Reader(parse_json(raw, NAME), NAME)
    _check_version(root.child("format"))
    files = {safe_path(k): _file(v) for k, v in root.child("files").children()}
    spec = spec_from_json(root.get("spec", dict))
    targets = {k: _target(v, files, spec) for k, v in root.child("targets").children()}
    return Manifest(spec, files, targets, root.get("provenance", dict, {}))


def parse_json(
    raw: bytes, where: str, error: type[ModelFormatError] = BundleError, limit: int = MAX_MANIFEST_BYTES
) -> object:
    """Strict JSON from a stranger: UTF-8, no duplicate keys, no NaN, bounded size and nesting.

    Raises:
        error: it is anything else.
    """

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise error(f"{where}: an object has the same key twice")
        return result

    def no_constant(text: str) -> float:
        raise error(f"{where}: {text} is not JSON")

    if len(raw) > limit:
        raise error(f"{where}: {len(raw)} bytes; expected at most {limit}")
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=no_duplicates, parse_constant=no_constant)
    except RecursionError:
        raise error(f"{where}: nested too deeply") from None
    except ValueError as problem:  # JSONDecodeError, UnicodeDecodeError, an integer of too many digits
        raise error(f"{where}: not valid JSON ({problem}); get the file again") from None


def safe_path(path: str) -> str:
    """A relative path with forward slashes that stays inside its folder on every system, or BundleError."""
    parts = path.split("/")
    bad = (
        not path
        or len(path) > 512
        or any(ord(c) < 32 or c in '\\:*?"<>|' for c in path)
        or any(p in ("", ".", "..") or p.endswith((" ", ".")) or _RESERVED.match(p) for p in parts)
        or PurePosixPath(path).is_absolute()
        or path == NAME
    )
    if bad:
        raise BundleError(f"{NAME}: {path!r} is not a plain path inside the bundle")
    return path


class _Reader:
    """Typed access to one JSON object, with its place in every error."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise BundleError(f"{where}: expected an object, found {type(value).__name__}")
        self.value, self.where = value, where

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        if key not in self.value and default is not None:
            return default
        found = self.value.get(key)
        if type(found) is not kind:
            raise BundleError(f"{self.where}: {key}: expected {kind.__name__}, found {type(found).__name__}")
        return found

    def size(self, key: str) -> int:
        found = self.get(key, int)
        if not 0 <= found < 1 << 62:
            raise BundleError(f"{self.where}: {key}: {found} is not a size")
        return int(found)

    def child(self, key: str) -> _Reader:
        return _Reader(self.get(key, dict), f"{self.where}: {key}")

    def children(self) -> list[tuple[str, _Reader]]:
        return [(k, _Reader(v, f"{self.where}: {k}")) for k, v in self.value.items()]


def _check_version(r: _Reader) -> None:
    name, version = r.get("name", str), r.get("version", str)
    match = re.fullmatch(r"(\d{1,4})\.(\d{1,4})", version)
    if name != FORMAT_NAME or match is None:
        raise BundleError(f"{r.where}: expected {FORMAT_NAME} and MAJOR.MINOR, found {name!r} {version!r}")
    if int(match[1]) != FORMAT_VERSION[0]:
        newer = int(match[1]) > FORMAT_VERSION[0]
        todo = "upgrade edgeslm (pip install -U edgeslm)" if newer else "convert the model again, into an empty folder"
        raise BundleError(
            f"this bundle has format version {version}, and this edgeslm reads {FORMAT_VERSION[0]}.x: {todo}"
        )


def _file(r: _Reader) -> FileEntry:
    previous = _plain_file(r.child("previous")) if r.value.get("previous") is not None else None
    return _plain_file(r)._replace(previous=previous)


def _plain_file(r: _Reader) -> FileEntry:
    entry = FileEntry(r.size("bytes"), r.get("sha256", str))
    if not re.fullmatch("[0-9a-f]{64}", entry.sha256):
        raise BundleError(f"{r.where}: sha256 is not 64 hexadecimal digits")
    return entry


def _target(r: _Reader, files: dict[str, FileEntry], spec: DecoderSpec) -> TargetEntry:
    roles = {k: r.child("files").get(k, str) for k in r.get("files", dict)}
    for role, path in roles.items():
        if path not in files:
            raise BundleError(f"{r.where}: {role} names {path!r}, which the bundle's files do not list")
    table = _Reader(r.get("tensors", dict, {}), f"{r.where}: tensors")
    tensors = {k: _tensor(v, files) for k, v in table.children()}
    if tensors:
        _check_tensors(tensors, spec, r.where)
    return TargetEntry(roles, r.get("settings", dict, {}), tensors, r.get("verification", dict, {}))


def _tensor(r: _Reader, files: dict[str, FileEntry]) -> TensorEntry:
    name, group_size, path = r.get("format", str), r.size("group_size"), r.get("file", str)
    if name not in FORMATS:
        raise BundleError(f"{r.where}: unknown format {name!r}; this edgeslm knows {sorted(FORMATS)}")
    if path not in files:
        raise BundleError(f"{r.where}: lies in {path!r}, which the bundle's files do not list")
    shape = tuple(r.get("shape", list))
    if not 1 <= len(shape) <= 2 or not all(type(d) is int and 0 < d < 1 << 31 for d in shape):
        raise BundleError(f"{r.where}: shape {list(shape)} is not one or two positive dimensions")
    grouped = FORMATS[name].grouped
    if group_size not in (GROUP_SIZES if grouped else (0,)) or (grouped and len(shape) != 2):
        raise BundleError(f"{r.where}: format {name} with group_size {group_size} and shape {list(shape)}")
    found = {k: PartEntry(v.size("offset"), v.size("bytes")) for k, v in r.child("parts").children()}
    expected = FORMATS[name].layout(shape, group_size)
    if set(found) != set(expected):
        raise BundleError(f"{r.where}: expected parts {sorted(expected)}, found {sorted(found)}")
    for k, part in found.items():
        if part.bytes != expected[k].nbytes:
            raise BundleError(f"{r.where}: {k}: expected {expected[k].nbytes} bytes, found {part.bytes}")
        if part.offset % 16 or part.offset + part.bytes > files[path].bytes:
            raise BundleError(f"{r.where}: {k}: offset {part.offset} is unaligned or beyond the end of {path}")
    exponent = r.get("scale_exponent", int)
    if exponent not in (SCALE_EXPONENTS if grouped else (0,)):
        raise BundleError(f"{r.where}: format {name} with scale_exponent {exponent}")
    return TensorEntry(name, shape, group_size, path, found, exponent)


def _check_tensors(tensors: dict[str, TensorEntry], spec: DecoderSpec, where: str) -> None:
    expected = tensor_shapes(spec)
    missing, unexpected = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    misshapen = [
        f"{k}: {list(t.shape)}, expected {list(expected[k])}"
        for k, t in tensors.items()
        if k in expected and t.shape != expected[k]
    ]
    if missing or unexpected or misshapen:
        raise BundleError(
            f"{where}: the tensor table does not match the spec: missing {missing[:8]}, unexpected {unexpected[:8]}, "
            f"misshapen {misshapen[:8]}"
        )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle folder."""
    if not os.path.lexists(folder / NAME):
        raise BundleError(f"{folder}: no {NAME} here; make a bundle with: edgeslm convert CHECKPOINT {folder}")
    with open_plain(folder, NAME) as file:
        return parse_manifest(file.read(MAX_MANIFEST_BYTES + 1))
