"""Row segments: where fragments lie, and how they are read back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

GAP_BYTES = 1 << 20
"""Bytes between fragments, besides as many as the fragments have, that are read with them."""


class Place(NamedTuple):
    """Where a fragment lies, and what it should be."""

    mini_batch: int
    session: int
    offset: int
    length: int
    header: int
    crc: int


class Segments:
    """`path`: that of a session's row segment. Their files stay open until `close`."""

    def __init__(self, path: Callable[[int], Path]) -> None:
        self.path = path
        self._fds: dict[int, int] = {}

    def close(self) -> None:
        """Let go of all files; what is read later opens them again."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def read(self, group: list[Place]) -> Iterator[tuple[Place, memoryview]]:
        """The fragments of a group in its order. Neighbours in a segment are read in one go."""
        regions: dict[int, tuple[int, memoryview]] = {}
        for session in {place.session for place in group}:
            places = [place for place in group if place.session == session]
            start = min(place.offset for place in places)
            stop = max(place.offset + place.length for place in places)
            if stop - start <= 2 * sum(place.length for place in places) + GAP_BYTES:
                regions[session] = (start, self._read_bytes(session, start, stop - start))
        for place in group:
            if place.session in regions:
                start, region = regions[place.session]
                yield place, region[place.offset - start : place.offset - start + place.length]
            else:
                yield place, self._read_bytes(place.session, place.offset, place.length)

    def _read_bytes(self, session: int, offset: int, length: int) -> memoryview:
        if session not in self._fds:
            try:
                self._fds[session] = os.open(self.path(session), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return memoryview(b"")  # All of it is lost: the checksums will tell.
        fd = self._fds[session]
        data = os.pread(fd, length, offset)
        if len(data) == length:
            return memoryview(data)
        whole = bytearray(data)  # Linux reads at most 2 GiB in one call.
        while len(whole) < length:
            data = os.pread(fd, length - len(whole), offset + len(whole))
            if not data:
                break  # Shorter than recorded: the checksum will tell.
            whole += data
        return memoryview(whole)
