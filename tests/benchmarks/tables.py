"""Compares our readers of Parquet and HDF5 with a bare loop over the same slices, two processes each.

    python tests/benchmarks/tables.py [--rows 2000000] [--rounds 3] [--mini-batch 1000000]

The bare loop is what a person would write: a Parquet file's row groups one after the other, by
`read_row_group` and `slice`, or, of one row group that is the whole file, by `iter_batches`; slices of HDF5
datasets. Each process takes one half of the mini-batches, in order, and sums two columns of what it gets.
Processes are fresh, read one mini-batch before they measure, and take turns. Printed are the seconds of the
slower process and the processor time of both, the ratios of the medians, and the peak of resident memory above
that before the measurement. Exit code 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from mpibatch.core.tables import BySize, Hdf5Options, ParquetOptions
from mpibatch.inputs.survey import Surveyed, TableFile
from mpibatch.work import Slice

RATIO_TARGET = 0.9  # speed of ours / of the bare loop, at least
MEMORY_TARGET_MIB = 300  # at most, beside what the imports take
PROCESSES = 2
FILES = ["one_group.parquet", "20_groups.parquet", "table.h5"]


class Measured(NamedTuple):
    seconds: float
    cpu_seconds: float
    rows: int
    total: float
    peak_mib: float


def main() -> int:
    parser = argparse.ArgumentParser(description="readers of Parquet and HDF5 against bare loops")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mini-batch", type=int, default=1_000_000, help="bytes")
    parser.add_argument("--measure", nargs=3, metavar=("WHO", "FILE", "PROCESS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        who, path, process = arguments.measure
        print(json.dumps(measure(who, Path(path), int(process), arguments.mini_batch)))
        return 0
    if min(arguments.rows // 20, arguments.rounds, arguments.mini_batch) < 1:
        parser.error("--rows must be at least 20, the others at least 1")
    folder = Path(tempfile.mkdtemp(prefix="mpibatch-tables-"))
    try:
        make_files(folder, arguments.rows)
        return max(compare(folder / name, arguments) for name in FILES)
    finally:
        shutil.rmtree(folder)


def make_files(folder: Path, rows: int) -> None:
    import h5py
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    print(f"making three files of {rows:,} rows in {folder}", flush=True)
    random = np.random.default_rng(1)
    numbers = {f"x{number}": random.random(rows) for number in range(8)}
    names = np.array([f"name {number}" for number in range(1000)])
    table = pa.table(numbers | {"id": np.arange(rows), "name": names[random.integers(0, 1000, rows)]})
    pq.write_table(table, folder / FILES[0], row_group_size=rows)
    pq.write_table(table, folder / FILES[1], row_group_size=-(-rows // 20))
    with h5py.File(folder / FILES[2], "w") as file:
        for name, values in numbers.items():
            file.create_dataset(
                name, data=values, chunks=(min(rows, 10_000),), compression="gzip", compression_opts=1
            )
        file["id"] = np.arange(rows)


def compare(path: Path, arguments: argparse.Namespace) -> int:
    measured: dict[str, list[Measured]] = {"bare": [], "ours": []}
    both(path, "bare", arguments.mini_batch)
    for _ in range(arguments.rounds):
        for who, results in measured.items():
            results.append(both(path, who, arguments.mini_batch))
    for who, results in measured.items():
        times = " ".join(f"{result.seconds:.3f}" for result in results)
        cpu = " ".join(f"{result.cpu_seconds:.3f}" for result in results)
        peak = max(result.peak_mib for result in results)
        print(f"{path.name:18} {who} {times} s, processors {cpu} s, at most {peak:.0f} MiB a process")
    if len({(result.rows, round(result.total)) for results in measured.values() for result in results}) > 1:
        print("they have not read the same")
        return 1
    ratio, cpu_ratio = (
        statistics.median(result[field] for result in measured["bare"])
        / statistics.median(result[field] for result in measured["ours"])
        for field in (0, 1)
    )
    peak = max(result.peak_mib for result in measured["ours"])
    print(
        f"{path.name:18} speed of ours / bare: {ratio:.2f} (target: at least {RATIO_TARGET}),"
        f" by processor time {cpu_ratio:.2f}",
        flush=True,
    )
    return 0 if ratio >= RATIO_TARGET and peak <= MEMORY_TARGET_MIB else 1


def both(path: Path, who: str, mini_batch: int) -> Measured:
    """Two processes at the same time."""
    command = [sys.executable, __file__, "--mini-batch", str(mini_batch), "--measure", who, str(path)]
    running = [
        subprocess.Popen([*command, str(process)], stdout=subprocess.PIPE, text=True)
        for process in range(PROCESSES)
    ]
    results = [Measured(*json.loads(process.communicate()[0])) for process in running]
    return Measured(
        max(result.seconds for result in results),
        sum(result.cpu_seconds for result in results),
        sum(result.rows for result in results),
        sum(result.total for result in results),
        max(result.peak_mib for result in results),
    )


def measure(who: str, path: Path, process: int, mini_batch: int) -> Measured:
    found = surveyed(path, mini_batch)
    starts = found.cuts[0].starts.tolist()
    ranges = list(pairwise(starts))
    half = -(-len(ranges) // PROCESSES)
    mine = ranges[process * half : (process + 1) * half]
    bare = bare_hdf5 if path.suffix == ".h5" else bare_parquet
    frames = partial(ours, path, found) if who == "ours" else partial(bare, path)
    next(frames(ranges[:1]))["x0"].sum()  # What is loaded at the first use is no part of the measurement.
    rows, total = 0, 0.0
    before = peak_mib()
    begin, cpu_begin = time.perf_counter(), time.process_time()
    for frame in frames(mine):
        rows += len(frame)
        total += float(frame["x0"].sum() + frame["id"].sum())
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    return Measured(seconds, cpu_seconds, rows, total, peak_mib() - before)


def surveyed(path: Path, mini_batch: int) -> Surveyed:
    from mpibatch.inputs import hdf5_survey, parquet_survey

    files = [TableFile(os.fsencode(path), path.stat().st_size, os.fsencode(path))]
    size = BySize(mini_batch)
    if path.suffix == ".h5":
        return hdf5_survey.survey(
            files,
            Hdf5Options(),
            size,
            lambda asked: [hdf5_survey.answer(one) for one in asked],
            origin="benchmark",
        )
    return parquet_survey.survey(
        files,
        ParquetOptions(),
        size,
        lambda asked: [parquet_survey.answer(one) for one in asked],
        origin="benchmark",
    )


def ours(path: Path, found: Surveyed, ranges: list[tuple[int, int]]) -> Iterator[Any]:
    from mpibatch.inputs import hdf5_reader, parquet_reader
    from mpibatch.inputs.survey import Reader

    reader: Reader
    if path.suffix == ".h5":
        reader = hdf5_reader.open_reader(Hdf5Options(), found.setup)
    else:
        reader = parquet_reader.open_reader(ParquetOptions(), found.setup)
    for start, stop in ranges:
        rows = stop - start
        yield reader.read(Slice(os.fsencode(path), start, stop, start, rows), rows).data


def bare_parquet(path: Path, ranges: list[tuple[int, int]]) -> Iterator[Any]:
    """The slices happen to lie within row groups, and to be equal but for the last."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    if file.num_row_groups == 1:
        position = 0
        for batch in file.iter_batches(batch_size=max(stop - start for start, stop in ranges)):
            if position >= ranges[-1][1]:
                break
            if position + batch.num_rows > ranges[0][0]:
                skip = max(0, ranges[0][0] - position)
                yield batch.slice(skip, ranges[-1][1] - position - skip).to_pandas()
            position += batch.num_rows
        return
    begin = 0
    for group in range(file.num_row_groups):
        end = begin + file.metadata.row_group(group).num_rows
        inside = [one for one in ranges if begin <= one[0] < end]
        if inside:
            table = file.read_row_group(group)
            for start, stop in inside:
                yield table.slice(start - begin, stop - start).to_pandas()
        begin = end


def bare_hdf5(path: Path, ranges: list[tuple[int, int]]) -> Iterator[Any]:
    import h5py
    import pandas as pd

    with h5py.File(path, "r") as file:
        for start, stop in ranges:
            yield pd.DataFrame({name: dataset[start:stop] for name, dataset in file.items()})


def peak_mib() -> float:
    """Of this process alone: what getrusage tells goes on from its parent."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    raise SystemExit(main())
