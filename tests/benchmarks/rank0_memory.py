"""What rank 0 needs for millions of mini-batches: memory while they run, and time to read the journal at a new start.

    python tests/benchmarks/rank0_memory.py [--mini-batches 10000000] [--workers 64] [--folder DIR]

The real dispatcher, facts, journal, writer and output, driven in one process by workers that are only pretended:
each answers its grants at once. Twice: all succeed; and of every hundredth mini-batch one item of its four fails, so
that it is tried, split and in the end recorded in parts. Each in a process of its own, then another one that reads
the journal back. Targets: at most 1 GiB of memory, 0.5 s for each million of records. Exit code 1 where one is
missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from mpibatch.core import dispatch, history
from mpibatch.core.accounting import Tally, Thresholds
from mpibatch.outputs.assemble import Assembly
from mpibatch.runtime.journal import HEADER_SIZE, Journal, add_journal, write_about
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.writer import MOST_BACKLOG_BYTES, Writer
from mpibatch.work import ErrorReport, Failed, Piece, Succeeded

PLAN = "ab" * 32
ITEMS = 4
EACH_FAILS = 100
"""Of so many mini-batches one item of one fails."""
MEMORY_TARGET = 1 << 30
LOAD_TARGET_S = 0.5
ERROR = ErrorReport("ValueError", "this item cannot be read", "Traceback: in run()\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="rank 0 with millions of mini-batches")
    parser.add_argument("--mini-batches", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--folder", help="where the journals are written; they are removed again")
    parser.add_argument("--part", choices=["run", "load"], help=argparse.SUPPRESS)
    parser.add_argument("--failing", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part is not None:
        part = {"run": run, "load": load}[arguments.part]
        print(json.dumps(part(RunFolder(Path(arguments.folder)), arguments)))
        return 0
    missed = 0
    for failing in (False, True):
        with tempfile.TemporaryDirectory(prefix="mpibatch-memory-", dir=arguments.folder) as folder:
            missed += measure(folder, arguments, failing)
    return int(missed > 0)


def measure(folder: str, arguments: argparse.Namespace, failing: bool) -> int:
    """How many targets are missed."""
    count = arguments.mini_batches
    what = "one item of every hundredth fails" if failing else "all succeed"
    print(f"{count:,} mini-batches of {ITEMS} items, {what}", flush=True)
    missed = 0
    for part in ("run", "load"):
        told = in_process(part, folder, arguments, failing)
        over = told["peak"] > MEMORY_TARGET
        print(
            f"  {part:<5} {told['seconds']:7.1f} s, memory at most {told['peak'] / 2**20:6.0f} MiB:"
            f" {told['anonymous'] / 2**20:.0f} ours, {told['mapped'] / 2**20:.0f} mapped files (before it began:"
            f" {told['before'] / 2**20:.0f}); target {MEMORY_TARGET >> 20}: {'MISSED' if over else 'met'}"
        )
        missed += over
        if part == "load":
            millions = told["records"] / 1e6
            late = told["seconds"] > LOAD_TARGET_S * millions
            print(f"        {told['records']:,} records, {told['seconds'] / millions:.2f} s for each million"
                  f" ({told['cpu'] / millions:.2f} of a core);"
                  f" target {LOAD_TARGET_S}: {'MISSED' if late else 'met'}")  # fmt: skip
            missed += late
    return missed


def in_process(part: str, folder: str, arguments: argparse.Namespace, failing: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, "--part", part, "--folder", folder]
    command += ["--mini-batches", str(arguments.mini_batches), "--workers", str(arguments.workers)]
    ended = subprocess.run(
        [*command, *["--failing"] * failing], stdout=subprocess.PIPE, text=True, check=True
    )
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


class Memory:
    """Looks ten times a second how much memory this process has, as the kernel counts it."""

    def __init__(self) -> None:
        self.before = sum(resident())
        self.anonymous = self.mapped = self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            anonymous, mapped = resident()
            self.anonymous, self.mapped = max(self.anonymous, anonymous), max(self.mapped, mapped)
            self.peak = max(self.peak, anonymous + mapped)
            if self._over.wait(0.1):
                return

    def told(self) -> dict[str, int]:
        self._over.set()
        self._thread.join()
        return {name: getattr(self, name) for name in ("before", "anonymous", "mapped", "peak")}


def resident() -> tuple[int, int]:
    """Bytes in memory: anonymous ones, and those of mapped files."""
    found = {}
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in ("RssAnon", "RssFile", "RssShmem"):
                found[name] = int(value.split()[0]) << 10
    return found["RssAnon"], found["RssFile"] + found["RssShmem"]


# A run -----------------------------------------------------------------------------------------------------------


def run(folder: RunFolder, arguments: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    memory = Memory()
    count = arguments.mini_batches
    facts = history.no_facts(count, lambda numbers: np.full(len(numbers), ITEMS))
    folder.private.mkdir()
    write_about(folder, 1, [])
    journal = Journal(folder, 1, PLAN)
    assembly = Assembly(
        partial=folder.partial_output(1), final=folder.root / "rows.txt", facts=facts, segment=folder.rows,
        in_order=True,
    )  # fmt: skip
    writer = Writer(journal, facts, 1, assembly, time.monotonic, lambda: None)
    began = time.monotonic()
    writer.start()
    drive(make_dispatcher(count, arguments.workers), writer, arguments.workers, arguments.failing)
    writer.finish(complete=True)
    writer.join()
    if writer.error is not None:
        raise writer.error
    return {"seconds": time.monotonic() - began, **memory.told()}


def make_dispatcher(count: int, workers: int) -> dispatch.Dispatcher:
    return dispatch.Dispatcher(
        workers=workers,
        todo=[(0, count)],
        item_count=lambda number: ITEMS,
        run_max_try=3,
        thresholds=Thresholds(),
        tally=Tally(items_total=count * ITEMS, mini_batches_total=count),
        isolate=True,
    )


def drive(dispatcher: dispatch.Dispatcher, writer: Writer, workers: int, failing: bool) -> None:
    """Workers take turns, and each answers what it was granted first."""
    crew = Crew(dispatcher, writer, workers, failing)
    while not dispatcher.concluded:
        crew.take_turns()
        writer.pump(time.monotonic())
        while writer.backlog_bytes > MOST_BACKLOG_BYTES:
            time.sleep(0.01)


class Crew:
    """The workers that are pretended, and what the coordinator carries out for them."""

    def __init__(self, dispatcher: dispatch.Dispatcher, writer: Writer, workers: int, failing: bool) -> None:
        self._dispatcher = dispatcher
        self._writer = writer
        self._failing = failing
        self._todo: list[deque[dispatch.Granted]] = [deque() for _ in range(workers)]
        self._carry_out(dispatcher.begin())
        for number in range(workers):
            self._carry_out(dispatcher.handle(dispatch.WorkerReady(number)))

    def take_turns(self) -> None:
        for number, todo in enumerate(self._todo):
            for _ in range(min(len(todo), 16)):
                if todo:  # What was there may have been recalled meanwhile.
                    self._answer(number, todo.popleft())

    def _answer(self, number: int, one: dispatch.Granted) -> None:
        outcome: Succeeded | Failed
        event: dispatch.Event
        piece = one.piece
        if self._failing and fails(piece):
            outcome = Failed(one.attempt, "raised", ERROR)
            event = dispatch.AttemptFailed(number, one.attempt, 0.001, alike="ValueError")
        else:
            rows = b"%08d\n" % piece.mini_batch * piece.count
            outcome = Succeeded(one.attempt, piece.count, piece.count, 0.001, 0.001, rows)
            event = dispatch.AttemptSucceeded(number, one.attempt, piece.count, piece.count, 0.001)
        self._carry_out(self._dispatcher.handle(event), outcome, number)

    def _carry_out(
        self, commands: list[dispatch.Command], outcome: Succeeded | Failed | None = None, worker: int = -1
    ) -> None:
        for command in commands:
            match command:
                case dispatch.Grant(number, granted):
                    self._todo[number] += granted
                case dispatch.RecordSuccess(_, piece):
                    assert isinstance(outcome, Succeeded)
                    self._writer.success(piece, worker, outcome)
                case dispatch.RecordFailure(_, piece, tries, final):
                    assert isinstance(outcome, Failed)
                    self._writer.failure(piece, worker, outcome, tries=tries, final=final)
                case dispatch.RecordSplit(piece, at):
                    self._writer.split(piece, at)
                case dispatch.Recall(number, attempts):
                    self._give_back(number, set(attempts))
                case dispatch.Conclude() | dispatch.Remark():
                    pass
                case _:
                    raise AssertionError(f"nobody is lost or late here: {command}")

    def _give_back(self, number: int, attempts: set[int]) -> None:
        todo = self._todo[number]
        back = [one.attempt for one in todo if one.attempt in attempts]
        self._todo[number] = deque(one for one in todo if one.attempt not in attempts)
        self._carry_out(self._dispatcher.handle(dispatch.AttemptsReturned(number, back)))


def fails(piece: Piece) -> bool:
    """The mini-batch's second item cannot be processed."""
    return piece.mini_batch % EACH_FAILS == 7 and piece.first <= 1 < piece.first + piece.count


# A new start -----------------------------------------------------------------------------------------------------


def load(folder: RunFolder, arguments: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    memory = Memory()
    began, cpu = time.monotonic(), time.process_time()
    facts = history.no_facts(arguments.mini_batches, lambda numbers: np.full(len(numbers), ITEMS))
    records = 0
    for session in folder.sessions():
        records += (folder.journal(session).stat().st_size - HEADER_SIZE) // history.RECORD_SIZE
        damaged = add_journal(facts, folder, session, PLAN)
        assert not damaged, f"{damaged} records are damaged"
    left = history.left_to_do(facts)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    failing = arguments.mini_batches // EACH_FAILS if arguments.failing else 0
    assert facts.succeeded == arguments.mini_batches * ITEMS - failing
    assert len(left[1]) == failing and not left[0]
    return {"seconds": seconds, "cpu": cpu, "records": records, **memory.told()}


if __name__ == "__main__":
    sys.exit(main())
