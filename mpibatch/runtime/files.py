"""Files that appear whole: written aside, fsynced, renamed. And what a failed write means, in words."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from mpibatch.errors import StorageError

_REMEDY = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "your quota is used up: make room",
    errno.EROFS: "the file system is read-only: name another folder with --output",
    errno.EACCES: "you may not write there: change the permissions or name another folder with --output",
    errno.EPERM: "you may not write there: change the permissions or name another folder with --output",
    errno.EFBIG: "a file is larger than the limit (ulimit -f): raise it",
    errno.EIO: "the storage failed: have it repaired",
}


def storage_error(error: OSError, what: str) -> StorageError:
    """The error that ends a session whose writing failed. `what`: what was being written."""
    remedy = _REMEDY.get(error.errno or 0, "repair the storage")
    return StorageError(
        f"{what} cannot be written: {error.strerror or error}. {remedy[0].upper()}{remedy[1:]}, then start again:"
        " what was finished is kept."
    )


@contextlib.contextmanager
def storing(what: str) -> Iterator[None]:
    """Turns an OSError into a StorageError that says what was being written."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, what) from error


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Has an OSError of a file descriptor say which file that is."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def aside_of(path: Path) -> Path:
    """What this process writes before it becomes the file."""
    return path.with_name(f"{path.name}.{os.getpid()}.partial")


def write_whole(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file that is there whole or not at all; `durable`: also after a power cut. Raises OSError."""
    aside = aside_of(path)
    try:
        with naming(path), open(aside, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with naming(folder):
            os.fsync(fd)
    finally:
        os.close(fd)
