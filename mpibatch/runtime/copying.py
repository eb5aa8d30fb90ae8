"""Copies of one mini-batch's files, in a folder of their own.

A copy lies below that folder where its file lies below the root: so its name, and the names of the folders above it,
are those of the file, and files of one name in different folders stay apart.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mpibatch.inputs.origin import shown

_STRETCH = 1 << 20
"""Bytes that are read at once."""
_LONGEST_NAME = 255


class Copied(NamedTuple):
    """What became of the files, in their order."""

    paths: list[bytes]
    """Of each its copy; where it has none, the file itself."""
    trouble: str
    """Why the folder could not take all of them; empty: it could."""


class _NoPlace(Exception):
    """The folder does not take a copy."""


def copy_files(files: Sequence[bytes], folder: bytes, wanted: Callable[[], bool]) -> Copied:
    """Copy them into `folder`, which is made. `wanted`: asked before each; when it says no, the rest is left.

    A file that cannot be read, or is none (a folder, a pipe), has no copy and is no trouble: whoever opens it is
    told why by the system. Content, permissions and time are copied; links are followed.
    """
    paths: list[bytes] = []
    trouble = ""
    for position, file in enumerate(files):
        if trouble or not wanted():
            paths.append(file)
            continue
        try:
            paths.append(_copy(file, folder, position))
        except _NoPlace as error:
            trouble = str(error)
            paths.append(file)
    return Copied(paths, trouble)


def _copy(file: bytes, folder: bytes, position: int) -> bytes:
    """The path of the copy, or of the file itself if there is nothing to copy. Raises `_NoPlace`."""
    try:
        # Before it is opened: to open a pipe would wait, or take what is meant for the script.
        if not stat.S_ISREG(os.stat(file).st_mode):
            return file
        source = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return file
    copy = b""
    whole = False
    try:
        copy, target = _created(file, folder, position)
        try:
            whole = _fill(target, source)
        finally:
            os.close(target)
    except OSError as error:  # Not of reading, see `_fill`. A close may tell of a full disk too.
        whole = False
        raise _NoPlace(f"{shown(folder)}: {error.strerror}, at the copy of {shown(file)}") from None
    finally:
        os.close(source)
        if copy and not whole:
            _unlink(copy)
    return copy if whole else file


def _fill(target: int, source: int) -> bool:
    """Whether all could be read. OSError where it cannot be written."""
    while True:
        try:
            data = memoryview(os.read(source, _STRETCH))
        except OSError:
            return False
        if not data:
            break
        while data:
            data = data[os.write(target, data) :]
    try:
        status = os.fstat(source)
        os.fchmod(target, stat.S_IMODE(status.st_mode) & 0o777)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    except OSError:  # A file system without them, and they are nothing that is needed.
        pass
    return True


def _created(file: bytes, folder: bytes, position: int) -> tuple[bytes, int]:
    """A new file for the copy, where the file's path says if that is free and takes the name."""
    parts = [part for part in file.split(b"/") if part not in (b"", b".", b"..")]
    try:
        return _create(b"/".join([folder, *parts]))
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR):
            raise
    # It is listed twice, or its path differs only in dots from another one, or is too long below the folder.
    return _create(b"/".join([folder, b"%d" % position, parts[-1][-_LONGEST_NAME:]]))


def _create(path: bytes) -> tuple[bytes, int]:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _unlink(path: bytes) -> None:
    try:
        os.unlink(path)
    except OSError:  # Its folder goes with all that is in it.
        pass
