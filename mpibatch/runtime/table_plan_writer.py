"""Writes the plan of tables and archives. What lies where in its file: `table_layout`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from mpibatch.inputs.archives import FoundMembers, SurveyedArchives
from mpibatch.inputs.key_batches import KeyBatches, unpack
from mpibatch.inputs.survey import Cut
from mpibatch.runtime.files import storage_error, sync_folder
from mpibatch.runtime.table_layout import (
    FAILED,
    FILE,
    MAGIC,
    MINI_BATCH,
    PREAMBLE,
    PREAMBLE_SIZE,
    SORTED,
    VERSION,
    WHOLE,
    check_value,
    little_endian,
)
from mpibatch.runtime.table_plan_keys import Group, joined_paths, packed_parts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BUFFER = 1 << 20
_BLOCK = 4096
"""Files whose mini-batches are written at a time."""


class PlannedFile(msgspec.Struct, frozen=True):
    """A file of a table or an archive, as the plan notes it."""

    path: bytes
    """Where it is read: of an unpacked file, where it was unpacked to. It is no part of the fingerprint."""
    name: bytes
    """What people know it by: where the user has put it."""
    size: int
    """Of the file called `name`, as `mtime_ns`: both are part of the fingerprint."""
    mtime_ns: int


class TablePlanWriter:
    """A context that writes a plan aside: add the inputs in order, then `finish`; else nothing is left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
        self._digest = hashlib.blake2b(digest_size=32, person=b"mpibatch tables")
        self._inputs: list[dict[str, Any]] = []
        self._rows = array("I")

    def __enter__(self) -> Self:
        with self._writing():
            # What was killed while it planned: whoever writes here holds the run folder's lease.
            for stale in self._path.parent.glob(f"{self._path.name}.*.partial"):
                stale.unlink(missing_ok=True)
            self._file = self._aside.open("wb", buffering=_BUFFER)
            self._file.write(bytes(PREAMBLE_SIZE))
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

    def add_table(
        self,
        kind: str,
        text: str,
        options: Mapping[str, Any],
        setup: bytes,
        files: Sequence[PlannedFile],
        cuts: Sequence[Cut],
        keys: Iterable[Mapping[str, Any]] | None = None,
    ) -> None:
        """Append a table. `cuts`: one a file. `keys`: values of the partition keys, for each mini-batch in order."""
        with self._writing():
            entry = self._begin(kind, text, options, setup, files, cuts)
            if keys is not None:
                self._write_keys(entry, keys)

    def add_archives(
        self,
        text: str,
        options: Mapping[str, Any],
        files: Sequence[PlannedFile],
        surveyed: SurveyedArchives,
        mini_batch_size: int,
    ) -> None:
        """Append archives, cut into mini-batches of at most `mini_batch_size` members, none across archives."""
        with self._writing():
            found = [_one_failed() if one.error is not None else one for one in surveyed.archives]
            cuts = list(_archive_cuts(surveyed.archives, mini_batch_size))
            entry = self._begin("archive", text, options, b"", files, cuts)
            self._write_names(entry, found, mini_batch_size)
            self._write_members(entry, found)

    def add_keyed_table(
        self,
        kind: str,
        text: str,
        options: Mapping[str, Any],
        setup: bytes,
        files: Sequence[PlannedFile],
        cuts: Sequence[Cut],
        copies: Sequence[PlannedFile],
        names: Sequence[str],
        batches: KeyBatches,
    ) -> None:
        """Append a table by partition keys, which `names` are. `cuts`: one for each of `files`, to tell which are
        whole or failed. `copies`: files that `batches` number behind these, sorted."""
        with self._writing():
            entry = self._introduce(kind, text, options, setup)
            entry["mini_batches"] = self._section([])
            forms = [(_flags(cut), cut.error, 0) for cut in cuts] + [(SORTED, None, 0)] * len(copies)
            self._write_files(entry, [*files, *copies], forms, setup)
            entry["copies"] = len(copies)
            index = array("Q", [0])
            entry["parts"] = self._section(packed_parts(batches, index), hashed=True)
            entry["part_index"] = self._section([little_endian(index).tobytes()], hashed=True)
            rows = [batches.rows(number) for number in range(len(batches))]
            self._write_counts(entry, rows)
            self._write_keys(entry, (dict(zip(names, unpack(key))) for key in batches.keys))

    def add_groups(self, text: str, groups: Iterable[Group]) -> None:
        """Append files by partition keys: a mini-batch each."""
        with self._writing():
            entry = self._introduce("files", text, {}, b"")
            entry["mini_batches"] = self._section([])
            self._write_files(entry, [], [], b"")
            keys: list[Mapping[str, Any]] = []
            rows: list[int] = []
            index = array("Q", [0])
            entry["names"] = self._section(joined_paths(groups, keys, rows, index), hashed=True)
            entry["name_index"] = self._section([little_endian(index).tobytes()])
            self._write_counts(entry, rows)
            self._write_keys(entry, keys)

    def finish(self, header: Mapping[str, Any], identity: list[Any]) -> None:
        """Let the file appear under its name, durable. `identity`: what makes the plan, beside its inputs."""
        self._hash(json.dumps(identity, sort_keys=True).encode())
        with self._writing():
            rows = little_endian(self._rows).tobytes()
            whole = {
                **header,
                "inputs": self._inputs,
                "rows": self._section([rows]),
                "fingerprint": self._digest.hexdigest(),
            }
            self._write_header(json.dumps(whole).encode())
            self._file.flush()
            os.fsync(self._file.fileno())
            os.replace(self._aside, self._path)
            sync_folder(self._path.parent)

    def _write_header(self, header: bytes) -> None:
        start = self._file.tell()
        preamble = PREAMBLE.pack(MAGIC, VERSION, 0, start, len(header), start + len(header))
        self._file.write(header)
        self._file.seek(0)
        self._file.write(preamble + check_value(preamble, header))

    def _section(self, parts: Iterable[bytes], *, hashed: bool = False) -> list[int]:
        """Write a section; returns where it is, and its check value."""
        start, crc = self._file.tell(), 0
        for part in parts:
            self._file.write(part)
            crc = zlib.crc32(part, crc)
            if hashed:
                self._digest.update(part)
        length = self._file.tell() - start
        if hashed:
            self._digest.update(length.to_bytes(8, "little"))
        self._file.write(bytes(-length % 8))
        return [start, length, crc]

    def _hash(self, *parts: bytes) -> None:
        """Each with its length, so that no two plans look alike because something moved over."""
        for part in parts:
            self._digest.update(len(part).to_bytes(8, "little") + part)

    # Files and mini-batches

    def _begin(
        self,
        kind: str,
        text: str,
        options: Mapping[str, Any],
        setup: bytes,
        files: Sequence[PlannedFile],
        cuts: Sequence[Cut],
    ) -> dict[str, Any]:
        if len(files) != len(cuts):
            raise ValueError(f"{len(files)} files and {len(cuts)} cuts")
        entry = self._introduce(kind, text, options, setup)
        before = len(self._rows)
        entry["mini_batches"] = self._section(self._mini_batches(cuts), hashed=True)
        items = [int(cut.rows.sum()) for cut in cuts]
        firsts = accumulate(items, initial=0)
        self._write_files(
            entry, files, [(_flags(cut), cut.error, first) for cut, first in zip(cuts, firsts)], setup
        )
        entry["count"] = len(self._rows) - before
        entry["items"] = sum(items)
        return entry

    def _introduce(self, kind: str, text: str, options: Mapping[str, Any], setup: bytes) -> dict[str, Any]:
        options_json = json.dumps(options, sort_keys=True)
        # What names files that are not UTF-8 has surrogates.
        self._hash(kind.encode(), text.encode("utf-8", "surrogateescape"), options_json.encode(), setup)
        self._inputs.append({"kind": kind, "text": text, "options": json.loads(options_json)})
        return self._inputs[-1]

    def _write_files(
        self,
        entry: dict[str, Any],
        files: Sequence[PlannedFile],
        forms: Sequence[tuple[int, str | None, int]],
        setup: bytes,
    ) -> None:
        """`forms`: of each file its flags, error, and the number of its first item."""
        texts = bytearray()
        entry["files"] = self._section(self._files(files, forms, texts))
        entry["setup"] = [len(texts), len(setup)]
        entry["texts"] = self._section([bytes(texts + setup)])

    def _mini_batches(self, cuts: Sequence[Cut]) -> Iterator[bytes]:
        for first in range(0, len(cuts), _BLOCK):
            records, rows = _records(cuts[first : first + _BLOCK], first)
            self._hash(rows)
            self._rows.frombytes(rows)
            yield records

    def _files(
        self, files: Sequence[PlannedFile], forms: Sequence[tuple[int, str | None, int]], texts: bytearray
    ) -> Iterator[bytes]:
        for file, (flags, why, first_item) in zip(files, forms, strict=True):
            self._hash(file.name, b"%d %d %d" % (file.size, file.mtime_ns, flags))
            path = _put(texts, file.path)
            name = path if file.name == file.path else _put(texts, file.name)
            error = _put(texts, (why or "").encode("utf-8", "surrogateescape"))
            yield FILE.pack(*path, *name, *error, flags, first_item, file.size, file.mtime_ns)

    # What only some inputs have

    def _write_counts(self, entry: dict[str, Any], rows: Sequence[int]) -> None:
        """Of mini-batches by keys: their rows, and at which positions in the input these begin."""
        counts = array("I", rows)
        firsts = array("Q", accumulate(rows, initial=0))
        del firsts[-1]
        entry["count"], entry["items"] = len(rows), sum(rows)
        self._rows += counts
        entry["firsts"] = self._section([little_endian(firsts).tobytes()], hashed=True)

    def _write_keys(self, entry: dict[str, Any], keys: Iterable[Mapping[str, Any]]) -> None:
        """Equal values of neighbours are written once."""
        index = array("Q")
        entry["keys"] = self._section(self._key_values(keys, index), hashed=True)
        if len(index) != 2 * entry["count"]:
            raise ValueError(f"keys of {len(index) // 2} mini-batches, and there are {entry['count']}")
        entry["key_index"] = self._section([little_endian(index).tobytes()], hashed=True)

    @staticmethod
    def _key_values(keys: Iterable[Mapping[str, Any]], index: array[int]) -> Iterator[bytes]:
        begin = end = 0
        last = b""
        for values in keys:
            encoded = msgspec.msgpack.encode(values)
            if encoded != last:
                begin, end, last = end, end + len(encoded), encoded
                yield encoded
            index.extend((begin, end))

    def _write_names(self, entry: dict[str, Any], found: Sequence[FoundMembers], size: int) -> None:
        index = array("Q")
        entry["names"] = self._section(_names(found, size, index), hashed=True)
        entry["name_index"] = self._section([little_endian(index).tobytes()])

    def _write_members(self, entry: dict[str, Any], found: Sequence[FoundMembers]) -> None:
        entry["members"] = self._section(map(_pairs, found), hashed=True)


def _flags(cut: Cut) -> int:
    return WHOLE * cut.whole | FAILED * (cut.error is not None)


def _put(texts: bytearray, text: bytes) -> tuple[int, int]:
    begin = len(texts)
    texts += text
    return begin, len(text)


def _records(cuts: Sequence[Cut], first: int) -> tuple[bytes, bytes]:
    """The mini-batches of some files, the first of which is number `first` of its input: records and rows."""
    import numpy as np

    counts = np.array([len(cut.rows) for cut in cuts], np.int64)
    for cut, count in zip(cuts, counts):
        if len(cut.starts) != count + 1 and (count or len(cut.starts) > 1):
            raise ValueError(f"{len(cut.starts)} starts for {count} mini-batches")
    rows = np.concatenate([cut.rows for cut in cuts]).astype(np.int64, copy=False)
    if len(rows) and not 0 < rows.min() <= rows.max() < 1 << 32:
        raise ValueError("a mini-batch without rows, or with four billions of them")
    before = np.concatenate(([0], np.cumsum(rows)))
    of_file = np.concatenate(([0], np.cumsum(counts)))[:-1]
    dtype = np.dtype([("start", "<i8"), ("stop", "<i8"), ("row", "<i8"), ("file", "<u4")])
    assert dtype.itemsize == MINI_BATCH.size
    records = np.empty(len(rows), dtype)
    records["start"] = np.concatenate([cut.starts[:-1] for cut in cuts])
    records["stop"] = np.concatenate([cut.starts[1:] for cut in cuts])
    records["row"] = before[:-1] - np.repeat(before[of_file], counts)
    records["file"] = np.repeat(np.arange(first, first + len(cuts)), counts)
    return records.tobytes(), rows.astype(np.uint32).tobytes()


# Archives


def _one_failed() -> FoundMembers:
    """What stands for the members of an archive that cannot be read: one without a name."""
    import numpy as np

    return FoundMembers(b"", np.zeros(1, np.int64), np.zeros(1, np.int64))


def _archive_cuts(surveyed: Sequence[FoundMembers], size: int) -> Iterator[Cut]:
    """Starts and stops count the members of all archives of the input."""
    import numpy as np

    first = 0
    for one in surveyed:
        count = len(one.sizes) if one.error is None else 1
        starts = np.append(np.arange(0, count, size, dtype=np.int64), count) + first
        yield Cut(starts, np.diff(starts), whole=one.error is not None, error=one.error)
        first += count


def _names(found: Sequence[FoundMembers], size: int, index: array[int]) -> Iterator[bytes]:
    """The names of all members; fills the index with where those of each mini-batch begin."""
    import numpy as np

    begin = 0
    for one in found:
        if not len(one.sizes):
            continue
        names = one.names + b"\0"
        ends: NDArray[np.int64] = np.flatnonzero(np.frombuffer(names, np.uint8) == 0)
        if len(ends) != len(one.sizes) or len(ends) != len(one.offsets):
            raise ValueError(f"{len(ends)} names, {len(one.offsets)} offsets, {len(one.sizes)} sizes")
        index.append(begin)
        index.extend((begin + 1 + ends[size - 1 : -1 : size]).tolist())
        begin += len(names)
        yield names
    index.append(begin)


def _pairs(one: FoundMembers) -> bytes:
    import numpy as np

    return np.stack((one.offsets, one.sizes), axis=1).astype("<i8").tobytes()
