"""Compares planning over many files with a bare `os.walk` over them, which only counts.

    python tests/benchmarks/plan.py [--files 1000000] [--per-folder 1000] [--rounds 3] [--mini-batch-size 10]

Each measurement is a fresh process; they take turns, after one walk that warms the file system's cache for
both. Printed are the seconds, the ratio of the medians, and the peak of resident memory while planning.
Exit code 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

RATIO_TARGET = 1.5  # make_plan / os.walk, at most
MEMORY_TARGET_MIB = 300  # at most


class Measured(NamedTuple):
    seconds: float
    files: int
    peak_mib: float


def main() -> int:
    parser = argparse.ArgumentParser(description="make_plan against os.walk")
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--per-folder", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mini-batch-size", type=int, default=10)
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "FILES", "OUTPUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        what, files, output = arguments.measure
        measured = walk(files) if what == "os.walk" else plan(files, output, arguments.mini_batch_size)
        print(json.dumps(measured))
        return 0
    if min(arguments.files, arguments.per_folder, arguments.rounds, arguments.mini_batch_size) < 1:
        parser.error("all numbers must be at least 1")
    folder = Path(tempfile.mkdtemp(prefix="mpibatch-plan-"))
    try:
        return compare(folder, arguments)
    finally:
        shutil.rmtree(folder)


def compare(folder: Path, arguments: argparse.Namespace) -> int:
    files, output = folder / "files", folder / "output"
    output.mkdir()
    make_files(files, arguments.files, arguments.per_folder)
    measured: dict[str, list[Measured]] = {"os.walk": [], "make_plan": []}
    in_fresh_process("os.walk", files, output, arguments.mini_batch_size)
    for _ in range(arguments.rounds):
        for what, results in measured.items():
            results.append(in_fresh_process(what, files, output, arguments.mini_batch_size))
    for what, results in measured.items():
        if {result.files for result in results} != {arguments.files}:
            print(f"{what} found {results[0].files:,} files of {arguments.files:,}")
            return 1
        times = " ".join(f"{result.seconds:.3f}" for result in results)
        peak = max(result.peak_mib for result in results)
        print(f"{what:10} {times} s, at most {peak:.0f} MiB resident")
    return report(measured)


def report(measured: dict[str, list[Measured]]) -> int:
    median = {
        what: statistics.median(result.seconds for result in results) for what, results in measured.items()
    }
    ratio = median["make_plan"] / median["os.walk"]
    peak = max(result.peak_mib for result in measured["make_plan"])
    print(f"make_plan / os.walk: {ratio:.2f} (target: at most {RATIO_TARGET})")
    print(f"peak memory: {peak:.0f} MiB (target: at most {MEMORY_TARGET_MIB})")
    return 0 if ratio <= RATIO_TARGET and peak <= MEMORY_TARGET_MIB else 1


def make_files(folder: Path, files: int, per_folder: int) -> None:
    print(f"making {files:,} files, {per_folder:,} a folder, in {folder}", flush=True)
    for first in range(0, files, per_folder):
        below = f"{folder}/folder_{first // per_folder:05d}"
        os.makedirs(below)
        for number in range(first, min(first + per_folder, files)):
            os.close(os.open(f"{below}/image_{number:07d}.png", os.O_CREAT | os.O_WRONLY))


def in_fresh_process(what: str, files: Path, output: Path, mini_batch_size: int) -> Measured:
    command = [sys.executable, __file__, "--mini-batch-size", str(mini_batch_size)]
    command += ["--measure", what, str(files), str(output)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return Measured(*json.loads(done.stdout))


def walk(folder: str) -> Measured:
    files = 0
    begin = time.perf_counter()
    for _, _, names in os.walk(folder):
        files += len(names)
    return Measured(time.perf_counter() - begin, files, peak_mib())


def plan(folder: str, output: str, mini_batch_size: int) -> Measured:
    from mpibatch.core.config import FilesInput, Job
    from mpibatch.runtime.planner import make_plan

    job = Job(
        job_file=f"{output}/job.yaml",
        job_dir=output,
        name="plan",
        entry_script=f"{output}/script.py",
        inputs=[FilesInput(files=[folder], text=folder)],
        mini_batch_size=mini_batch_size,
        output=output,
    )
    Path(output, "plan").unlink(missing_ok=True)
    begin = time.perf_counter()
    with make_plan(job, Path(output)) as made:
        seconds = time.perf_counter() - begin
        return Measured(seconds, made.items, peak_mib())


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(main())
