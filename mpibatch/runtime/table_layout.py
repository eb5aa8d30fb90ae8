"""The file of a plan whose mini-batches vary in size (tables, archives): what lies where in it.

Little-endian, each section beginning at a multiple of 8:

    preamble   64 bytes: magic, version, where the header lies, the file's length, a check value
    of each input, one after the other:
      texts         names, paths and errors of its files, and what readers need to know
      files         a `FILE` each
      mini_batches  a `MINI_BATCH` each
      keys          the values of partition keys, msgpack, each kind of values once in a row
      key_index     two uint64 for each mini-batch: where its values begin and end in `keys`
      names         of archives: the names of the members, each followed by a NUL
      name_index    uint64: where the names of each mini-batch begin, and last where those of the last one end
      members       of archives: two int64 each, where its bytes begin and how many they are
      parts         of tables by partition keys, instead of mini_batches: a `PART` each
      part_index    uint64: the first part of each mini-batch, and last the number of all parts
      firsts        of inputs by partition keys: uint64, position in the input of each mini-batch's first item
    Files by partition keys have no files, but the paths of each mini-batch as names.
    rows       uint32: the items of each mini-batch of all inputs
    header     JSON: the inputs with their sections (begin, length, CRC-32), and what the run wants to know

What every lookup needs (rows) is small, checked when the file is opened, and lies together; the rest is read
where it is needed. Ten million mini-batches of a table take 320 MB. As in `plan_file`, the header lies last
and the preamble is written last.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
import sys
from array import array
from pathlib import Path
from typing import Any

import msgspec

from mpibatch.errors import StorageError

VERSION = 1
MAGIC = b"mpibtabl"
PREAMBLE = struct.Struct("<8sIIQQQ")
PREAMBLE_SIZE = 64
_CHECK_SIZE = 16

MINI_BATCH = struct.Struct("<qqqI")
"""start, stop, row of its first item in the file, number of the file in its input. Of archives, start and stop
count the members of the input."""
FILE = struct.Struct("<QIQIQIIqqq")
"""Where path, name and error are in `texts` (begin and length of each), flags, number of its first item in
the input, size, mtime_ns."""
PAIR = struct.Struct("<QQ")
NUMBER = struct.Struct("<Q")
PART = struct.Struct("<qqqqqII")
"""start, stop, row, rows and skip as in `work.Slice`, rows that belong to the mini-batch, number of the file."""
WHOLE = 1
FAILED = 2
SORTED = 4
"""It is a sorted copy of rows of the file called `name`."""

REMEDY = "Start the run anew with --fresh."


def check_value(preamble: bytes, header: bytes) -> bytes:
    return hashlib.blake2b(preamble + header, digest_size=_CHECK_SIZE).digest()


def little_endian(numbers: array[int]) -> array[int]:
    """From this machine's order of bytes to the file's, or back."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def is_table_plan(path: Path) -> bool:
    """Whether the plan at `path` is of this form; False where it is missing or of another one."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class StoredFile(msgspec.Struct, frozen=True):
    """A file of an input, as the plan has it."""

    number: int
    path: bytes
    name: bytes
    error: str | None
    whole: bool
    sorted: bool
    first_item: int
    size: int
    mtime_ns: int


class MappedPlan:
    """A plan's file, mapped into memory, with its header read and checked. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < PREAMBLE_SIZE:
                    raise self.damaged(f"it has {size} bytes")
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError as error:
            raise StorageError(f"the run's plan {str(path)!r} is missing. {REMEDY}") from error
        except OSError as error:
            raise StorageError(f"the run's plan {str(path)!r} cannot be read: {error.strerror}.") from error
        try:
            self.header = self._read_header(size)
        except BaseException:
            self.map.close()
            raise

    def damaged(self, how: str) -> StorageError:
        return StorageError(
            f"{str(self._path)!r} is not a whole plan of mpibatch: {how}. It was cut short, changed, or is"
            f" another's file. {REMEDY}"
        )

    def _read_header(self, size: int) -> dict[str, Any]:
        preamble = self.map[: PREAMBLE.size]
        magic, version, _, start, length, whole = PREAMBLE.unpack(preamble)
        if magic != MAGIC:
            raise self.damaged("it does not begin like one of tables")
        if version != VERSION:
            raise StorageError(
                f"the run's plan {str(self._path)!r} has the form {version}, and this mpibatch reads form"
                f" {VERSION}: use the version of mpibatch that began the run, or start it anew with --fresh."
            )
        if whole != size or start + length != size:
            raise self.damaged(f"it has {size:,} bytes, and {whole:,} were written")
        raw = self.map[start:size]
        if self.map[PREAMBLE.size : PREAMBLE.size + _CHECK_SIZE] != check_value(preamble, raw):
            raise self.damaged("its header does not agree with its check value")
        header: dict[str, Any] = json.loads(raw)
        return header
