"""Journals and row segments as files: one of each a session, written by that session alone.

A journal is a header of 64 bytes and records of `core.history`. A later session seals it at its last
valid record by writing down how many there were; nothing is ever truncated, and what a session that
was thought dead may still append does not count.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

from mpibatch.core import history
from mpibatch.errors import StorageError
from mpibatch.outputs.assemble import write_all
from mpibatch.runtime.files import naming, storing, sync_folder, write_whole
from mpibatch.runtime.run_folder import RunFolder

if TYPE_CHECKING:
    from mpibatch.core.history import Facts, Records

_HEADER = struct.Struct("<8sII32sQII")
_MAGIC = b"mpibjrnl"
_VERSION = 1
HEADER_SIZE = _HEADER.size


def _header(session: int, plan_fingerprint: str) -> bytes:
    digest = bytes.fromhex(plan_fingerprint)[:32].ljust(32, b"\0")
    head = _HEADER.pack(_MAGIC, _VERSION, session, digest, history.RECORD_SIZE, 0, 0)
    return head[:-4] + struct.pack("<I", zlib.crc32(head[:-4]))


class Journal:
    """The journal and the row segment of the running session. Not thread-safe: the writer thread's own."""

    def __init__(self, folder: RunFolder, session: int, plan_fingerprint: str) -> None:
        """Claims the session's number. FileExistsError: another start has just claimed it."""
        self._session = session
        self._places = 0
        self._journal, self._rows = folder.journal(session), folder.rows(session)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._journal_fd = os.open(self._journal, flags, 0o666)
        try:
            self._rows_fd = os.open(self._rows, flags, 0o666)
        except BaseException:
            os.close(self._journal_fd)
            raise
        try:
            with naming(self._journal):
                write_all(self._journal_fd, _header(session, plan_fingerprint))
                os.fsync(self._journal_fd)
            with naming(self._rows):
                os.fsync(self._rows_fd)
            sync_folder(folder.private)
        except BaseException:
            self.close()
            raise

    def append_rows(self, data: bytes) -> None:
        """Append to the row segment; durable after `commit`."""
        with naming(self._rows):
            write_all(self._rows_fd, data)

    def commit(self, records: bytes) -> Records:
        """Make durable what the records name, then the records themselves. Returns them as read back."""
        # The segment before its records, so that a record never names bytes that are not there.
        with naming(self._rows):
            os.fdatasync(self._rows_fd)
        sealed = history.seal(records, self._session, self._places)
        with naming(self._journal):
            write_all(self._journal_fd, sealed)
            os.fdatasync(self._journal_fd)
        self._places += len(records) // history.RECORD_SIZE
        return history.as_records(sealed)

    def close(self) -> None:
        os.close(self._journal_fd)
        os.close(self._rows_fd)


def read_journal(folder: RunFolder, session: int, plan_fingerprint: str) -> tuple[Records, int]:
    """The valid records of one session that count (see `write_about`), and how many are damaged.

    StorageError if the file is not a journal of this plan.
    """
    data = _map(folder, session, plan_fingerprint)
    return (
        (history.as_records(b""), 0)
        if data is None
        else history.unseal(_body(folder, session, data), session)
    )


def add_journal(
    facts: Facts, folder: RunFolder, session: int, plan_fingerprint: str, *, known_as: int | None = None
) -> int:
    """Take in the records that `read_journal` gives; how many are damaged. Of a long journal little is in memory at a
    time. `known_as`: the number that the session has in `facts`, where those are of several runs."""
    data = _map(folder, session, plan_fingerprint)
    if data is None:
        return 0
    let_go = partial(data.madvise, mmap.MADV_DONTNEED)
    records, damaged = history.unseal(_body(folder, session, data), session, let_go)
    return damaged + history.add_records(facts, records, known_as or session, let_go)


def _map(folder: RunFolder, session: int, plan_fingerprint: str) -> mmap.mmap | None:
    """A session's journal; None if the session was killed while it began."""
    path = folder.journal(session)
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < HEADER_SIZE:
                return None
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror or error}. Repair the storage, then start again;"
            " or begin anew with --fresh."
        ) from error
    if data[:HEADER_SIZE] != _header(session, plan_fingerprint):
        raise StorageError(
            f"{path} is damaged or belongs to another plan: its header is not that of session {session} of this"
            " run. Restore it from a backup, or begin anew with --fresh."
        )
    return data


def _body(folder: RunFolder, session: int, data: mmap.mmap) -> memoryview:
    """The records that count."""
    body = memoryview(data)[HEADER_SIZE:]
    sealed = _sealed_at(folder, session)
    return body if sealed is None else body[: sealed * history.RECORD_SIZE]


def _sealed_at(folder: RunFolder, session: int) -> int | None:
    """How many places of a session's journal its first successor found valid; None if none has looked."""
    damage: StorageError | None = None
    for later in folder.sessions():
        if later > session:
            try:
                seals: dict[str, int] = read_about(folder, later)["seals"]
            except StorageError as error:
                # The next one has looked at that seal too when it made its own.
                damage = damage or error
                continue
            if str(session) in seals:
                return seals[str(session)]
    if damage is not None:
        raise damage
    return None


def read_about(folder: RunFolder, session: int) -> dict[str, Any]:
    """What a session wrote of itself when it began: "seals", and "workers" with the log files of each."""
    path = folder.about(session)
    try:
        about: dict[str, Any] = json.loads(path.read_bytes())
        if about.pop("check") != _check(about):
            raise ValueError("its check value differs")
        return {"seals": dict(about["seals"]), "workers": list(about["workers"])}
    except FileNotFoundError:  # Killed while it began.
        return {"seals": {}, "workers": []}
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise StorageError(
            f"{path} is damaged or cannot be read: {error}. Restore it from a backup, or begin anew with --fresh."
        ) from error


def read_workers(folder: RunFolder, session: int) -> list[dict[str, Any]]:
    """Who worked in a session; none where that is damaged, as names and log files are no reason to stop."""
    try:
        workers: list[dict[str, Any]] = read_about(folder, session)["workers"]
    except StorageError:
        return []
    return workers


def write_about(folder: RunFolder, session: int, workers: list[dict[str, Any]]) -> None:
    """Write down, for `session`, who works in it, and how long each older journal is now: no more counts."""
    seals = {}
    for older in folder.sessions():
        if older < session:
            size = max(0, folder.journal(older).stat().st_size - HEADER_SIZE)
            sealed = _sealed_at(folder, older)
            whole = size // history.RECORD_SIZE
            seals[str(older)] = whole if sealed is None else min(sealed, whole)
    about = {"seals": seals, "workers": workers}
    with storing(str(folder.about(session))):
        write_whole(folder.about(session), json.dumps({**about, "check": _check(about)}).encode())


def _check(about: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(about).encode())


def read_bytes(folder: RunFolder, session: int, offset: int, length: int) -> bytes:
    """Bytes of a session's row segment, fewer if it is shorter, none if it is gone: check values tell."""
    # Not by `open`, which takes ten times as long: a million failed mini-batches are read so.
    try:
        fd = os.open(folder.rows(session), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(fd, length, offset)
    finally:
        os.close(fd)
