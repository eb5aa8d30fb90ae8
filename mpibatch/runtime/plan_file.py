"""The plan's file: all items' paths, found by number without reading the rest.

Layout, little-endian, each section beginning at a multiple of 8:

    preamble   64 bytes: magic, version, where the header lies, the file's length, a check value
    names      each item's name in its folder, followed by a NUL, in the order of the items
    index      uint64: where each group of items begins in `names`, and one more: where the last one ends
    folders    each run's folder, with a slash at its end, followed by a NUL
    runs       two uint64 each: its first item, counted over all inputs, and where its folder begins
    header     JSON: what there is, and where (`sections`); later kinds of input add keys and sections

A group is a mini-batch, or several small ones, and none crosses from one input into the next; a run is as
many items as follow each other in one folder. So the common case, a million files in a thousand folders,
takes a third of the bytes to hash, write and sync that whole paths would, and an eighth of an index.

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
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

from mpibatch.errors import StorageError
from mpibatch.runtime.files import storage_error, sync_folder

VERSION = 1
_MAGIC = b"mpibplan"
_PREAMBLE = struct.Struct("<8sIIQQQ")
_PREAMBLE_SIZE = 64
_CHECK_SIZE = 16
_BLOCK = 4096
_LEAST_GROUP = 8
_BUFFER = 1 << 20
_MOST_MAPPED = 64 << 20
"""Bytes handed out after which the pages read so far are let go: they would count as ours."""

_REMEDY = "Start the run anew with --fresh."


def _check(preamble: bytes, header: bytes) -> bytes:
    return hashlib.blake2b(preamble + header, digest_size=_CHECK_SIZE).digest()


def _little_endian(numbers: array[int]) -> array[int]:
    """From this machine's order of bytes to the file's, or back."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


class PlanWriter:
    """A context that writes a plan file aside: `add` the items, then `finish`; else nothing is left."""

    def __init__(self, path: Path, mini_batch_size: int) -> None:
        self._path = path
        self._aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
        self._digest = hashlib.blake2b(digest_size=32, person=b"mpibatch plan")
        self._group = mini_batch_size * -(-_LEAST_GROUP // mini_batch_size)
        self._missing = 0
        """Items that the group begun last still lacks."""
        self._index = array("Q")
        self._length = 0
        self._items = 0
        self._earlier_items = 0
        self._folder = b""
        self._folders = bytearray()
        self._runs = array("Q")

    def __enter__(self) -> Self:
        with self._writing():
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

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(error, f"the plan {str(self._path)!r}") from error

    def add(self, folder: bytes, names: list[bytes]) -> None:
        """Append items to the current input: `names` (without slashes) in `folder` (a slash at its end)."""
        if folder != self._folder:
            self._folder = folder
            self._runs.extend((self._items, len(self._folders)))
            self._folders += folder + b"\0"
        for start in range(0, len(names), _BLOCK):
            self._add(names[start : start + _BLOCK])

    def _add(self, names: list[bytes]) -> None:
        group, missing = self._group, self._missing
        groups = [b"\0".join(names[start : start + group]) for start in range(missing, len(names), group)]
        if missing:  # These belong to a group that has begun already.
            groups.insert(0, b"\0".join(names[:missing]))
        begins = list(accumulate([len(joined) + 1 for joined in groups], initial=self._length))
        self._length = begins.pop()
        self._index.fromlist(begins[1:] if missing else begins)
        self._missing = (missing - len(names)) % group
        self._items += len(names)
        groups.append(b"")
        joined = b"\0".join(groups)
        self._digest.update(joined)
        with self._writing():
            self._file.write(joined)

    def end_input(self) -> int:
        """What is added from now on belongs to the next input. Returns the items of this one."""
        items = self._items - self._earlier_items
        self._earlier_items = self._items
        self._missing = 0
        return items

    def finish(self, header: dict[str, Any], identity: list[Any]) -> None:
        """Let the file appear under its name, durable. `identity`: what makes the plan, beside its paths."""
        self._index.append(self._length)
        runs = _little_endian(self._runs).tobytes()
        for part in (self._folders, runs, json.dumps(identity).encode()):
            self._digest.update(part)
        with self._writing():
            sections = {
                "names": self._section(self._length),
                "index": self._section(self._file.write(_little_endian(self._index).tobytes())),
                "folders": self._section(self._file.write(self._folders)),
                "runs": self._section(self._file.write(runs)),
            }
            fingerprint = self._digest.hexdigest()
            whole = {**header, "group": self._group, "fingerprint": fingerprint, "sections": sections}
            self._write_header(json.dumps({**whole, "runs_crc": zlib.crc32(runs)}).encode())
            self._file.flush()
            os.fsync(self._file.fileno())
            os.replace(self._aside, self._path)
            sync_folder(self._path.parent)

    def _section(self, length: int) -> list[int]:
        """Ends the section of `length` bytes that was just written: where it is."""
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
    """A plan file, mapped into memory. Opening reads its two ends and the runs. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handed_out = 0
        self._begins: memoryview | array[int] = array("Q")
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
            self._read_sections(self.header["sections"])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if isinstance(self._begins, memoryview):
            self._begins.release()  # A map cannot be closed before.
        self._map.close()

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
        return header

    def _read_sections(self, sections: dict[str, list[int]]) -> None:
        self._items: list[int] = [one["items"] for one in self.header["inputs"]]
        self._first_item = list(accumulate(self._items, initial=0))
        self._group: int = self.header["group"]
        self._first_group = list(accumulate((-(-items // self._group) for items in self._items), initial=0))
        self._names, self._names_length = sections["names"]
        start, length = sections["index"]
        if sys.byteorder == "little":
            self._begins = memoryview(self._map)[start : start + length].cast("Q")
        else:
            self._begins = _little_endian(array("Q", self._map[start : start + length]))
        if self._begins[self._first_group[-1]] != self._names_length:
            raise self._damaged("its names do not end where its index says")
        start, length = sections["runs"]
        raw = self._map[start : start + length]
        if zlib.crc32(raw) != self.header["runs_crc"]:
            raise self._damaged("its runs do not agree with their check value")
        runs = array("Q", raw)
        _little_endian(runs)
        self._run_begins, self._folder_begins = runs[::2], runs[1::2]
        self._run_begins.append(self._first_item[-1])
        self._folders = sections["folders"][0]
        self._folder_begins.append(sections["folders"][1])
        self._in_run = range(0)
        self._folder = b""

    def blob(self, number: int, first: int, count: int) -> bytes:
        """The paths of `count` items of input `number` from its item `first` on, joined by NUL.

        The items must be in the plan.
        """
        size = self._group
        group = first // size
        after = (first + count - 1) // size + 1
        begin = self._begins[self._first_group[number] + group]
        end = self._begins[self._first_group[number] + after]
        if not begin < end <= self._names_length:
            raise self._damaged(f"the index of item {first} of input {number} is out of range")
        names = self._map[self._names + begin : self._names + end - 1]
        there = min(after * size, self._items[number]) - group * size
        if names.count(0) != there - 1:
            raise self._damaged(f"the names from item {first} of input {number} on are not {there}")
        self._handed_out += end - begin
        if self._handed_out > _MOST_MAPPED:
            self._handed_out = 0
            self._map.madvise(mmap.MADV_DONTNEED)
        if there != count:
            skip = first - group * size
            names = b"\0".join(names.split(b"\0")[skip : skip + count])
        return self._in_folders(self._first_item[number] + first, count, names)

    def _in_folders(self, item: int, count: int, names: bytes) -> bytes:
        """The paths of `count` items from `item` on, counted over all inputs, whose names these are."""
        if item not in self._in_run:
            self._go_to_run(item)
        folder = self._folder
        if item + count <= self._in_run.stop:
            return folder + names.replace(b"\0", b"\0" + folder)
        paths = []
        for number, name in enumerate(names.split(b"\0"), item):
            if number not in self._in_run:
                self._go_to_run(number)
            paths.append(self._folder + name)
        return b"\0".join(paths)

    def _go_to_run(self, item: int) -> None:
        run = bisect_right(self._run_begins, item) - 1
        begin, end = self._folder_begins[run], self._folder_begins[run + 1]
        folder = self._map[self._folders + begin : self._folders + end]
        if not folder.endswith(b"/\0") or folder.count(0) != 1:
            raise self._damaged(f"the folder of item {item} is none")
        self._in_run = range(self._run_begins[run], self._run_begins[run + 1])
        self._folder = folder[:-1]

    def blocks(self) -> Iterator[list[bytes]]:
        """All paths in order, some thousands at a time."""
        step = self._group * -(-_BLOCK // self._group)
        for number, items in enumerate(self._items):
            for first in range(0, items, step):
                yield self.blob(number, first, min(step, items - first)).split(b"\0")
