"""Who owns a run folder: real locks, real processes, shortened times."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import support

from mpibatch.errors import EXIT_STOPPED, EXIT_STORAGE, RunFolderError, StoppedError, StorageError
from mpibatch.runtime import lease as lease_module
from mpibatch.runtime.lease import Lease, LeaseRecord, process_started
from mpibatch.runtime.run_folder import RunFolder

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.private.mkdir()
    return folder


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "RENEW_S", 0.02)
    monkeypatch.setattr(lease_module, "DYING_S", 0.3)
    monkeypatch.setattr(lease_module, "LEASE_S", 0.7)
    monkeypatch.setattr(lease_module, "LOOK_S", 0.1)


@pytest.fixture
def lease(folder: RunFolder) -> Iterator[Lease]:
    lease = Lease(folder)
    yield lease
    lease.release()


def leave(folder: RunFolder, **changed: Any) -> LeaseRecord:
    """A lease that some owner has left; as told, one that is alive on this host."""
    record = LeaseRecord(
        **{
            "host": socket.gethostname(), "boot_id": BOOT, "pid": os.getppid(),
            "started": process_started(os.getppid()), "slurm_job": None, "renewed": time.time(), "session": 1,
            **changed,
        }
    )  # fmt: skip
    folder.lease.write_bytes(msgspec.json.encode(record))
    return record


def read(folder: RunFolder) -> LeaseRecord:
    return msgspec.json.decode(folder.lease.read_bytes(), type=LeaseRecord)


def silent(text: str) -> None:
    raise AssertionError(f"nothing is to be said, but it said: {text}")


def test_a_free_folder_is_owned_at_once(folder: RunFolder, lease: Lease) -> None:
    lease.acquire(silent)
    record = read(folder)
    assert (record.host, record.pid, record.session) == (socket.gethostname(), os.getpid(), 0)
    assert record.started == process_started(os.getpid())
    lease.set_session(3)
    assert read(folder).session == 3
    lease.check()
    lease.release()
    assert not folder.lease.exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "lease"]


def test_it_is_renewed_while_its_owner_is_busy(folder: RunFolder, lease: Lease) -> None:
    lease.acquire(silent)
    lease.set_session(2)
    for _ in range(3):
        before = read(folder).renewed
        support.wait_until(lambda before=before: read(folder).renewed > before, "it is renewed")  # type: ignore[misc]
    assert read(folder).session == 2


HOLDER = """
import sys
from mpibatch.runtime.lease import Lease
from mpibatch.runtime.run_folder import RunFolder
lease = Lease(RunFolder(sys.argv[1]))
lease.acquire(print)
lease.set_session(1)
print("held", flush=True)
sys.stdin.read()
lease.release()
"""


@pytest.fixture
def holder(folder: RunFolder) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns the folder until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env=support.from_anywhere(),
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    process.stdin.close()


def test_while_another_process_lives_it_is_refused(
    folder: RunFolder, lease: Lease, holder: subprocess.Popen[str]
) -> None:
    said: list[str] = []
    before = time.monotonic()
    with pytest.raises(RunFolderError) as caught:
        lease.acquire(said.append)
    assert 0.3 <= time.monotonic() - before < 5
    message = str(caught.value)
    for words in (
        f"in use by process {holder.pid} on {socket.gethostname()}",
        str(folder.root),
        "mpibatch stop",
        "--output",
    ):
        assert words in message
    assert len(said) == 1 and f"in use by process {holder.pid}" in said[0]
    lease.release()
    assert read(folder).pid == holder.pid  # Not ours to remove.


def test_an_owner_that_was_killed_does_not_delay(
    folder: RunFolder, lease: Lease, holder: subprocess.Popen[str]
) -> None:
    holder.kill()
    holder.wait()
    assert read(folder).pid == holder.pid
    lease.acquire(silent)
    assert read(folder).pid == os.getpid()


def test_it_waits_for_an_owner_that_is_about_to_end(
    lease: Lease, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "DYING_S", 20)

    def let_end(text: str) -> None:
        assert holder.stdin is not None
        holder.stdin.close()

    lease.acquire(let_end)
    assert holder.wait() == 0


STALE: list[tuple[str, dict[str, Any]]] = [
    ("its process is gone", {"pid": 2**22 - 1}),
    ("its number is another process's now", {"pid": os.getpid(), "started": 1}),
    ("this host was started anew", {"boot_id": "another"}),
]


@pytest.mark.parametrize("changed", [row[1] for row in STALE], ids=[row[0] for row in STALE])
def test_a_stale_lease_of_this_host_does_not_delay(
    changed: dict[str, Any], folder: RunFolder, lease: Lease
) -> None:
    leave(folder, **changed)
    lease.acquire(silent)
    assert read(folder).pid == os.getpid() and read(folder).boot_id == BOOT


def test_a_lease_that_is_no_lease_does_not_hinder(folder: RunFolder, lease: Lease) -> None:
    folder.lease.write_text("{")
    lease.acquire(silent)


def test_where_locks_do_not_work_a_living_owner_of_this_host_is_seen(folder: RunFolder, lease: Lease) -> None:
    leave(folder)  # Nobody holds the lock.
    with pytest.raises(RunFolderError, match=f"process {os.getppid()} on"):
        lease.acquire(lambda text: None)


@pytest.mark.parametrize("number", [38, 37])  # ENOSYS, ENOLCK
def test_a_file_system_without_locks(
    number: int, folder: RunFolder, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lockf(fd: int, command: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    lease.acquire(silent)
    assert read(folder).pid == os.getpid()


@pytest.mark.parametrize("off_s", [0.0, 86400.0, -86400.0, 1e9, -1e9])
def test_the_lease_of_another_host_that_is_not_renewed_is_outwaited(
    off_s: float, folder: RunFolder, lease: Lease
) -> None:
    """However far off its clock is: only whether it is renewed counts."""
    leave(folder, host="elsewhere", renewed=time.time() + off_s, slurm_job="77")
    said: list[str] = []
    before = time.monotonic()
    lease.acquire(said.append)
    assert 0.7 <= time.monotonic() - before < 5
    (text,) = said
    assert "on elsewhere, Slurm job 77" in text and "waiting up to 0.7 s" in text
    assert read(folder).pid == os.getpid()


def test_the_lease_of_another_host_that_is_given_back_is_free(
    folder: RunFolder, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "LEASE_S", 30)
    leave(folder, host="elsewhere")
    lease.acquire(lambda text: folder.lease.unlink())
    assert read(folder).pid == os.getpid()


@pytest.mark.parametrize("jump_s", [1.0, -1.0, 86400.0, -86400.0])
def test_the_lease_of_another_host_that_is_renewed_is_refused(
    jump_s: float, folder: RunFolder, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if its clock was set back meanwhile."""
    monkeypatch.setattr(lease_module, "LEASE_S", 30)

    def renew(text: str) -> None:
        leave(folder, host="elsewhere", renewed=time.time() + jump_s)

    leave(folder, host="elsewhere")
    with pytest.raises(RunFolderError, match=f"in use by process {os.getppid()} on elsewhere"):
        lease.acquire(renew)
    lease.release()
    assert read(folder).host == "elsewhere"


@pytest.mark.parametrize("jump_s", [86400.0, -86400.0])
def test_our_own_clock_may_be_set(
    jump_s: float, folder: RunFolder, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays ours, and is renewed."""
    lease.acquire(silent)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    support.wait_until(lambda: abs(read(folder).renewed - real() - jump_s) < 100, "it is renewed")
    lease.check()
    lease.set_session(1)
    assert read(folder).session == 1


def test_after_standing_still_it_is_looked_at_first(
    folder: RunFolder, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a SIGSTOP, or the sleep of a machine: before the thread that renews it has come round."""
    monkeypatch.setattr(lease_module, "RENEW_S", 1000)
    now = 0.0
    monkeypatch.setattr(lease_module, "_elapsed", lambda: now)
    lease.acquire(silent)
    before = read(folder).renewed
    now = 0.34
    lease.check()
    assert read(folder).renewed == before, "it was not needed"
    now = 0.36
    lease.check()
    assert read(folder).renewed > before
    leave(folder, host="elsewhere", pid=7)
    now += 0.34
    lease.check()
    now += 0.02
    with pytest.raises(StoppedError, match="another start has taken over"):
        lease.check()


def test_a_lease_that_was_taken_over_ends_the_renewals(folder: RunFolder, lease: Lease) -> None:
    lease.acquire(silent)
    with lease._writing:  # Not within a renewal, which would write over it.
        thief = leave(folder, host="elsewhere", pid=7)
    support.wait_until(lambda: not lease._thread.is_alive(), "the renewals have ended")
    with pytest.raises(
        StoppedError, match=r"another start has taken over .*\(process 7 on elsewhere\)"
    ) as caught:
        lease.check()
    assert caught.value.exit_code == EXIT_STOPPED
    with pytest.raises(StoppedError):
        lease.set_session(1)
    lease.release()
    assert read(folder) == thief


def test_a_lease_that_is_gone_is_lost(folder: RunFolder, lease: Lease) -> None:
    lease.acquire(silent)
    with lease._writing:
        folder.lease.unlink()
    support.wait_until(lambda: not lease._thread.is_alive(), "the renewals have ended")
    with pytest.raises(StoppedError, match="its lease is gone"):
        lease.check()
    assert not folder.lease.exists()


def test_a_lease_that_cannot_be_renewed_is_a_storage_error(
    folder: RunFolder, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes, *, durable: bool = True) -> None:
        raise OSError(28, "No space left on device")

    lease.acquire(silent)
    monkeypatch.setattr(lease_module, "write_whole", full)
    support.wait_until(lambda: not lease._thread.is_alive(), "the renewals have ended")
    with pytest.raises(
        StorageError, match=r"lease\.json cannot be written: No space left on device"
    ) as caught:
        lease.check()
    assert caught.value.exit_code == EXIT_STORAGE


def test_a_lease_that_cannot_be_written_is_not_held(
    folder: RunFolder, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes, *, durable: bool = True) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lease_module, "write_whole", full)
    with pytest.raises(StorageError, match="The disk is full"):
        lease.acquire(silent)
    assert lease._lock_fd == -1


def test_when_a_process_started() -> None:
    assert process_started(2**22 - 1) is None
    sleeper = subprocess.Popen(["sleep", "1000"])
    started = process_started(sleeper.pid)
    assert started is not None and started >= (process_started(os.getpid()) or 0)
    sleeper.kill()
    # A zombie does not live.
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert process_started(sleeper.pid) is None
    sleeper.wait()
