"""Jobs with an async `run()` and `concurrency`: what becomes of those beside one that kills their processor."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import (
    NOTE,
    Started,
    failed_items,
    kill,
    make_job,
    mpibatch,
    notes,
    open_gate,
    processes_with,
    result,
    rows,
    wait_until,
    words,
)

from mpibatch.core import history
from mpibatch.errors import EXIT_USAGE
from mpibatch.runtime.journal import read_journal
from mpibatch.runtime.planner import open_plan
from mpibatch.runtime.run_folder import RunFolder

SCRIPT = (
    NOTE
    + """
import asyncio, signal
from mpibatch.runtime.async_processor import AsyncProcessor
started = 0
set_timer = AsyncProcessor._set_timer
AsyncProcessor._set_timer = lambda self, one: set_timer(self, one) if one.work.mini_batch == 2 else None

async def run(mini_batch):
    global started
    name = os.path.basename(mini_batch[0])
    note(f"{name} {os.getpid()}")
    started += 1
    while started < 4 and not os.path.exists(os.path.join(FOLDER, "seen")):
        await asyncio.sleep(0.005)  # Four run beside each other when it happens first.
    open(os.path.join(FOLDER, "seen"), "w").close()
    if name == "item002":
        await mischief()
    await asyncio.sleep(0.03 + 0.02 * (int(name[4:]) % 4))  # So that there is always something beside it.
    return [name]

async def mischief():
"""
)
"""Four of these run when item002 does its mischief; later it may be beside fewer. Only its mini-batch has a limit of
time, as the others may be as slow as the machine is."""


def calls(folder: Path) -> Counter[str]:
    return Counter(note.split()[0] for note in notes(folder))


DEADLY = {
    "segfault": ("    os.kill(os.getpid(), signal.SIGSEGV)", "Died", "it died: SIGSEGV (pid", 2),
    "exit": ("    os._exit(7)", "Died", "it died: exit code 7 (pid", 1),
    "blocked": (
        "    time.sleep(100)",
        "TimedOut",
        "over run_invocation_timeout: 3 s, and the event loop stood still",
        1,
    ),
    "obstinate": (
        "    while True:\n        try: await asyncio.sleep(100)\n        except asyncio.CancelledError: pass",
        "TimedOut",
        "over run_invocation_timeout: 3 s, and it went on when it was cancelled (pid",
        1,
    ),
}
"""What it does, the error that is told of in the end, and how many tries it gets."""


@pytest.mark.parametrize("name", DEADLY)
def test_what_kills_its_processor_costs_the_others_nothing(name: str, tmp_path: Path) -> None:
    body, kind, told, tries = DEADLY[name]
    job = make_job(
        tmp_path,
        SCRIPT + body,
        items=12,
        concurrency=4,
        run_max_try=tries,
        error_threshold=1,
        run_invocation_timeout=3,
    )
    ended = mpibatch("run", job)
    assert ended.returncode == 0, words(ended)
    output = tmp_path / "output"
    assert rows(output) == [f"item{n:03d}" for n in range(12) if n != 2]
    (failed,) = failed_items(output)
    assert failed["item"].endswith("item002")
    assert failed["attempts"] == tries
    assert failed["error"]["type"] == kind
    assert told in failed["error"]["message"]
    assert result(output)["mini_batches"]["attempts"] == 11 + tries, "no try of the others is lost"
    made = calls(tmp_path)
    # What ran beside it when it died is not blamed either, but made once more, and so is it itself.
    assert made.pop("item002") == tries + (kind == "Died")
    assert max(made.values()) <= 2, "once beside it, and once more"


def test_those_that_work_one_after_the_other_are_not_held_for_stuck(tmp_path: Path) -> None:
    """Together they keep the loop from coming round for longer than one may hold it."""
    script = """
        import asyncio, time
        async def run(mini_batch):
            time.sleep(0.7)
            await asyncio.sleep(0)
            return ["done"]
    """
    job = make_job(tmp_path, script, items=10, concurrency=10, run_max_try=1, run_invocation_timeout=3)
    ended = mpibatch("run", job)
    assert ended.returncode == 0, words(ended)
    assert rows(tmp_path / "output") == ["done"] * 10


def test_a_timeout_costs_nothing_but_its_try(tmp_path: Path) -> None:
    job = make_job(
        tmp_path,
        SCRIPT + "    await asyncio.sleep(100)",
        items=12,
        concurrency=4,
        run_max_try=2,
        error_threshold=1,
        run_invocation_timeout=0.3,
    )
    ended = mpibatch("run", job)
    assert ended.returncode == 0, words(ended)
    (failed,) = failed_items(tmp_path / "output")
    error = failed["error"]
    assert (error["type"], error["message"][:42]) == (
        "TimedOut",
        "it was cancelled: over run_invocation_time",
    )
    assert "await asyncio.sleep(100)" in Path(failed["log"]).read_text(), "its log says for what it waited"
    assert calls(tmp_path) == {f"item{n:03d}": 1 + (n == 2) for n in range(12)}
    assert len({note.split()[1] for note in notes(tmp_path)}) == 1, "one processor all the time"


def test_resumed_after_a_sigkill(tmp_path: Path) -> None:
    script = (
        NOTE
        + """
import asyncio
async def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    note(name)
    while name >= "item006" and not os.path.exists(os.path.join(FOLDER, "gate")):
        await asyncio.sleep(0.005)
    return [name]
"""
    )
    job = make_job(tmp_path, script, items=20, concurrency=4)
    with Started(tmp_path, "run", job) as running:
        running.wait_until(lambda: len(notes(tmp_path)) == 10, "six are done and four stand at the gate")
        running.wait_until(lambda: committed(tmp_path / "output") == list(range(6)), "six are recorded")
        kill(running.process.pid)
        running.wait_to_end()
    wait_until(lambda: not processes_with(str(tmp_path)), "its processor has ended")
    open_gate(tmp_path)
    ended = mpibatch("run", job)
    assert ended.returncode == 0, words(ended)
    assert rows(tmp_path / "output") == [f"item{n:03d}" for n in range(20)]
    made = calls(tmp_path)
    assert [made[f"item{n:03d}"] for n in range(20)] == [1] * 6 + [2] * 4 + [1] * 10


def committed(output: Path) -> list[int]:
    """The mini-batches whose success is in the journal of the first session."""
    folder = RunFolder(output)
    with open_plan(folder.private) as plan:
        records, _ = read_journal(folder, 1, plan.fingerprint)
        return sorted(records["mini_batch"][records["kind"] == history.SUCCEEDED].tolist())


def test_a_stop_lets_those_finish_that_run(tmp_path: Path) -> None:
    script = (
        NOTE
        + """
import asyncio
async def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    note(name)
    while not os.path.exists(os.path.join(FOLDER, "gate")):
        await asyncio.sleep(0.005)
    return [name]
"""
    )
    job = make_job(tmp_path, script, items=40, concurrency=4)
    with Started(tmp_path, "run", job) as running:
        running.wait_until(lambda: len(notes(tmp_path)) == 4, "four run")
        (tmp_path / "output" / ".mpibatch" / "stop").touch()
        running.wait_to_say("stopping")
        open_gate(tmp_path)
        assert running.wait_to_end() == 75
    assert result(tmp_path / "output")["mini_batches"]["succeeded"] == 4
    assert len(notes(tmp_path)) == 4, "nothing new has begun"
    assert mpibatch("run", job).returncode == 0
    assert calls(tmp_path) == {f"item{n:03d}": 1 for n in range(40)}


def test_refused_where_run_is_not_async(tmp_path: Path) -> None:
    ended = mpibatch("run", make_job(tmp_path, "def run(mini_batch): return mini_batch", concurrency=4))
    assert ended.returncode == EXIT_USAGE, words(ended)
    assert "make it an async def" in ended.stderr
    assert not (tmp_path / "output").exists()
    other = make_job(tmp_path / "other", "run = lambda mini_batch: mini_batch", concurrency=4)
    ended = mpibatch("run", other)
    assert ended.returncode == EXIT_USAGE, words(ended)
    assert "is not async, so that no 4 mini-batches can run" in ended.stdout + ended.stderr


class ModelServer:
    """Answers one line with another, as soon as `together` requests wait; then always at once."""

    def __init__(self, together: int) -> None:
        self.most = 0
        self.port = 0
        self._together = together
        self._waiting = 0
        self._full = asyncio.Event()
        self._over = asyncio.Event()
        self.loop = asyncio.new_event_loop()

    async def serve(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._over.wait()
        server.close()
        await server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self._waiting += 1
            self.most = max(self.most, self._waiting)
            if self._waiting == self._together:
                self._full.set()
            await self._full.wait()
            self._waiting -= 1
            writer.write(line.upper())
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._over.set)


@contextmanager
def model_server(together: int) -> Iterator[ModelServer]:
    server, ready = ModelServer(together), threading.Event()
    thread = threading.Thread(target=lambda: server.loop.run_until_complete(server.serve(ready)))
    thread.start()
    try:
        assert ready.wait(30)
        yield server
    finally:
        server.stop()
        thread.join()
        server.loop.close()


CLIENT = """
import argparse, asyncio, os

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
arguments, _ = parser.parse_known_args()

async def init():
    global free
    free = asyncio.Queue()
    for _ in range(8):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", arguments.port))

async def run(mini_batch):
    return [await ask(path) for path in mini_batch]

async def ask(path):
    reader, writer = connection = await free.get()
    writer.write(os.path.basename(path).encode() + b"\\n")
    answer = await reader.readline()
    free.put_nowait(connection)
    return answer.decode().strip()

async def shutdown():
    while not free.empty():
        _, writer = free.get_nowait()
        writer.close()
        await writer.wait_closed()
"""


def test_a_model_server_is_asked_by_several_at_a_time(tmp_path: Path) -> None:
    with model_server(together=8) as server:
        job = make_job(
            tmp_path,
            CLIENT,
            items=48,
            concurrency=8,
            mini_batch_size=2,
            arguments=["--port", str(server.port)],
        )
        ended = mpibatch("run", job)
        assert ended.returncode == 0, words(ended)
        assert server.most == 8
    assert rows(tmp_path / "output") == [f"ITEM{n:03d}" for n in range(48)]


@pytest.mark.mpi
def test_two_ranks_with_several_each(tmp_path: Path) -> None:
    """Three ranks: one only coordinates. Each processor has its own loop, and one of them dies."""
    script = (
        NOTE
        + """
import asyncio, signal
inside = 0
async def run(mini_batch):
    global inside
    name = os.path.basename(mini_batch[0])
    note(f"{name} {os.getpid()}")
    inside += 1
    open(os.path.join(FOLDER, f"here{os.getpid()}"), "w").close()
    while sum(file.startswith("here") for file in os.listdir(FOLDER)) < 2:  # Else one could do all of it alone.
        await asyncio.sleep(0.005)
    while inside < 3 and not os.path.exists(os.path.join(FOLDER, f"full{os.getpid()}")):
        if os.path.exists(os.path.join(FOLDER, "killed")):
            break
        await asyncio.sleep(0.005)
    open(os.path.join(FOLDER, f"full{os.getpid()}"), "w").close()
    if name == "item001" and not os.path.exists(os.path.join(FOLDER, "killed")):
        open(os.path.join(FOLDER, "killed"), "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.01)
    return [name]
"""
    )
    job = make_job(tmp_path, script, items=60, concurrency=3, process_count_per_node=2)
    ended = mpibatch("run", job, ranks=3)
    assert ended.returncode == 0, words(ended)
    assert rows(tmp_path / "output") == [f"item{n:03d}" for n in range(60)]
    assert result(tmp_path / "output")["mini_batches"]["attempts"] == 60
    assert len({note.split()[1] for note in notes(tmp_path)}) == 3, "two, and one in place of the dead one"
