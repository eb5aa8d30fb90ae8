"""The README's table of faults, row by row: whether the run goes on by itself or continues when started again.

In each, two workers stand in the midst of a mini-batch and what was done before is committed: then somebody dies,
freezes or is asked to stop. `pytest -s` shows how long it was, from the fault or from the new start, until a
mini-batch that was in hand began again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import support
from faults.kinds import FOLDER
from faults.processes import end_all, look, of_role, send
from faults.scenario import KILL, SEGV, STOP, TERM

from mpibatch.core.history import RECORD_SIZE
from mpibatch.local_world import find_mpiexec, launcher_command
from mpibatch.runtime.journal import HEADER_SIZE
from mpibatch.runtime.run_folder import RunFolder

pytestmark = pytest.mark.mpi

NAMES = [f"item{number:03d}" for number in range(12)]
DONE = 4
"""So many are done before all stand at the gate."""
INT = signal.SIGINT
LAUNCHER_OPTIONS = {"mpiexec": [], "ulfm": ["--with-ft", "ulfm"], "continuous": ["--continuous"]}
SILENCE_S = 6
"""After it whoever is frozen is lost."""
RUN_S = 8
"""What a frozen processor's `run()` may take."""
SCRIPT = (
    support.NOTE
    + f"""
def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    note(f"{{name}} {{time.monotonic()}}")
    if name >= "item{DONE:03d}":
        gate()
    time.sleep(0.02)  # So that each is answered before the next begins.
    return [name]
"""
)


class Row(NamedTuple):
    fault: str
    launcher: str
    target: str
    number: signal.Signals
    goes_on: bool
    """Without being started again."""
    sessions: int
    says: str = ""
    times: int = 1
    code: int | None = None
    """Exit code of a run that does not go on, where that is not the launcher's affair."""


SILENT = f"has been silent for {SILENCE_S} s"
ROWS = [
    Row("processor killed", "local", "processor", KILL, True, 1),
    Row("processor segfaults", "local", "processor", SEGV, True, 1),
    Row("processor frozen", "local", "processor", STOP, True, 1),
    Row("guardian killed", "local", "guardian", KILL, True, 1),
    Row("guardian frozen", "local", "guardian", STOP, True, 1),
    Row("worker killed", "local", "worker", KILL, True, 2, "starting again (1 of 3)"),
    Row("worker killed", "mpiexec", "worker", KILL, False, 2),
    Row("worker killed", "ulfm", "worker", KILL, True, 1, "has died"),
    Row("worker killed", "continuous", "worker", KILL, True, 1, "has died"),
    Row("worker frozen", "local", "worker", STOP, True, 1, SILENT),
    Row("worker frozen", "mpiexec", "worker", STOP, True, 1, SILENT),
    Row("rank 0 killed", "local", "rank 0", KILL, True, 2, "starting again (1 of 3)"),
    Row("rank 0 killed", "mpiexec", "rank 0", KILL, False, 2),
    Row("rank 0 killed", "alone", "rank 0", KILL, False, 2, code=-KILL),
    Row("rank 0 frozen", "local", "rank 0", STOP, True, 2, "starting again (1 of 3)"),
    Row("mpiexec killed", "local", "mpiexec", KILL, True, 2, "starting again (1 of 3)"),
    Row("mpiexec killed", "mpiexec", "mpiexec", KILL, False, 2, code=-KILL),
    Row("parent killed", "local", "parent", KILL, False, 2, code=-KILL),
    Row("all killed at once", "local", "everything", KILL, False, 2, code=-KILL),
    Row("all killed at once", "mpiexec", "everything", KILL, False, 2, code=-KILL),
    Row("all killed at once", "alone", "everything", KILL, False, 2, code=-KILL),
    Row("Ctrl-C", "local", "parent", INT, False, 2, "stopping (got SIGINT)", code=130),
    Row("Ctrl-C", "alone", "parent", INT, False, 2, "stopping (got SIGINT)", code=130),
    Row("Ctrl-C twice", "local", "parent", INT, False, 2, "stopping (got SIGINT)", times=2, code=130),
    Row("Ctrl-C twice", "alone", "parent", INT, False, 2, "stopping (got SIGINT)", times=2, code=130),
    Row("SIGTERM", "local", "parent", TERM, False, 2, "stopping (got SIGTERM)", code=75),
    Row("SIGTERM", "alone", "parent", TERM, False, 2, "stopping (got SIGTERM)", code=75),
]  # fmt: skip


def limits(row: Row) -> dict[str, Any]:
    """Keys of a job in which what the row freezes is noticed soon. Else no limit of time is near: who is slow only is
    not to be taken for frozen."""
    match row.target, row.number:
        case "worker" | "rank 0", signal.SIGSTOP:
            return {"heartbeat_timeout": SILENCE_S}
        case "processor", signal.SIGSTOP:
            return {"run_invocation_timeout": RUN_S}
        case _:
            return {}


class Run:
    """A job in the midst of its work."""

    def __init__(self, folder: Path, launcher: str, **keys: Any) -> None:
        self.folder = folder
        self.output = folder / "output"
        self._launcher = launcher
        self._marker = f"{FOLDER}={folder}"
        # Short, as sockets of launchers lie in it.
        self.temporary = Path(tempfile.mkdtemp(prefix="k-"))
        self._job = support.make_job(
            folder, SCRIPT, items=len(NAMES), process_count_per_node=2, shutdown_timeout=2, **keys
        )
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command, variables = self._command()
        own = {FOLDER: str(self.folder), "TMPDIR": str(self.temporary)}
        environment = support.environment(**variables, **own)
        with open(self.folder / "said", "ab") as said:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment
            )

    def _command(self) -> tuple[list[str], dict[str, str]]:
        arguments = [*support.COMMAND, "run", str(self._job)]
        if self._launcher == "local":
            return arguments, {}
        if self._launcher == "alone":
            return [*arguments, "--set", "process_count_per_node=1"], {}
        command, variables = launcher_command(find_mpiexec(), 3)
        return [command[0], *LAUNCHER_OPTIONS[self._launcher], *command[1:], *arguments], variables

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text(errors="backslashreplace")

    @property
    def begun(self) -> list[tuple[str, float]]:
        """Items that were handed to `run()`, and when."""
        return [(name, float(at)) for name, at in (line.split() for line in support.notes(self.folder))]

    def wait_for_the_midst(self) -> None:
        """The first are committed, and each processor stands at the gate."""
        processors = 1 if self._launcher == "alone" else 2
        journal = RunFolder(self.output).journal(1)
        committed = HEADER_SIZE + DONE * RECORD_SIZE
        support.wait_until(
            lambda: (
                sum(name >= NAMES[DONE] for name, _ in self.begun) == processors
                and journal.stat().st_size >= committed
            ),
            f"all are in the midst; exit code {self.process.poll()}; it has said:\n{self.said}",
        )

    def harm(self, target: str, number: signal.Signals) -> None:
        if (target, number) == ("everything", KILL):
            assert end_all(self._marker, self.process.pid)
            return
        found = of_role(self._marker, self.process.pid, target, embedded=self._launcher == "alone")
        assert found, f"no {target} among {look(self._marker, self.process.pid)}"
        assert send(found[-1].pid, number)

    def start_again(self) -> int:
        self.process = self._start()
        return self.process.wait(support.TIMEOUT_S)

    def nothing_is_left(self, *, but_folders: bool = False) -> None:
        support.wait_until(lambda: not look(self._marker, self.process.pid), "no process of it is left")
        if not but_folders:
            assert not list(self.temporary.glob("mpibatch-*"))

    def end(self) -> None:
        end_all(self._marker, self.process.pid)
        self.process.wait()


@pytest.fixture
def run(row: Row, tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path, row.launcher, **limits(row))
    try:
        run.wait_for_the_midst()
        yield run
    finally:
        run.end()


def as_parameter(row: Row) -> Any:
    marks = [pytest.mark.open_mpi] if row.launcher in ("ulfm", "continuous") else []
    return pytest.param(row, marks=marks, id=f"{row.fault}, {row.launcher}")


@pytest.mark.parametrize("row", [as_parameter(row) for row in ROWS])
def test_a_row_of_the_table(row: Row, run: Run) -> None:
    before = {name for name, _ in run.begun}
    for time_ in range(row.times):
        run.harm(row.target, row.number)
        if time_ == 0 and row.says.startswith(("stopping", "starting again")):
            # Before the gate opens: ranks that live a little longer could end the work in it.
            support.wait_until(lambda: row.says in run.said, f"it says {row.says!r}")
    harmed_at = time.monotonic()
    if row.goes_on or (row.says and row.times == 1):
        support.open_gate(run.folder)
    code = run.process.wait(support.TIMEOUT_S)

    # Who dies with all others at once leaves nobody who could remove its folders.
    run.nothing_is_left(but_folders=row.target == "everything")
    assert row.says in run.said
    assert "Traceback" not in run.said
    if row.goes_on:
        assert code == 0, run.said
    else:
        assert code == row.code or (row.code is None and code != 0), run.said
        assert not (run.output / "rows.txt").exists()
        support.open_gate(run.folder)
        harmed_at = time.monotonic()
        assert run.start_again() == 0, run.said
        run.nothing_is_left(but_folders=row.target == "everything")
    _is_right(run, row)
    again = [at for name, at in run.begun if at > harmed_at and name in before]
    if again:
        print(f"{row.fault}, {row.launcher}: {min(again) - harmed_at:.2f} s")


def _is_right(run: Run, row: Row) -> None:
    assert support.rows(run.output) == NAMES
    told = support.result(run.output)
    assert (told["verdict"], told["exit_code"], told["sessions"]) == ("complete", 0, row.sessions)
    assert told["items"] == {"total": len(NAMES), "succeeded": len(NAMES), "failed": 0}
    assert not support.failed_items(run.output)
    names = [name for name, _ in run.begun]
    for name in NAMES[:DONE]:
        assert names.count(name) == 1, f"{name} was committed, and was done again"
    assert not RunFolder(run.output).lease.exists()
    assert not list(run.output.rglob("*.partial"))


SLOW_INIT = (
    support.NOTE
    + """
def init():
    note("init")
    gate()

def run(mini_batch):
    return [os.path.basename(mini_batch[0])]
"""
)


@pytest.mark.parametrize("number", [KILL, SEGV], ids=["killed", "segfaults"])
def test_a_processor_that_dies_once_in_init_is_replaced(number: signal.Signals, tmp_path: Path) -> None:
    job = support.make_job(tmp_path, SLOW_INIT, items=len(NAMES))
    with support.Started(tmp_path, "run", job, env=support.environment(**{FOLDER: str(tmp_path)})) as run:
        run.wait_until(lambda: support.notes(tmp_path) == ["init"], "it is in init()")
        (processor,) = of_role(f"{FOLDER}={tmp_path}", run.process.pid, "processor", embedded=True)
        assert send(processor.pid, number)
        run.wait_until(lambda: support.notes(tmp_path) == ["init", "init"], "its successor is in init()")
        support.open_gate(tmp_path)
        assert run.wait_to_end() == 0, run.said
    assert support.rows(tmp_path / "output") == NAMES


POISONS = [
    ("raises", "raise ValueError('bad pixels')", "ValueError"),
    ("segfaults", "os.kill(os.getpid(), 11)", "Died"),
    ("is killed for memory", "os.kill(os.getpid(), 9)", "Died"),
    ("ends", "os._exit(0)", "Died"),
    ("hangs", "time.sleep(1000)", "TimedOut"),
    ("freezes", "os.kill(os.getpid(), 19)", "TimedOut"),
]
POISONED = """
import os, time

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    if "item005" in names:
        {poison}
    return names
"""


@pytest.mark.parametrize(("what", "poison", "error"), POISONS, ids=[row[0] for row in POISONS])
def test_where_one_item_is_to_blame_its_neighbours_rows_are_kept(
    what: str, poison: str, error: str, tmp_path: Path
) -> None:
    limit: dict[str, Any] = {"run_invocation_timeout": 4} if error == "TimedOut" else {}
    job = support.make_job(
        tmp_path, POISONED.format(poison=poison), items=12, mini_batch_size=4, run_max_try=1, error_threshold=-1,
        **limit,
    )  # fmt: skip

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    output = tmp_path / "output"
    assert support.rows(output) == [name for name in NAMES if name != "item005"]
    (failed,) = support.failed_items(output)
    assert (os.path.basename(failed["item"]), failed["error"]["type"]) == ("item005", error)
    assert support.result(output)["items"] == {"total": 12, "succeeded": 11, "failed": 1}
    assert support.result(output)["mini_batches"]["failed"] == 1
