"""Compares mpibatch with multiprocessing.Pool and mpi4py.futures where `run()` does nothing, two workers each.

    python tests/benchmarks/noop.py [--mini-batches 40000] [--rounds 3]

40,000 mini-batches of 10 names; a row for each name, in order, into one file, which is fsynced. Timed is
processing: of the peers from the first submission, when all workers have started, until the file is
durable; of mpibatch `processing_s` of job_result.json, with its journal on. All take turns in the same run and
must write the same bytes. Each peer runs with chunksize 1, as mpibatch reports each mini-batch, and
with larger ones, of which the best is shown beside it. Exit code 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from mpibatch.local_world import find_mpiexec, launcher_command

WORKERS = 2
NAMES = 10
CHUNKS = (1, 16, 64, 256)
POOL_TARGET = 1.0  # mpibatch / Pool with chunksize 1, at least
FUTURES_TARGET = 12.0  # mpibatch / mpi4py.futures with chunksize 1, at least
SCRIPT = "def run(mini_batch):\n    return [path for path in mini_batch]\n"


def process(mini_batch: list[str]) -> list[str]:
    """What the entry script's `run` does."""
    return [path for path in mini_batch]  # noqa: C416  (the same work as in SCRIPT)


def main() -> int:
    parser = argparse.ArgumentParser(description="mpibatch against its peers, no-op")
    parser.add_argument("--mini-batches", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--peer", nargs=4, metavar=("NAME", "CHUNKSIZE", "NAMES", "OUTPUT"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    if arguments.peer:
        name, chunksize, names, output = arguments.peer
        print(PEERS[name](int(chunksize), Path(names), Path(output)))
        return 0
    with tempfile.TemporaryDirectory(prefix="mpibatch-noop-") as folder:
        return compare(Path(folder), arguments.mini_batches, arguments.rounds)


def compare(folder: Path, mini_batches: int, rounds: int) -> int:
    names = folder / "names.txt"
    names.write_text("".join(f"/data/images/{number:07d}.png\n" for number in range(mini_batches * NAMES)))
    (folder / "script.py").write_text(SCRIPT)
    (folder / "job.yaml").write_text(
        f"name: noop\nentry_script: script.py\ninputs: [{{list: names.txt, check: false}}]\n"
        f"mini_batch_size: {NAMES}\nprocess_count_per_node: {WORKERS}\nappend_row_file_name: rows.txt\n"
    )
    runs: dict[str, Callable[[Path], float]] = {"mpibatch": lambda output: time_mpibatch(folder, output)}
    for peer in PEERS:
        for chunksize in CHUNKS:
            runs[f"{peer}, chunksize {chunksize}"] = time_peer(peer, chunksize, names)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    print(f"{mini_batches} mini-batches of {NAMES} names, {WORKERS} workers, {os.cpu_count()} cores")
    for number in range(1, rounds + 1):
        written = set()
        for name in list(runs)[:: 1 if number % 2 else -1]:
            output = folder / f"{name}-{number}"
            seconds = runs[name](output)
            rates[name].append(mini_batches / seconds)
            written.add((output / "rows.txt").read_bytes())
            print(f"{number:>3}  {name:<30} {mini_batches / seconds:>9,.0f} mini-batches/s")
        if written != {names.read_bytes()}:
            raise SystemExit(f"round {number}: the rows are not the same")
    return judge(rates)


def judge(rates: dict[str, list[float]]) -> int:
    """Prints the ratios, as medians over the rounds; 0 where both targets are met, else 1."""
    missed = 0
    ours = rates["mpibatch"]
    for peer, target in (("Pool", POOL_TARGET), ("mpi4py.futures", FUTURES_TARGET)):
        for chunksize in CHUNKS:
            theirs = rates[f"{peer}, chunksize {chunksize}"]
            ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
            ratio = statistics.median(ratios)
            verdict = ""
            if chunksize == 1:
                missed += ratio < target
                verdict = f"  target >= {target:g}: {'met' if ratio >= target else 'MISSED'}"
            each = ", ".join(f"{one:.2f}" for one in ratios)
            print(f"mpibatch / {peer}, chunksize {chunksize}: {ratio:.2f} ({each}){verdict}")
    return int(missed > 0)


def time_mpibatch(folder: Path, output: Path) -> float:
    command = [sys.executable, "-m", "mpibatch", "run", str(folder / "job.yaml"), "--output", str(output)]
    run(command)
    return float(json.loads((output / "job_result.json").read_text())["processing_s"])


def time_peer(peer: str, chunksize: int, names: Path) -> Callable[[Path], float]:
    def timed(output: Path) -> float:
        output.mkdir()
        arguments = [__file__, "--peer", peer, str(chunksize), str(names), str(output)]
        if peer == "mpi4py.futures":
            launcher, variables = launcher_command(find_mpiexec(), WORKERS + 1)
            os.environ.update(variables)
            return float(run([*launcher, sys.executable, "-m", "mpi4py.futures", *arguments]))
        return float(run([sys.executable, *arguments]))

    return timed


def run(command: list[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise SystemExit(f"{command} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}")
    return ended.stdout


# The peers, each in a process of its own


def read_mini_batches(names: Path) -> list[list[str]]:
    lines = names.read_text().splitlines()
    return [lines[start : start + NAMES] for start in range(0, len(lines), NAMES)]


def write_rows(results: Iterable[list[str]], output: Path, start: float) -> float:
    """Writes the rows in order and makes them durable; the seconds since `start`."""
    with open(output / "rows.txt", "w", encoding="utf-8") as file:
        for rows in results:
            file.write("\n".join(rows) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - start


def pool(chunksize: int, names: Path, output: Path) -> float:
    mini_batches = read_mini_batches(names)
    with multiprocessing.get_context("fork").Pool(WORKERS) as workers:
        workers.map(process, [["warm"]] * WORKERS * 4, chunksize=1)
        start = time.perf_counter()
        return write_rows(workers.imap(process, mini_batches, chunksize=chunksize), output, start)


def futures(chunksize: int, names: Path, output: Path) -> float:
    from mpi4py.futures import MPIPoolExecutor

    mini_batches = read_mini_batches(names)
    with MPIPoolExecutor(max_workers=WORKERS) as executor:
        executor.bootup(wait=True)
        list(executor.map(process, [["warm"]] * WORKERS * 4))
        start = time.perf_counter()
        return write_rows(executor.map(process, mini_batches, chunksize=chunksize), output, start)


PEERS: dict[str, Callable[[int, Path, Path], float]] = {"Pool": pool, "mpi4py.futures": futures}


if __name__ == "__main__":
    sys.exit(main())
