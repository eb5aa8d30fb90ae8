"""How fast the survey of CSV files is on one core, from the page cache, beside reading and a bare loop of numpy.

    python tests/benchmarks/survey.py [--megabytes 1000] [--rounds 5] [--folder FOLDER]

The file has nine columns of numbers and one of text, lines of about 100 bytes; once without quotes, once with
the text in quotes. Compared, each in a fresh process, in turns: only reading; reading and counting quotes
(`count_nonzero(data == quote)`); the survey with mini-batches of 1 MB, which counts rows as well; the same
without knowing the rows of any (`boundaries`: one mini-batch of all); mini-batches of 5,000 rows, which
reads twice; and the exact scan. Printed are GB per second of processor time (a core's, whatever else the
machine does), the median, and the peak of resident memory above that of the loaded modules. The targets are
for the file without quotes. Exit code 1 where one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

BOUNDARIES_TARGET = 2.0  # GB/s, at least
ROWS_TARGET = 1.5  # GB/s, at least
MEMORY_TARGET_MIB = 100  # above what is resident without any work, at most

PIECE = 1 << 20


class Measured(NamedTuple):
    seconds: float
    found: int
    peak_mib: float


def main() -> int:
    parser = argparse.ArgumentParser(description="the survey of CSV files against reading them")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the files are made; the system's folder for such")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        what, file = arguments.measure
        print(json.dumps(measure(WAYS[what], file)))
        return 0
    if min(arguments.megabytes, arguments.rounds) < 1:
        parser.error("all numbers must be at least 1")
    folder = Path(tempfile.mkdtemp(prefix="mpibatch-survey-", dir=arguments.folder))
    try:
        return max([compare(folder, arguments, quoted) for quoted in (False, True)])
    finally:
        shutil.rmtree(folder)


def compare(folder: Path, arguments: argparse.Namespace, quoted: bool) -> int:
    path = folder / f"{'quoted' if quoted else 'plain'}.csv"
    rows = make_file(path, arguments.megabytes, quoted)
    print(f"{path.name}: {path.stat().st_size / 1e9:.2f} GB, {rows:,} rows", flush=True)
    in_fresh_process("read", path)
    measured: dict[str, list[Measured]] = {what: [] for what in WAYS}
    for _ in range(arguments.rounds):
        for what, results in measured.items():
            results.append(in_fresh_process(what, path))
    for what in ("rows", "every 5,000 rows", "exact"):
        if {result.found for result in measured[what]} != {rows}:
            print(f"{what} has found {measured[what][0].found:,} rows of {rows:,}")
            return 1
    size = path.stat().st_size
    path.unlink()
    return report(measured, size, with_targets=not quoted)


def report(measured: dict[str, list[Measured]], size: int, *, with_targets: bool) -> int:
    speed = {
        what: size / 1e9 / statistics.median(result.seconds for result in results)
        for what, results in measured.items()
    }
    for what, results in measured.items():
        peak = max(result.peak_mib for result in results)
        print(f"  {what:18} {speed[what]:6.2f} GB/s, {peak:4.0f} MiB for it")
    print(f"  rows / count quotes: {speed['rows'] / speed['count quotes']:.2f} of its speed")
    if not with_targets:
        return 0
    print(f"  boundaries: {speed['boundaries']:.2f} GB/s (target: at least {BOUNDARIES_TARGET})")
    print(f"  with row counts: {speed['rows']:.2f} GB/s (target: at least {ROWS_TARGET})")
    peak = max(result.peak_mib for result in measured["rows"])
    print(f"  memory: {peak:.0f} MiB (target: at most {MEMORY_TARGET_MIB})")
    good = speed["boundaries"] >= BOUNDARIES_TARGET and speed["rows"] >= ROWS_TARGET
    return 0 if good and peak <= MEMORY_TARGET_MIB else 1


def make_file(path: Path, megabytes: int, quoted: bool) -> int:
    """Ten thousand different lines, again and again."""
    chance = random.Random(7)
    text = '"text number %d"' if quoted else "text number %d"
    lines = [
        ",".join([*(f"{chance.random():.6f}" for _ in range(9)), text % chance.randrange(10**6)])
        for _ in range(10_000)
    ]
    block = ("\n".join(lines) + "\n").encode()
    blocks = max(1, megabytes * 1_000_000 // len(block))
    with open(path, "wb") as file:
        file.write((",".join("abcdefghij") + "\n").encode())
        for _ in range(blocks):
            file.write(block)
    return blocks * len(lines)


def in_fresh_process(what: str, path: Path) -> Measured:
    command = [sys.executable, __file__, "--measure", what, str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return Measured(*json.loads(done.stdout))


def measure(way: Callable[[str], int], path: str) -> Measured:
    import numpy as np  # noqa: F401  (loaded before the clock runs)

    from mpibatch.inputs import csv_survey  # noqa: F401

    before = peak_mib()
    begin = time.process_time()
    found = way(path)
    return Measured(time.process_time() - begin, found, peak_mib() - before)


def read(path: str) -> int:
    buffer = bytearray(PIECE)
    size = 0
    with open(path, "rb", buffering=0) as file:
        while length := file.readinto(buffer):
            size += length
    return size


def count_quotes(path: str) -> int:
    import numpy as np

    buffer = bytearray(PIECE)
    data = np.frombuffer(buffer, np.uint8)
    quotes = 0
    with open(path, "rb", buffering=0) as file:
        while length := file.readinto(buffer):
            quotes += int(np.count_nonzero(data[:length] == ord('"')))
    return quotes


def survey(path: str, *, rows: int = 0, size: int = 0, exact: bool = False) -> int:
    from mpibatch.core.tables import ByRows, BySize
    from mpibatch.inputs.csv_answers import answer
    from mpibatch.inputs.csv_cuts import NORMAL, cut_files, way_of
    from mpibatch.inputs.csv_questions import Look, One
    from mpibatch.inputs.csv_scan import Dialect

    def ask(questions: Sequence[Any]) -> list[Any]:
        return [answer(question) for question in questions]

    file = One(os.fsencode(path), os.stat(path).st_size, header=True, whole=False)
    by = ByRows(rows) if rows else BySize(size or file.size)
    way = way_of(Dialect(ord(","), ord('"')), by, mark=True, encoding=None, limits=NORMAL)
    if exact:
        (looked,) = ask([Look([file], way, exact=True)])
        return sum(memoryview(looked.files[0].cells.rows).cast("q"))
    (found,) = cut_files([file], way, ask, NORMAL)
    return int(found.cut.rows.sum())


WAYS: dict[str, Callable[[str], int]] = {
    "read": read,
    "count quotes": count_quotes,
    "boundaries": survey,
    "rows": lambda path: survey(path, size=1 << 20),
    "every 5,000 rows": lambda path: survey(path, rows=5000),
    "exact": lambda path: survey(path, size=1 << 20, exact=True),
}


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(main())
