"""The file that a plan stands in, of whichever kind: sections, and a header that says where they are.

Little-endian, each section beginning at a multiple of 8:

    preamble   64 bytes: magic, version, where the header lies, the file's length, a check value
    sections   as the kind of plan has them: `plan_file`, `table_layout`
    header     JSON: what there is, and where; of each section its begin, length and CRC-32

The header lies last and the preamble is written last, because only then all is known: so the file is
written in one go, whatever the number of items. The preamble's check value covers the header too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from mpibatch.errors import RunFolderError, StorageError
from mpibatch.runtime.files import aside_of, storing, sync_folder

VERSION = 2
_PREAMBLE = struct.Struct("<8sIIQQQ")
_PREAMBLE_SIZE = 64
_CHECK_SIZE = 16
_ALIGNED = 8
_BUFFER = 1 << 20
_MOST_MAPPED = 64 << 20
"""Bytes handed out after which the pages read so far are let go: they would count as ours."""
_REMEDY = "Start the run anew with --fresh."

Section = list[int]
"""Begin, length and CRC-32; a list, as it travels in the header."""


def little_endian(numbers: array[int]) -> array[int]:
    """From this machine's order of bytes to the file's, or back."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def has_magic(path: Path, magic: bytes) -> bool:
    """Whether the file begins so; False where it is missing."""
    try:
        with open(path, "rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False


def _check(preamble: bytes, header: bytes) -> bytes:
    return hashlib.blake2b(preamble + header, digest_size=_CHECK_SIZE).digest()


class ContainerWriter:
    """A context that writes a plan aside: `write` the sections, then `finish`; else nothing is left.

    Whoever writes, within the context too, raises StorageError where the file cannot be written.
    """

    def __init__(self, path: Path, magic: bytes) -> None:
        self._path = path
        self._magic = magic
        self._aside = aside_of(path)
        self._begin = _PREAMBLE_SIZE
        """Of the section that is being written."""
        self._length = self._crc = 0

    def __enter__(self) -> Self:
        with self.writing():
            # What was killed while it planned: whoever writes here holds the run folder's lease.
            for stale in self._path.parent.glob(f"{self._path.name}.*.partial"):
                stale.unlink(missing_ok=True)
            self._file = self._aside.open("wb", buffering=_BUFFER)
            self._file.write(bytes(_PREAMBLE_SIZE))
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._aside.unlink(missing_ok=True)

    def writing(self) -> contextlib.AbstractContextManager[None]:
        return storing(f"the plan {str(self._path)!r}")

    def write(self, part: bytes | bytearray) -> None:
        """Append to the section that is being written."""
        with self.writing():
            self._file.write(part)
        self._length += len(part)
        self._crc = zlib.crc32(part, self._crc)

    def end_section(self) -> Section:
        """Where what was written since the last section's end is."""
        section = [self._begin, self._length, self._crc]
        padding = -self._length % _ALIGNED
        with self.writing():
            self._file.write(bytes(padding))
        self._begin += self._length + padding
        self._length = self._crc = 0
        return section

    def section(self, parts: Iterable[bytes | bytearray]) -> Section:
        for part in parts:
            self.write(part)
        return self.end_section()

    def finish(self, header: Mapping[str, Any]) -> None:
        """Let the file appear under its name, durable."""
        raw = json.dumps(header).encode()
        preamble = _PREAMBLE.pack(self._magic, VERSION, 0, self._begin, len(raw), self._begin + len(raw))
        with self.writing():
            self._file.write(raw)
            self._file.seek(0)
            self._file.write(preamble + _check(preamble, raw))
            self._file.flush()
            os.fsync(self._file.fileno())
            os.replace(self._aside, self._path)
            sync_folder(self._path.parent)


class Container:
    """A plan's file, mapped into memory, with its header read and checked. Raises StorageError, and RunFolderError
    where another version of mpibatch has written it."""

    def __init__(self, path: Path, magic: bytes) -> None:
        self._path = path
        self._handed_out = 0
        self.map = self._mapped(path)
        try:
            self.header = self._read_header(magic)
        except BaseException:
            self.close()
            raise

    def _mapped(self, path: Path) -> mmap.mmap:
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < _PREAMBLE_SIZE:
                    raise self.damaged(f"it has {size} bytes")
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError as error:
            raise StorageError(f"the run's plan {str(path)!r} is missing. {_REMEDY}") from error
        except OSError as error:
            raise StorageError(f"the run's plan {str(path)!r} cannot be read: {error.strerror}.") from error

    def _read_header(self, magic: bytes) -> dict[str, Any]:
        preamble = self.map[: _PREAMBLE.size]
        found, version, _, start, length, whole = _PREAMBLE.unpack(preamble)
        if found != magic:
            raise self.damaged("it does not begin like one")
        if not version:  # Pages that were never written are zeros.
            raise self.damaged("it names no version")
        if version != VERSION:
            raise RunFolderError(
                f"the run's plan {str(self._path)!r} has the form {version}, and this mpibatch reads form"
                f" {VERSION}: use the version of mpibatch that began the run, or start it anew with --fresh."
            )
        size = len(self.map)
        if whole != size or start + length != size:
            raise self.damaged(f"it has {size:,} bytes, and {whole:,} were written")
        raw = self.map[start:size]
        if self.map[_PREAMBLE.size : _PREAMBLE.size + _CHECK_SIZE] != _check(preamble, raw):
            raise self.damaged("its header does not agree with its check value")
        header: dict[str, Any] = json.loads(raw)
        return header

    def close(self) -> None:
        """What `numbers` has given must have been released before."""
        self.map.close()

    def damaged(self, how: str) -> StorageError:
        return StorageError(
            f"{str(self._path)!r} is not a whole plan of mpibatch: {how}. It was cut short, changed, or is"
            f" another's file. {_REMEDY}"
        )

    def check(self, name: str, section: Section) -> None:
        """Compares a section with its check value; `name` is for the message."""
        start, length, crc = section
        with memoryview(self.map)[start : start + length] as part:
            if zlib.crc32(part) != crc:
                raise self.damaged(f"its {name} do not agree with their check value")

    def numbers(self, section: Section, typecode: str) -> memoryview | array[int]:
        """A section of numbers, without a copy where this machine has the file's order of bytes."""
        start, length = section[:2]
        if sys.byteorder == "little":
            return memoryview(self.map)[start : start + length].cast(typecode)  # type: ignore[call-overload,no-any-return]
        return little_endian(array(typecode, self.map[start : start + length]))

    def hand_out(self, size: int) -> None:
        """Takes note of bytes that were copied from the map; lets pages go that were read long ago."""
        self._handed_out += size
        if self._handed_out > _MOST_MAPPED:
            self._handed_out = 0
            with contextlib.suppress(OSError):
                self.map.madvise(mmap.MADV_DONTNEED)


def release(numbers: memoryview | Sequence[int]) -> None:
    """Gives back what `Container.numbers` has given."""
    if isinstance(numbers, memoryview):
        numbers.release()
