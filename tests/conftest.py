"""What no test may leave behind: processes, file descriptors, folders of ours in the folder for temporary files.

All tests get a folder for temporary files of their own, so that what others on this machine do is not taken
for theirs, and what their processes have started is known by that folder's name in its environment.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import support

from mpibatch.local_world import find_mpiexec, is_open_mpi

GRACE_S = 60.0
"""For processes that have just been told to end, or whose parent was killed."""


def pytest_configure() -> None:
    """As in a terminal: with a shell's `command &` Ctrl-C is ignored, also by what is started from here, which leaves
    ignored what it finds ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about another MPI than the one that is here."""
    one_sided = [
        item for item in items if item.get_closest_marker("open_mpi") or item.get_closest_marker("mpich")
    ]
    if one_sided:
        other = "mpich" if is_open_mpi(find_mpiexec()) else "open_mpi"
        left_out = [item for item in one_sided if item.get_closest_marker(other)]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Where files of tests run side by side, reports travel as UTF-8; what a test has printed need not be."""
    return _plain((yield))


def _plain(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_plain(key): _plain(one) for key, one in value.items()}
        case list() | tuple():
            return type(value)(map(_plain, value))
        case _:
            return value


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tests' own folder for temporary files. Short, as sockets of MPI launchers lie in it."""
    tmp_path_factory.getbasetemp()  # Before the folder changes, so that pytest keeps its own elsewhere.
    folder = Path(tempfile.mkdtemp(prefix="tests-"))
    folder.chmod(0o755)  # Some tests look at it as another user.
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None
    yield folder
    os.environ.pop("TMPDIR")
    if before is not None:
        os.environ["TMPDIR"] = before
    tempfile.tempdir = None
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_is_left(temporary_folder: Path) -> Iterator[None]:
    """Fails the test that leaves a process, an open file or a scratch folder."""
    marker = f"TMPDIR={temporary_folder}"
    looks: dict[str, Callable[[], set[str]]] = {
        "processes": lambda: _processes(marker),
        "open files": _open_files,
        "temporary folders": lambda: {entry.name for entry in temporary_folder.glob("mpibatch-*")},
    }
    before = {what: look() for what, look in looks.items()}
    yield
    for what, look in looks.items():
        left = _left(look, before[what])
        if left:
            pytest.fail(f"the test has left {what}: {', '.join(sorted(left))}", pytrace=False)


def _left(look: Callable[[], set[str]], before: set[str]) -> set[str]:
    """What is new and still there after some time for it to go by itself."""
    end = time.monotonic() + GRACE_S
    while left := look() - before:
        if time.monotonic() > end:
            return left
        gc.collect()
        time.sleep(0.01)
    return set()


def _processes(marker: str) -> set[str]:
    """All that the tests have started, also what is no child of ours any more; and children not waited for."""
    found = {*support.processes_with(marker), *_children()}
    return {f"{pid} ({_command(pid)})" for pid in found}


def _children() -> Iterator[int]:
    for thread in Path("/proc/self/task").iterdir():
        try:
            yield from map(int, (thread / "children").read_text().split())
        except OSError:  # It has ended, or this kernel does not tell of children.
            continue


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")[:200]
    except OSError:
        return "ended meanwhile"


def _open_files() -> set[str]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{number} -> {os.readlink(f'/proc/self/fd/{number}')}")
        except OSError:  # That of the listing itself.
            continue
    return found
