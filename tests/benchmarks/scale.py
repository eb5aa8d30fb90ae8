"""How far one coordinator reaches: 100 and 1,000 workers, mini-batches of 0.1, 1 and 10 s, in virtual time.

    python tests/benchmarks/scale.py [--folder DIR] [--no-limit]

The real coordinator with workers that are only pretended (`scale_world`), each cell in a process of its own. What MPI
costs rank 0 is measured here first; the network adds 5 us one way. Efficiency is the time in which workers ran
mini-batches, of the time that they were there: first grant until the output is in its place. Load is the part of
one core that rank 0 needs. At the end: how many mini-batches a second keep it busy for 0.9 of the time, where an
array of jobs, or larger mini-batches, should take over. Targets: where mini-batches take 1 s or more, an efficiency
of 0.98 (0.9 where their times vary: then the last ones are waited for); memory of at most 1 GiB. Exit code 1 where
one is missed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from benchmarks.scale_world import SPREAD, Cell, Simulated, simulate
else:
    from scale_world import (
        SPREAD,
        Cell,
        Simulated,
        simulate,
    )  # It lies beside this file, which is started as a script.

WORKERS = (100, 1000)
MEANS_S = (0.1, 1.0, 10.0)
SHORTEST_S = 60.0
"""Virtual time of a cell."""
LEAST_EACH = 40
"""Mini-batches that each worker gets, so that the tail is not all."""
EFFICIENCY, EFFICIENCY_VARIED = 0.98, 0.9
MEMORY = 1 << 30
FULL = 0.9
"""Load from which on rank 0 is what is waited for."""
LIMIT_WORKERS = 1000
LIMIT_EACH = 80
LIMIT_BETWEEN_S = (0.005, 0.2)
LIMIT_STEPS = 5
MESSAGES = 20_000


def main() -> int:
    parser = argparse.ArgumentParser(description="rank 0 with 100 and 1,000 workers, in virtual time")
    parser.add_argument("--folder", help="where the runs are written; they are removed again")
    parser.add_argument(
        "--no-limit", action="store_true", help="do not look for the limit of one coordinator"
    )
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--mpi", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.mpi:
        print(msgspec.json.encode(mpi_costs()).decode())
        return 0
    if arguments.cell is not None:
        cell = msgspec.json.decode(arguments.cell, type=Cell)
        simulated = simulate(cell, Path(arguments.folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        print(msgspec.json.encode(msgspec.structs.replace(simulated, peak_bytes=peak)).decode())
        return 0
    mpi = msgspec.json.decode(in_process(["--mpi"]), type=Costs)
    print(
        f"MPI: {mpi.message_s * 1e6:.1f} us to send one message and receive one, {mpi.look_s * 1e6:.1f} a vain look"
    )
    missed = table(mpi, arguments.folder)
    if not arguments.no_limit:
        tell_limit(mpi, arguments.folder)
    return int(missed > 0)


class Costs(msgspec.Struct, frozen=True):
    """CPU seconds of rank 0 in MPI."""

    message_s: float
    look_s: float


def mpi_costs() -> Costs:
    """By a rank that sends to itself; a fabric moves the bytes besides the CPU."""
    from mpi4py import MPI

    from mpibatch.runtime.mpi_port import MpiPort

    port, body = MpiPort(MPI.COMM_SELF), bytes(250)
    both, looks = [], []
    for _ in range(5):
        began = time.thread_time()
        for _ in range(MESSAGES // 50):
            for _ in range(50):
                port.send(0, body)
            received = 0
            while received < 50:
                received += len(port.receive())
        both.append(time.thread_time() - began)
        began = time.thread_time()
        for _ in range(MESSAGES):
            port.receive()
        looks.append(time.thread_time() - began)
    return Costs(min(both) / MESSAGES, min(looks) / MESSAGES)


def in_process(options: list[str]) -> bytes:
    return subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, check=True).stdout


def measure(
    mpi: Costs, folder: str | None, workers: int, mean_s: float, spread: float, each: int
) -> Simulated:
    cell = Cell(
        workers=workers, mean_s=mean_s, spread=spread, mini_batches=workers * each, message_s=mpi.message_s,
        look_s=mpi.look_s,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mpibatch-scale-", dir=folder) as place:
        told = in_process(["--cell", msgspec.json.encode(cell).decode(), "--folder", place])
    return msgspec.json.decode(told, type=Simulated)


def table(mpi: Costs, folder: str | None) -> int:
    """How many targets are missed."""
    print("| workers | a mini-batch | mini-batches/s | efficiency | rank 0's load | us a mini-batch | MiB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    missed = 0
    for workers in WORKERS:
        for mean_s in MEANS_S:
            for spread in (0.0, SPREAD):
                each = max(LEAST_EACH, round(SHORTEST_S / mean_s))
                one = measure(mpi, folder, workers, mean_s, spread, each)
                missed += show(one, workers, mean_s, spread, each * workers)
    return missed


def show(one: Simulated, workers: int, mean_s: float, spread: float, count: int) -> int:
    efficiency = one.run_s / (workers * one.makespan_s)
    wanted = EFFICIENCY_VARIED if spread else EFFICIENCY
    wrong = ["efficiency"] if mean_s >= 1 and efficiency < wanted else []
    wrong += ["memory"] if one.peak_bytes > MEMORY else []
    print(
        f"| {workers:,} | {mean_s:g} s{' log-normal' if spread else ''} | {count / one.makespan_s:,.0f}"
        f" | {efficiency:.3f} | {one.busy_s / one.makespan_s:.3f} | {one.busy_s / count * 1e6:.0f}"
        f" | {one.peak_bytes / 2**20:.0f} |" + "".join(f" MISSED: {what}" for what in wrong),
        flush=True,
    )
    return len(wrong)


def tell_limit(mpi: Costs, folder: str | None) -> None:
    """The shortest mini-batches with which a thousand workers leave rank 0 a tenth of its time."""
    too_short, long_enough = LIMIT_BETWEEN_S
    reached = 0.0
    for _ in range(LIMIT_STEPS):
        mean_s = (too_short * long_enough) ** 0.5
        one = measure(mpi, folder, LIMIT_WORKERS, mean_s, 0.0, LIMIT_EACH)
        if one.busy_s / one.makespan_s < FULL:
            long_enough, reached = mean_s, LIMIT_WORKERS * LIMIT_EACH / one.makespan_s
        else:
            too_short = mean_s
    print(
        f"rank 0 is busy less than {FULL} of the time with {LIMIT_WORKERS:,} workers down to mini-batches of"
        f" {long_enough * 1000:.0f} ms: {reached:,.0f} mini-batches/s. From about that rate on (workers divided by"
        f" seconds of a mini-batch) make mini-batches larger, or use an array of jobs."
    )


if __name__ == "__main__":
    sys.exit(main())
