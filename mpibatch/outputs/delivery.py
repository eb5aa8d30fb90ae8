"""A complete output file on its last way: a copy of it where the job wants one, then to its place, by rename."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

_AT_ONCE = 1 << 30
"""Bytes that the kernel is asked to copy in one call."""


class Delivery:
    """`final`: its place; `copy_to`: that of the copy, whose folder is made if it is not there."""

    def __init__(self, final: Path, copy_to: Path | None = None) -> None:
        self.final = final
        self.copy_to = copy_to

    def deliver(self, file: Path) -> None:
        """`file` is durable and lies on the file system of its place. First the copy, as without it the run is not
        complete. OSError names what could not be written."""
        if self.copy_to is not None:
            copy_whole(file, self.copy_to, of=self.final)
        os.replace(file, self.final)
        sync(self.final.parent)


def copy_whole(source: Path, target: Path, *, of: Path) -> None:
    """A copy that is there whole or not at all, in place of what was there. `of`: the place of the run's own output.
    OSError names `target`."""
    with _naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        # Always the same for one run, so that what a killed start has left is not left for ever.
        ours = blake2b(os.fsencode(of), digest_size=4).hexdigest()
        aside = target.with_name(f".{target.name}.{ours}.partial")
        aside.unlink(missing_ok=True)  # A start that is not dead yet goes on writing to that one.
        try:
            _copy(source, aside)
            os.replace(aside, target)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise
        sync(target.parent)


def sync(path: Path) -> None:
    """Make a file durable, whoever has written it, or the names in a folder. OSError names it."""
    with _naming(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _copy(source: Path, target: Path) -> None:
    """Its bytes only, and durable: a change of the one does not change the other."""
    with open(source, "rb") as read, open(target, "xb") as written:
        done = _copy_in_kernel(read.fileno(), written.fileno())
        read.seek(done)
        written.seek(done)
        shutil.copyfileobj(read, written, 1 << 20)
        written.flush()
        os.fsync(written.fileno())


def _copy_in_kernel(read: int, written: int) -> int:
    """How many bytes it has copied: those may be none, as not all file systems and kernels can."""
    done = 0
    with contextlib.suppress(OSError):  # A disk that is full is met again, where it is told of.
        while count := os.copy_file_range(read, written, _AT_ONCE, done, done):
            done += count
    return done


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
