"""The plan's file: all items' paths, findable by number without reading the rest.

Layout, little-endian, each section beginning at a multiple of 8:

    preamble   64 bytes: magic, version, where the header lies, the file's length, a check value
    paths      each item's path followed by a NUL, in the order of the items
    offsets    uint64: where each item's path begins in `paths`, and one more: where the last one ends
    header     JSON: what there is, and where (`sections`); later kinds of input add keys and sections

The header lies last and the preamble is written last, because only then all is known: so the file is
written in one go, whatever the number of items. The preamble's check value covers the header too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import queue
import struct
import sys
import threading
from array import array
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, Self

from mpibatch.errors import StorageError
from mpibatch.runtime.files import storage_error, sync_folder

VERSION = 1
_MAGIC = b"mpibplan"
_PREAMBLE = struct.Struct("<8sIIQQQ")
_PREAMBLE_SIZE = 64
_CHECK_SIZE = 16
_OFFSET = struct.Struct("<Q")
_BLOCK = 4096
_BUFFER = 1 << 20
_MOST_MAPPED = 64 << 20
"""Bytes handed out after which the pages read so far are let go: they would count as ours."""

_REMEDY = "Start the run anew with --fresh."


def _check(preamble: bytes, header: bytes) -> bytes:
    return hashlib.blake2b(preamble + header, digest_size=_CHECK_SIZE).digest()


class _WriterThread(threading.Thread):
    """Hashes and writes in order what it is given, beside the walk: both let go of the interpreter."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(name="plan-writer", daemon=True)
        self.digest = hashlib.blake2b(digest_size=32, person=b"mpibatch plan")
        self._file = file
        self._blobs: queue.Queue[bytes | None] = queue.Queue(maxsize=4)
        self._error: OSError | None = None

    def run(self) -> None:
        while (blob := self._blobs.get()) is not None:
            # After an error the queue is still emptied, so that nobody waits at a full one.
            if self._error is None:
                try:
                    self.digest.update(blob)
                    self._file.write(blob)
                except OSError as error:
                    self._error = error

    def put(self, blob: bytes) -> None:
        """Raises the OSError of an earlier blob, if it failed."""
        if self._error is not None:
            raise self._error
        self._blobs.put(blob)

    def end(self) -> None:
        """Wait until all is written. Raises OSError."""
        if self.is_alive():
            self._blobs.put(None)
            self.join()
        if self._error is not None:
            raise self._error


class PlanWriter:
    """A context that writes a plan file aside: `add` the items, then `finish`; else nothing is left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
        self._offsets = array("Q", [0])
        self._blobs: list[bytes] = []
        self._pending = 0

    def __enter__(self) -> Self:
        with self._writing():
            # What was killed while it planned: whoever writes here holds the run folder's lease.
            for stale in self._path.parent.glob(f"{self._path.name}.*.partial"):
                stale.unlink(missing_ok=True)
            self._file = self._aside.open("wb")
            self._file.write(bytes(_PREAMBLE_SIZE))
        self._thread = _WriterThread(self._file)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._thread.end()
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._aside.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(error, f"the plan {str(self._path)!r}") from error

    @property
    def items(self) -> int:
        return len(self._offsets) - 1

    def add(self, prefix: bytes, names: list[bytes]) -> None:
        """Append the items `prefix + name` of `names`."""
        step = len(prefix) + 1
        between = b"\0" + prefix
        for start in range(0, len(names), _BLOCK):
            block = names[start : start + _BLOCK]
            # The last offset, where this block begins, is taken out and comes back as the first of these.
            begin = self._offsets.pop()
            self._offsets.fromlist(list(accumulate([step + len(name) for name in block], initial=begin)))
            self._blobs += (prefix, between.join(block), b"\0")
            self._pending += self._offsets[-1] - begin
            if self._pending >= _BUFFER:
                self._hand_over()

    def _hand_over(self) -> None:
        with self._writing():
            self._thread.put(b"".join(self._blobs))
        self._blobs.clear()
        self._pending = 0

    def finish(self, header: dict[str, Any], identity: list[Any]) -> None:
        """Let the file appear under its name, durable. `identity`: what makes the plan, beside its paths."""
        self._hand_over()
        if sys.byteorder == "big":
            self._offsets.byteswap()
        with self._writing():
            self._thread.end()
            self._thread.digest.update(json.dumps(identity).encode())
            paths = self._section(self._file.tell() - _PREAMBLE_SIZE)
            self._file.write(self._offsets)
            offsets = self._section(len(self._offsets) * _OFFSET.size)
            header = {
                **header,
                "items": self.items,
                "fingerprint": self._thread.digest.hexdigest(),
                "sections": {"paths": paths, "offsets": offsets},
            }
            self._write_header(json.dumps(header).encode())
            self._file.flush()
            os.fsync(self._file.fileno())
            os.replace(self._aside, self._path)
            sync_folder(self._path.parent)

    def _section(self, length: int) -> list[int]:
        """Ends the section just written; its place and length."""
        start = self._file.tell() - length
        self._file.write(bytes(-length % 8))
        return [start, length]

    def _write_header(self, header: bytes) -> None:
        start = self._file.tell()
        preamble = _PREAMBLE.pack(_MAGIC, VERSION, 0, start, len(header), start + len(header))
        self._file.write(header)
        self._file.seek(0)
        self._file.write(preamble + _check(preamble, header))


class PlanFile:
    """A plan file, mapped into memory. Opening reads its two ends only. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handed_out = 0
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < _PREAMBLE_SIZE:
                    raise self._damaged(f"it has {size} bytes")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError as error:
            raise StorageError(f"the run's plan {str(path)!r} is missing. {_REMEDY}") from error
        except OSError as error:
            raise StorageError(f"the run's plan {str(path)!r} cannot be read: {error.strerror}.") from error
        try:
            self.header = self._read_header(size)
        except BaseException:
            self._map.close()
            raise

    def _damaged(self, how: str) -> StorageError:
        return StorageError(
            f"{str(self._path)!r} is not a whole plan of mpibatch: {how}. It was cut short, changed, or is"
            f" another's file. {_REMEDY}"
        )

    def _read_header(self, size: int) -> dict[str, Any]:
        preamble = self._map[: _PREAMBLE.size]
        magic, version, _, start, length, whole = _PREAMBLE.unpack(preamble)
        if magic != _MAGIC:
            raise self._damaged("it does not begin like one")
        if version != VERSION:
            raise StorageError(
                f"the run's plan {str(self._path)!r} has the form {version}, and this mpibatch reads form"
                f" {VERSION}: use the version of mpibatch that began the run, or start it anew with --fresh."
            )
        if whole != size or start + length != size:
            raise self._damaged(f"it has {size:,} bytes, and {whole:,} were written")
        raw = self._map[start:size]
        if self._map[_PREAMBLE.size : _PREAMBLE.size + _CHECK_SIZE] != _check(preamble, raw):
            raise self._damaged("its header does not agree with its check value")
        header: dict[str, Any] = json.loads(raw)
        self._paths, self._paths_length = header["sections"]["paths"]
        self._offsets, length = header["sections"]["offsets"]
        ends = length == (header["items"] + 1) * _OFFSET.size
        if not ends or self._offset(0) != 0 or self._offset(header["items"]) != self._paths_length:
            raise self._damaged("its paths do not end where its offsets say")
        return header

    def _offset(self, item: int) -> int:
        offset: int = _OFFSET.unpack_from(self._map, self._offsets + item * _OFFSET.size)[0]
        return offset

    def blob(self, first: int, count: int) -> bytes:
        """The paths of `count` items from item `first` on, joined by NUL. The items must be in the plan."""
        at = self._offsets + first * 8
        begin: int = _OFFSET.unpack_from(self._map, at)[0]
        end: int = _OFFSET.unpack_from(self._map, at + count * 8)[0]
        if not begin < end <= self._paths_length:
            raise self._damaged(f"the offsets of item {first} are out of range")
        blob = self._map[self._paths + begin : self._paths + end - 1]
        if blob.count(0) != count - 1:
            raise self._damaged(f"the paths from item {first} on are not {count}")
        self._handed_out += end - begin
        if self._handed_out > _MOST_MAPPED:
            self._handed_out = 0
            self._map.madvise(mmap.MADV_DONTNEED)
        return blob

    def close(self) -> None:
        self._map.close()
