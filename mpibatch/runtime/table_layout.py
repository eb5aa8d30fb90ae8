"""The file of a plan whose mini-batches vary in size (tables, archives): what lies where in it.

In the form of a `plan_container`:

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
    header     the inputs with their sections, and what the run wants to know

What every lookup needs (rows) is small, checked when the file is opened, and lies together; the rest is read
where it is needed. Ten million mini-batches of a table take 320 MB.
"""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec

from mpibatch.runtime.plan_container import has_magic

MAGIC = b"mpibtabl"

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


def is_table_plan(path: Path) -> bool:
    """Whether the plan at `path` is of this form; False where it is missing or of another one."""
    return has_magic(path, MAGIC)


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
