"""Opening a bundle's files, which are plain ones below its folder and nothing else; and writing a file whole."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edgeslm.errors import BundleError


def open_plain(folder: Path, name: str) -> io.FileIO:
    """Open a regular file below folder for reading; no component of ``name`` may be a symbolic link."""
    path = folder
    for part in name.split("/"):
        path = path / part
        if path.is_symlink():
            raise BundleError(f"{name}: is a symbolic link; a bundle holds plain files (hard links are fine)")
    extra = (getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))  # not on every system
    flags = os.O_RDONLY | sum(extra)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise BundleError(f"{name}: missing from {folder}; copy the whole folder, or convert again") from None
    except OSError as error:
        raise BundleError(f"{name}: cannot be opened ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BundleError(f"{name}: is not a regular file")
    return io.FileIO(descriptor, "rb")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of ``path`` once it is complete and on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
