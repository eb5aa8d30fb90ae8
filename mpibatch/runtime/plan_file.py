"""The plan's file: all items' paths, found by number without reading the rest.

What stands in it, in the form of a `plan_container`:

    names      each item's name in its folder, followed by a NUL, in the order of the items
    index      uint64: where each group of items begins in `names`, and one more: where the last one ends
    folders    each run's folder, with a slash at its end, followed by a NUL
    runs       two uint64 each: its first item, counted over all inputs, and where its folder begins

A group is a mini-batch, or several small ones, and none crosses from one input into the next; a run is as
many items as follow each other in one folder. So the common case, a million files in a thousand folders,
takes a third of the bytes to hash, write and sync that whole paths would, and an eighth of an index.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

from mpibatch.runtime.plan_container import Container, ContainerWriter, Section, little_endian, release

_MAGIC = b"mpibplan"
_BLOCK = 4096
_LEAST_GROUP = 8


class PlanWriter:
    """A context that writes a plan file aside: `add` the items, then `finish`; else nothing is left."""

    def __init__(self, path: Path, mini_batch_size: int) -> None:
        self._file = ContainerWriter(path, _MAGIC)
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
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

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
        runs = little_endian(self._runs).tobytes()
        for part in (self._folders, runs, json.dumps(identity).encode()):
            self._digest.update(part)
        sections = {
            "names": self._file.end_section(),
            "index": self._file.section([little_endian(self._index).tobytes()]),
            "folders": self._file.section([self._folders]),
            "runs": self._file.section([runs]),
        }
        fingerprint = self._digest.hexdigest()
        self._file.finish({**header, "group": self._group, "fingerprint": fingerprint, "sections": sections})


class PlanFile:
    """A plan file, mapped into memory. Opening reads its two ends and the runs. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        self._file = Container(path, _MAGIC)
        self._map = self._file.map
        self.header = self._file.header
        self._begins: memoryview | array[int] = array("Q")
        try:
            self._read_sections(self.header["sections"])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        release(self._begins)  # A map cannot be closed before.
        self._file.close()

    def _read_sections(self, sections: dict[str, Section]) -> None:
        self._items: list[int] = [one["items"] for one in self.header["inputs"]]
        self._first_item = list(accumulate(self._items, initial=0))
        self._group: int = self.header["group"]
        self._first_group = list(accumulate((-(-items // self._group) for items in self._items), initial=0))
        self._names, self._names_length, _ = sections["names"]
        self._begins = self._file.numbers(sections["index"], "Q")
        if self._begins[self._first_group[-1]] != self._names_length:
            raise self._file.damaged("its names do not end where its index says")
        self._read_runs(sections)

    def _read_runs(self, sections: dict[str, Section]) -> None:
        self._file.check("runs", sections["runs"])
        start, length, _ = sections["runs"]
        runs = little_endian(array("Q", self._map[start : start + length]))
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
            raise self._file.damaged(f"the index of item {first} of input {number} is out of range")
        names = self._map[self._names + begin : self._names + end - 1]
        there = min(after * size, self._items[number]) - group * size
        if names.count(0) != there - 1:
            raise self._file.damaged(f"the names from item {first} of input {number} on are not {there}")
        self._file.hand_out(end - begin)
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
            raise self._file.damaged(f"the folder of item {item} is none")
        self._in_run = range(self._run_begins[run], self._run_begins[run + 1])
        self._folder = folder[:-1]

    def blocks(self) -> Iterator[list[bytes]]:
        """All paths in order, some thousands at a time."""
        step = self._group * -(-_BLOCK // self._group)
        for number, items in enumerate(self._items):
            for first in range(0, items, step):
                yield self.blob(number, first, min(step, items - first)).split(b"\0")
