"""The bundle transaction: a conversion killed at any moment leaves the old bundle, or none.

A new state is laid out whole in a staging folder inside the bundle, kept files as hard links, so it can be opened and
verified before anything changes. Committing then moves new files in under names that the old manifest does not
use, and renames the manifest over the old one: that rename is the commit point. Only afterwards are files replaced
that must keep their name for other readers (``REPLACEABLE``), and files removed that nothing names any more.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from edgeslm.errors import BundleError
from edgeslm.manifest import NAME, FileEntry, Manifest, read_manifest, safe_path

STAGING = ".edgeslm-staging"
OBSOLETE = ".obsolete"  # names to remove once the new manifest stands
# Read by people and by other runtimes only, so the moment between the two renames harms nobody.
REPLACEABLE = frozenset({"README.md", "genai_config.json"})


class Staging:
    """The next state of a bundle folder. Use :func:`stage`."""

    def __init__(self, folder: Path, old: Manifest | None) -> None:
        self.target, self.old = folder, old
        self.folder = folder / STAGING
        self.files: dict[str, FileEntry] = {}
        self._new: list[str] = []

    def free_name(self, stem: str, suffixes: tuple[str, ...]) -> str:
        """``stem``, or ``stem-2``, …: the first under which no suffix collides with a file that is there."""
        names = (stem, *(f"{stem}-{i}" for i in range(2, 1000)))
        return next(n for n in names if not any((self.target / (n + s)).exists() for s in suffixes))

    def keep(self, name: str) -> None:
        """Carry a file of the old bundle over as it is, without copying it."""
        assert self.old is not None
        destination = self._place(name)
        try:
            os.link(self.target / name, destination)
        except OSError:  # a file system without hard links
            shutil.copyfile(self.target / name, destination)
        self.files[name] = self.old.files[name]._replace(previous=None)

    def path(self, name: str) -> Path:
        """Where to write a new file; :meth:`add` it once it is complete."""
        return self._place(name)

    def add(self, name: str, sha256: str | None = None) -> None:
        """Take a file written at :meth:`path` into the bundle."""
        path = self.folder / name
        with path.open("rb+") as file:
            os.fsync(file.fileno())
            digest = sha256 or hashlib.file_digest(file, "sha256").hexdigest()
        self._register(name, FileEntry(path.stat().st_size, digest))

    def write(self, name: str, content: bytes) -> None:
        """Add a small file."""
        path = self._place(name)
        path.unlink(missing_ok=True)  # never write through a hard link into the old bundle
        path.write_bytes(content)
        self.add(name)

    def write_manifest(self, manifest: Manifest) -> None:
        """Complete the staged state, so that it opens as a bundle."""
        _write_synced(self.folder / NAME, manifest.dumps())
        _sync_folder(self.folder)

    def commit(self, manifest: Manifest) -> None:
        """Make the staged state the bundle."""
        self.write_manifest(manifest)
        old_files = self.old.files if self.old else {}
        replaced = [n for n in self._new if n in old_files]
        for name in self._new:
            if name not in old_files:
                (self.target / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).replace(self.target / name)
        for folder in sorted(folder for name in self._new for folder in _folders_of(name)):
            _sync_folder(self.target / folder)
        _sync_folder(self.target)
        obsolete = sorted(set(old_files) - set(manifest.files))
        (self.folder / OBSOLETE).write_text("\n".join(obsolete), "utf-8")
        (self.folder / NAME).replace(self.target / NAME)
        _sync_folder(self.target)
        for name in replaced:
            (self.folder / name).replace(self.target / name)
        for name in obsolete:
            _remove(self.target, name)
        _sync_folder(self.target)
        self.old = manifest

    def _place(self, name: str) -> Path:
        path = self.folder / safe_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _register(self, name: str, entry: FileEntry) -> None:
        before = self.old.files.get(name) if self.old else None
        if before and before.sha256 != entry.sha256:
            if name not in REPLACEABLE:
                raise BundleError(
                    f"{self.target}: already holds another {name}, so it is a bundle of another model or setting: "
                    "choose an empty folder"
                )
            entry = entry._replace(previous=FileEntry(before.bytes, before.sha256))
        self.files[name] = entry
        if name not in self._new:
            self._new.append(name)


@contextlib.contextmanager
def stage(folder: Path, old: Manifest | None) -> Iterator[Staging]:
    """Open the transaction on a folder (made if absent). Leaving without ``commit`` changes nothing.

    Raises:
        BundleError: another process is converting into the folder.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        _clear_leftovers(folder, old)
        staging = Staging(folder, old)
        staging.folder.mkdir()
        try:
            yield staging
        finally:
            shutil.rmtree(staging.folder, ignore_errors=True)
            if made and not any(folder.iterdir()):
                folder.rmdir()


def _clear_leftovers(folder: Path, old: Manifest | None) -> None:
    """Remove what a killed conversion left: its staging folder, and files of either state that nothing names now.

    Raises:
        BundleError: the folder holds files of somebody else; a conversion must not mix with them.
    """
    staged = folder / STAGING
    ours: set[str] = set()
    with contextlib.suppress(BundleError):
        ours.update(read_manifest(staged).files)
    with contextlib.suppress(BundleError, OSError):
        ours.update(safe_path(name) for name in (staged / OBSOLETE).read_text("utf-8").splitlines())
    if old is None:
        foreign = sorted({p.name for p in folder.iterdir()} - {STAGING} - {n.split("/")[0] for n in ours})
        if foreign:
            raise BundleError(f"{folder}: not empty (it holds {foreign[0]}) and no bundle; choose an empty folder")
    for name in ours - set(old.files if old else ()):
        _remove(folder, name)
    shutil.rmtree(staged, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold an advisory lock on the folder; released by the system when the process dies."""
    try:
        import fcntl
    except ImportError:  # Windows: no lock on folders; two conversions into one folder are then the user's to avoid
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BundleError(
            f"{folder}: another conversion is writing here; wait for it, or choose another folder"
        ) from None
    finally:
        os.close(descriptor)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _folders_of(name: str) -> list[str]:
    """The folders between the bundle and a file in it, innermost first: "a/b" and "a" of "a/b/c"."""
    return [str(parent) for parent in PurePosixPath(name).parents][:-1]


def _remove(folder: Path, name: str) -> None:
    """A file that may be gone already, and the folders that are empty without it."""
    (folder / name).unlink(missing_ok=True)
    for parent in _folders_of(name):
        try:
            (folder / parent).rmdir()
        except FileNotFoundError:
            continue
        except OSError:  # not empty
            break


def _sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
