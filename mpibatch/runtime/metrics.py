"""`metrics.jsonl`: what the scripts of all processors have logged, in the order of time.

Each processor appends to a file of its own (see `mpibatch.azureml.metrics`); these stay, as later sessions go on with
them. What an attempt has logged that failed later is there too: at least once, as all that a script writes itself.
"""

from __future__ import annotations

import logging
import mmap
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from mpibatch.runtime.files import aside_of, naming, sync_folder
from mpibatch.runtime.run_folder import RunFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

_TIME_BYTES = 27
"""Of 2026-11-28T17:10:09.123456Z: all times are as long, so that their texts stand in the order of time."""


class _Timed(msgspec.Struct, frozen=True, gc=False):
    """What has to be known of a line."""

    time: str


def gather_metrics(folders: Sequence[RunFolder], target: Path) -> None:
    """Make `target` of all that was logged in these run folders; where nothing was, there is none. Raises OSError.

    It appears whole. Takes some 40 bytes a line of memory, however long lines are.
    """
    files = sorted(file for folder in folders for file in _files(folder))
    if not files:
        return
    gathered = aside_of(folders[-1].private / "metrics")
    try:
        with open(gathered, "w+b") as file:
            times, ends = _copy_lines(files, file)
            _write_in_order(file, times, ends, target)
    finally:
        gathered.unlink(missing_ok=True)


def _files(folder: RunFolder) -> Iterator[Path]:
    if folder.own_metrics.is_dir():
        yield from folder.own_metrics.glob("*.jsonl")


def _copy_lines(files: list[Path], into: BinaryIO) -> tuple[bytearray, array[int]]:
    """The times of all lines, one after the other, and where each line ends. Lines that a death has torn are left."""
    decoder = msgspec.json.Decoder(_Timed)
    times, ends = bytearray(), array("q")
    at = torn = 0
    for name in files:
        with open(name, "rb") as file:
            for line in file:
                try:
                    time = decoder.decode(line).time.encode()
                except (msgspec.DecodeError, UnicodeError):
                    time = b""
                if len(time) != _TIME_BYTES or not line.endswith(b"\n"):
                    torn += bool(line.strip())
                    continue
                times += time
                at += into.write(line)
                ends.append(at)
    into.flush()
    if torn:
        log.warning("metrics: %d lines are left out, which were not written to their ends", torn)
    return times, ends


def _write_in_order(lines: BinaryIO, times: bytearray, ends: array[int], target: Path) -> None:
    import numpy as np

    order: NDArray[np.intp] = np.argsort(np.frombuffer(times, f"S{_TIME_BYTES}"), kind="stable")
    aside = aside_of(target)
    try:
        with naming(target), open(aside, "wb") as file:
            if ends:
                with mmap.mmap(lines.fileno(), 0, access=mmap.ACCESS_READ) as text:
                    for number in order.tolist():
                        file.write(text[ends[number - 1] if number else 0 : ends[number]])
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(target.parent)
