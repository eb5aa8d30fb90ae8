"""Writes the plan of tables and archives. What lies where in its file: `table_layout`."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import msgspec

from mpibatch.inputs.archives import FoundMembers, SurveyedArchives
from mpibatch.inputs.key_batches import KeyBatches, unpack
from mpibatch.inputs.survey import Cut
from mpibatch.runtime.plan_container import ContainerWriter, Section, little_endian
from mpibatch.runtime.table_layout import FILE, MAGIC, SORTED
from mpibatch.runtime.table_plan_keys import Group, joined_paths, packed_parts
from mpibatch.runtime.table_plan_records import (
    PlannedFile,
    archive_cuts,
    flags_of,
    mini_batch_records,
    names,
    one_failed,
    pairs,
    put,
)

__all__ = ["PlannedFile", "TablePlanWriter"]

_BLOCK = 4096
"""Files whose mini-batches are written at a time."""


class TablePlanWriter:
    """A context that writes a plan aside: add the inputs in order, then `finish`; else nothing is left."""

    def __init__(self, path: Path) -> None:
        self._file = ContainerWriter(path, MAGIC)
        self._digest = hashlib.blake2b(digest_size=32, person=b"mpibatch tables")
        self._inputs: list[dict[str, Any]] = []
        self._rows = array("I")

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

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
        found = [one_failed() if one.error is not None else one for one in surveyed.archives]
        cuts = list(archive_cuts(surveyed.archives, mini_batch_size))
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
        entry = self._introduce(kind, text, options, setup)
        entry["mini_batches"] = self._section([])
        forms = [(flags_of(cut), cut.error, 0) for cut in cuts] + [(SORTED, None, 0)] * len(copies)
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
        rows = self._section([little_endian(self._rows).tobytes()])
        whole = {"inputs": self._inputs, "rows": rows, "fingerprint": self._digest.hexdigest()}
        self._file.finish({**header, **whole})

    def _section(self, parts: Iterable[bytes], *, hashed: bool = False) -> Section:
        """Write a section; `hashed`: it is part of the fingerprint."""
        if not hashed:
            return self._file.section(parts)
        for part in parts:
            self._file.write(part)
            self._digest.update(part)
        section = self._file.end_section()
        self._digest.update(section[1].to_bytes(8, "little"))
        return section

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
            entry, files, [(flags_of(cut), cut.error, first) for cut, first in zip(cuts, firsts)], setup
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
            records, rows = mini_batch_records(cuts[first : first + _BLOCK], first)
            self._hash(rows)
            self._rows.frombytes(rows)
            yield records

    def _files(
        self, files: Sequence[PlannedFile], forms: Sequence[tuple[int, str | None, int]], texts: bytearray
    ) -> Iterator[bytes]:
        for file, (flags, why, first_item) in zip(files, forms, strict=True):
            self._hash(file.name, b"%d %d %d" % (file.size, file.mtime_ns, flags))
            path = put(texts, file.path)
            name = path if file.name == file.path else put(texts, file.name)
            error = put(texts, (why or "").encode("utf-8", "surrogateescape"))
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
        entry["names"] = self._section(names(found, size, index), hashed=True)
        entry["name_index"] = self._section([little_endian(index).tobytes()])

    def _write_members(self, entry: dict[str, Any], found: Sequence[FoundMembers]) -> None:
        entry["members"] = self._section(map(pairs, found), hashed=True)
