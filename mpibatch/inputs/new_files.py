"""Files that a survey writes into the run folder: each appears whole or not at all, also after a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator

from mpibatch.inputs.origin import shown


class NoRoom(Exception):
    """A file of the run folder cannot be written; the text says where and why."""


@contextlib.contextmanager
def aside(target: bytes) -> Iterator[bytes]:
    """A path to write to, in the folder of `target`, which is made if it is missing.

    At the end what was written is made durable and gets its name; after an exception nothing is left. Raises
    NoRoom for what is done here; whoever writes there says so by `writing`.
    """
    path = b"%s.%s.partial" % (target, secrets.token_hex(4).encode())
    try:
        with writing(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
        yield path
        with writing(target):
            _sync(path)
            os.replace(path, target)
            _sync(os.path.dirname(target))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


@contextlib.contextmanager
def writing(target: bytes) -> Iterator[None]:
    """What the operating system refuses within is NoRoom."""
    try:
        yield
    except OSError as error:
        why = error.strerror or errno.errorcode.get(error.errno or 0, str(error))
        raise NoRoom(f"{shown(target)} cannot be written: {why}") from error


def _sync(path: bytes) -> None:
    """Of a file or of a folder."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
