"""Compares mpibatch with multiprocessing.Pool, Ray Data, Dask and Spark on a large CSV, two workers each.

    python tests/benchmarks/csv_sum.py [--gb 1] [--rounds 3] [--files 1] [--peers-python PYTHON] [--folder DIR]

A table of 9 columns of numbers and 1 of text, mini-batches of 1 MB, of each row the sum of 8 columns: rows of two
columns, id and sum. The table is in the page cache, as it has just been made. All take turns in the same run, with
the same `run`. Which is timed, from the start of the work until the output is there, without starting the workers:

* the Pool writes one file, in order, which is fsynced, and must have the bytes of mpibatch's. Its ranges are cut
  beforehand, untimed;
* Ray, Dask and Spark write a file a partition, unordered, as they do. Their rows must be the same. They are looked
  for in `--peers-python`, another environment, and left out where they are missing. Ray does not part a file, so
  with `--files 8` it has more to do at once;
* of mpibatch two figures: *whole*, the time of the command, with its start, the survey and the processors' starts;
  and *work*, which is like the peers': `processing_s` of job_result.json and the survey, that is, whatever of the
  rest of the command grows with the table, compared with the same command on a table of 1 MB.

Targets, by *work*: 1.6 times the Pool's rate (better 2), and 6 times that of Ray, Dask and Spark (better 8). Exit
code 1 where one is missed.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from benchmarks import csv_sum_peers as peers
else:
    import csv_sum_peers as peers  # It lies beside this file, which is started as a script.

ROWS = "rows.txt"
PACKAGES = {"Pool": "multiprocessing", "Ray": "ray", "Dask": "distributed", "Spark": "pyspark"}
TARGETS = {"Pool": (1.6, 2), "Ray": (6, 8), "Dask": (6, 8), "Spark": (6, 8)}
"""The rate of mpibatch / that of the peer: at least, and better."""
BLOCK_ROWS = 50_000


class Timing(NamedTuple):
    """Seconds; of peers both are the same."""

    whole_s: float
    work_s: float
    remark: str


def main() -> int:
    parser = argparse.ArgumentParser(description="mpibatch against its peers, on a CSV")
    parser.add_argument("--gb", type=float, default=1.0, help="size of the table, in 10^9 bytes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=1, help="of which the table consists")
    parser.add_argument("--peers-python", default=sys.executable, help="where Ray, Dask and Spark are")
    parser.add_argument("--folder", help="for the table and the rows, like /dev/shm: twice the table's size")
    arguments = parser.parse_args()
    if arguments.gb <= 0 or arguments.rounds < 1 or arguments.files < 1:
        parser.error("--gb must be more than 0, --rounds and --files at least 1")
    with tempfile.TemporaryDirectory(prefix="mpibatch-csv-", dir=arguments.folder) as folder:
        make(Path(folder), int(arguments.gb * 1e9), arguments.files)
        return compare(Path(folder), arguments.rounds, arguments.peers_python)


def compare(folder: Path, rounds: int, python: str) -> int:
    megabytes = sum(path.stat().st_size for path in (folder / "table").iterdir()) / 1e6
    measure: dict[str, Callable[[Path], Timing]] = {"mpibatch": lambda output: time_mpibatch(folder, output)}
    for name in peers.PEERS:
        measure |= find_peer(folder, name, sys.executable if name == "Pool" else python)
    timings: dict[str, list[Timing]] = {name: [] for name in measure}
    size = f"{megabytes:,.0f} MB, {peers.MINI_BATCH:,} bytes a mini-batch"
    print(f"{size}, {peers.WORKERS} workers, {os.cpu_count()} cores")
    for number in range(1, rounds + 1):
        # The other way round in each second round, so that none always finds the caches warm.
        for name in list(measure)[:: 1 if number % 2 else -1]:
            timing = measure[name](folder / f"{name}-output")
            timings[name].append(timing)
            rate = megabytes / timing.work_s
            print(f"{number:>3}  {name:<9} {rate:>8.1f} MB/s  {timing.remark}", flush=True)
        check(folder, list(measure))
    return judge(timings)


def find_peer(folder: Path, name: str, python: str) -> dict[str, Callable[[Path], Timing]]:
    """By its name, if it is installed."""
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({PACKAGES[name]!r}) is None)"
    if subprocess.run([python, "-c", look], check=False).returncode == 0:
        return {name: lambda output: time_peer(folder, name, python, output)}
    print(f"{name} is left out: {python} has no {PACKAGES[name]}")
    return {}


def judge(timings: dict[str, list[Timing]]) -> int:
    """Prints the ratios: median, and in brackets each round's; 0 where all targets are met, else 1."""
    missed = 0
    for peer in list(timings)[1:]:
        pairs = list(zip(timings["mpibatch"], timings[peer], strict=True))
        works = [theirs.work_s / ours.work_s for ours, theirs in pairs]
        wholes = [theirs.work_s / ours.whole_s for ours, theirs in pairs]
        (target, better), ratio = TARGETS[peer], statistics.median(works)
        missed += ratio < target
        each = ", ".join(f"{one:.2f}" for one in works)
        verdict = "MISSED" if ratio < target else "met" if ratio < better else "met, also the better one"
        targets = f"target >= {target:g}, {better:g}"
        print(f"work:  mpibatch / {peer:<5} {ratio:6.2f} ({each})  {targets}: {verdict}")
        each = ", ".join(f"{one:.2f}" for one in wholes)
        print(f"whole: mpibatch / {peer:<5} {statistics.median(wholes):6.2f} ({each})")
    return int(missed > 0)


def make(folder: Path, size: int, files: int) -> None:
    """table/, warm/ of a few small mini-batches, so that each worker has some, and the job."""
    for name, count, each in (("table", files, size // files), ("warm", 8, peers.MINI_BATCH // 8)):
        (folder / name).mkdir()
        rows = 0
        for number in range(count):
            rows += write_table(folder / name / f"part-{number:03d}.csv", each, rows)
    shutil.copy(peers.__file__, folder / "script.py")
    (folder / "job.yaml").write_text(
        f"name: csv-sum\nentry_script: script.py\ninputs: [{{csv: table/*.csv}}]\n"
        f"mini_batch_size: {peers.MINI_BATCH}\nprocess_count_per_node: {peers.WORKERS}\n"
        f"append_row_file_name: {ROWS}\n"
    )


def write_table(path: Path, size: int, first: int) -> int:
    """Writes rows numbered from `first` until the file has `size` bytes, and at most one block more; how many."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    random = np.random.default_rng(first)
    names = np.array(["brown bear", "red fox", "grey wolf", "roe deer", "wild boar", "hare"])
    options = csv.WriteOptions(include_header=False, quoting_style="none")
    rows, block = 0, min(BLOCK_ROWS, size // 100 + 1)
    with open(path, "wb") as file:
        file.write((",".join(peers.COLUMNS) + "\n").encode())
        while file.tell() < size:
            columns: dict[str, object] = {"id": np.arange(first + rows, first + rows + block)}
            columns |= {name: random.integers(0, 100_000, block) for name in peers.NUMBERS[:3]}
            columns |= {name: random.normal(0, 1000, block).round(6) for name in peers.NUMBERS[3:]}
            columns["name"] = names[random.integers(0, len(names), block)]
            csv.write_csv(pa.table(columns), file, options)
            rows += block
    return rows


def time_mpibatch(folder: Path, output: Path) -> Timing:
    small_s, small_processing_s = run_mpibatch(folder, "warm", output)
    whole_s, processing_s = run_mpibatch(folder, "table", output)
    # Never less than nothing: what a short start varies by is no gain.
    survey_s = max(0.0, (whole_s - processing_s) - (small_s - small_processing_s))
    remark = f"whole {whole_s:.2f} s = start {whole_s - processing_s - survey_s:.2f} + survey {survey_s:.2f}"
    return Timing(whole_s, processing_s + survey_s, f"{remark} + processing {processing_s:.2f}")


def run_mpibatch(folder: Path, table: str, output: Path) -> tuple[float, float]:
    """The seconds of the command, and its `processing_s`."""
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "mpibatch", "run", str(folder / "job.yaml"), "--output", str(output)]
    start = time.perf_counter()
    execute([*command, "--set", f"inputs.0.csv={table}/*.csv"])
    whole_s = time.perf_counter() - start
    return whole_s, float(json.loads((output / "job_result.json").read_text())["processing_s"])


def time_peer(folder: Path, name: str, python: str, output: Path) -> Timing:
    shutil.rmtree(output, ignore_errors=True)
    places = [str(folder / "table"), str(folder / "warm"), str(output)]
    printed = execute([python, peers.__file__, name, *places])
    seconds, version = json.loads(printed.splitlines()[-1])
    return Timing(seconds, seconds, f"{seconds:.2f} s, {name} {version}")


def execute(command: list[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise SystemExit(f"{command} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}")
    return ended.stdout


def check(folder: Path, names: list[str]) -> None:
    """Raises if the rows are not the same."""
    import numpy as np
    import pandas as pd

    ours, pools = (folder / f"{name}-output" / ROWS for name in ("mpibatch", "Pool"))
    if not filecmp.cmp(ours, pools, shallow=False):
        raise SystemExit("the rows of mpibatch and the Pool are not the same, byte for byte")
    wanted = pd.read_csv(ours, sep=" ", names=["id", "sum"])
    if not np.array_equal(wanted["id"], np.arange(len(wanted))):
        raise SystemExit("the rows of mpibatch are not in the order of the table, or some are missing")
    for name in names[2:]:
        files = [path for path in (folder / f"{name}-output").iterdir() if path.name[0] not in "._"]
        rows = pd.concat(pd.read_csv(path) for path in files).sort_values("id", ignore_index=True)
        if not (rows["id"].equals(wanted["id"]) and np.allclose(rows["sum"], wanted["sum"])):
            raise SystemExit(f"the rows of {name} are others")


if __name__ == "__main__":
    sys.exit(main())
