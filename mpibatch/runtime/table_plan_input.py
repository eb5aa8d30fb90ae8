"""One input of the plan of tables and archives, as it stands in the mapped file."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import msgspec

from mpibatch.runtime.plan_container import Container, little_endian
from mpibatch.runtime.table_layout import FAILED, FILE, MINI_BATCH, PAIR, SORTED, WHOLE, StoredFile
from mpibatch.runtime.table_plan_keys import first_item, keyed_of
from mpibatch.work import Members, Piece

_NOTHING = [0, 0]


class TableSpec(msgspec.Struct, frozen=True):
    """What a processor has to know of an input to read it."""

    kind: str
    """csv, jsonl, parquet, hdf5, archive; of files by partition keys, files."""
    options: dict[str, Any]
    setup: bytes


class StoredInput:
    """An input's sections in the map. `rows`: items of its mini-batch of a number."""

    def __init__(self, plan: Container, entry: dict[str, Any], rows: Callable[[int], int]) -> None:
        self._plan = plan
        self._entry = entry
        self._map = plan.map
        self.kind: str = entry["kind"]
        self.archives = self.kind == "archive"
        self._records: int = entry["mini_batches"][0]
        self._files: int = entry["files"][0]
        self.file_count: int = entry["files"][1] // FILE.size
        self.copies: int = entry.get("copies", 0)
        """Of the files, the last ones are sorted copies of parts of those before them."""
        self._texts: int = entry["texts"][0]
        self._keys: list[int] | None = entry.get("keys")
        self._key_index: int = entry.get("key_index", _NOTHING)[0]
        self._names: list[int] = entry.get("names", _NOTHING)
        self._name_index: int = entry.get("name_index", _NOTHING)[0]
        self._members: list[int] = entry.get("members", _NOTHING)
        begin, length = entry["setup"]
        setup = self._map[self._texts + begin : self._texts + begin + length]
        self.spec = TableSpec(self.kind, entry["options"], setup)
        self._file = StoredFile(-1, b"", b"", None, False, False, 0, 0, 0)
        self.keyed = keyed_of(plan, entry, self._known_file, rows)

    def position(self, local: int) -> int:
        """Position in the input of a mini-batch's first item."""
        if self.keyed is not None:
            return first_item(self._plan, self._entry, local)
        _, _, row, file = self.record(local)
        return file.first_item + row

    def error(self, local: int) -> str | None:
        return self.record(local)[3].error if self.keyed is None else self.keyed.error(local)

    def _known_file(self, number: int) -> StoredFile:
        if number != self._file.number:
            self._file = self.file(number)
        return self._file

    def record(self, local: int) -> tuple[int, int, int, StoredFile]:
        """Start, stop, row and file of the input's mini-batch number `local`."""
        start, stop, row, number = MINI_BATCH.unpack_from(self._map, self._records + MINI_BATCH.size * local)
        if stop < start or row < 0:
            raise self._plan.damaged(f"mini-batch {local} of a {self.kind} input lies nowhere")
        return start, stop, row, self._known_file(number)

    def file(self, number: int) -> StoredFile:
        if number >= self.file_count:
            raise self._plan.damaged(f"there is no file {number} of a {self.kind} input")
        record = FILE.unpack_from(self._map, self._files + FILE.size * number)
        path, name, error = (self._text(*record[at : at + 2]) for at in (0, 2, 4))
        flags, first_item, size, mtime_ns = record[6:]
        words = error.decode("utf-8", "surrogateescape") if flags & FAILED else None
        whole, copy = bool(flags & WHOLE), bool(flags & SORTED)
        return StoredFile(number, path, name, words, whole, copy, first_item, size, mtime_ns)

    def _text(self, begin: int, length: int) -> bytes:
        return self._map[self._texts + begin : self._texts + begin + length]

    def keys(self, local: int) -> dict[str, Any] | None:
        if self._keys is None:
            return None
        begin, end = PAIR.unpack_from(self._map, self._key_index + PAIR.size * local)
        try:
            raw = self._map[self._keys[0] + begin : self._keys[0] + min(end, self._keys[1])]
            return msgspec.msgpack.decode(raw, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise self._plan.damaged(f"the keys of mini-batch {local} are none") from error

    def members(self, local: int, start: int, piece: Piece, rows: int) -> Members:
        """The piece's members; `start`: number of the mini-batch's first one in the input."""
        begin, end = PAIR.unpack_from(self._map, self._name_index + 8 * local)
        names = self._map[self._names[0] + begin : self._names[0] + end - 1]
        if not begin < end <= self._names[1] or names.count(0) != rows - 1:
            raise self._plan.damaged(f"the members of mini-batch {local} of the archives are not {rows}")
        if piece.count != rows:
            names = b"\0".join(names.split(b"\0")[piece.first : piece.first + piece.count])
        at = self._members[0] + 16 * (start + piece.first)
        pairs = little_endian(array("q", self._map[at : at + 16 * piece.count])).tolist()
        return Members(self._file.path, names, pairs[::2], pairs[1::2])
