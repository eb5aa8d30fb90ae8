"""Who asks a session to stop, and how urgently."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import support

from mpibatch.runtime import local_folder
from mpibatch.runtime.lease import process_started
from mpibatch.runtime.local_folder import parent_has_died, tell_parent
from mpibatch.runtime.stops import EARLY_S, POLL_S, Signals, StopAsk, Stops
from mpibatch.runtime.wall_time import WallTime


class Asked:
    """Stops of a session whose clock the test moves."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "stop"
        self.signals = Signals()
        self.now = 0.0
        self.stops = Stops(self.signals, self.file, term_grace_s=20, clock=lambda: self.now)

    def poll(self, after_s: float = POLL_S) -> StopAsk | None:
        self.now += after_s
        return self.stops.poll()


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.delenv("MPIBATCH_LOCAL", raising=False)
    monkeypatch.delenv("MPIBATCH_PARENT", raising=False)
    return Asked(tmp_path)


def test_nobody_asks(asked: Asked) -> None:
    assert asked.poll() is None
    assert not asked.stops.interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_stands_and_a_second_one_is_urgent(number: signal.Signals, asked: Asked) -> None:
    asked.signals.got.append(number)
    assert asked.poll(0) == StopAsk(f"got {number.name}", False)
    assert asked.poll(0) == StopAsk(f"got {number.name}", False)
    asked.signals.got.append(signal.SIGUSR2)
    assert asked.poll(0) == StopAsk(f"got {number.name}", True)
    assert asked.stops.interrupted == (number == signal.SIGINT)


def test_after_sigterm_there_is_so_much_time(asked: Asked) -> None:
    asked.signals.got.append(signal.SIGTERM)
    assert asked.poll(0) == StopAsk("got SIGTERM", False)
    assert asked.poll(20) == StopAsk("got SIGTERM", False)
    assert asked.poll(0.1) == StopAsk("got SIGTERM", True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR2])
def test_after_others_there_is_all_the_time(number: signal.Signals, asked: Asked) -> None:
    asked.signals.got.append(number)
    assert asked.poll(0) == StopAsk(f"got {number.name}", False)
    assert asked.poll(1000) == StopAsk(f"got {number.name}", False)


@pytest.mark.parametrize(
    ("content", "at_once"), [("", False), ("drain", False), ("now", True), ("now\n", True), ("\xff", False)]
)
def test_the_stop_file(content: str, at_once: bool, asked: Asked) -> None:
    asked.file.write_bytes(content.encode("latin-1"))

    assert asked.poll() == StopAsk(f"asked to by {asked.file}", at_once)
    assert not asked.stops.interrupted


def test_a_batch_script_says_what_it_got(asked: Asked) -> None:
    asked.file.write_text("the batch script got USR2\n")

    assert asked.poll() == StopAsk("the batch script got USR2", False)


def test_files_are_looked_at_now_and_then(asked: Asked) -> None:
    assert asked.poll() is None
    asked.file.touch()
    assert asked.poll(POLL_S / 2) is None
    assert asked.poll(POLL_S / 2) is not None


# In a world that a parent started here


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "local"
    folder.mkdir()
    monkeypatch.setenv("MPIBATCH_LOCAL", str(folder))
    monkeypatch.setenv("MPIBATCH_PARENT", f"{os.getpid()}:{process_started(os.getpid())}")
    return folder


def test_the_parents_signals_count_like_our_own(local: Path, tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    assert asked.poll() is None
    (local / "signals").write_text("")
    assert asked.poll() is None
    (local / "signals").write_text("SIGINT\n")
    assert asked.poll() == StopAsk("got SIGINT", False)
    assert asked.stops.interrupted
    (local / "signals").write_text("SIGINT\nSIGTERM\n")
    assert asked.poll() == StopAsk("got SIGINT", True)


def test_the_parents_sigterm_counts_too(local: Path, tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    (local / "signals").write_text("SIGTERM\n")
    assert asked.poll() == StopAsk("got SIGTERM", False)
    assert not asked.stops.interrupted
    assert asked.poll(20.1) == StopAsk("got SIGTERM", True)


@pytest.mark.parametrize("parent", [f"{os.getpid()}:1", "4194304:1"], ids=["another", "nobody"])
def test_a_parent_that_has_died(
    parent: str, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its number is another process's now. What it left is removed by whoever tells it something."""
    assert not parent_has_died()
    monkeypatch.setenv("MPIBATCH_PARENT", parent)

    assert parent_has_died()
    assert Asked(tmp_path).poll() == StopAsk("the mpibatch that started this has died", True)
    assert tell_parent("exit_code", "75")
    assert not local.exists()
    assert not tell_parent("exit_code", "75"), "there is nobody to tell"


def test_what_is_told_to_a_parent(local: Path) -> None:
    assert tell_parent("exit_code", "75")
    assert (local / "exit_code").read_text() == "75"


def test_without_a_parent_nothing_is_told(asked: Asked) -> None:
    assert not tell_parent("exit_code", "75")


def test_rank_0_beats(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as its parent has the folder."""
    monkeypatch.setattr(local_folder, "BEAT_S", 0.01)
    local_folder.beat()
    file = local / "beat"
    assert file.read_text() == f"{os.getpid()}:{process_started(os.getpid())}"
    for _ in range(2):
        before = file.stat().st_mtime_ns
        support.wait_until(lambda before=before: file.stat().st_mtime_ns > before, "it beats")  # type: ignore[misc]
    shutil.rmtree(local)
    support.wait_until(
        lambda: not [thread for thread in threading.enumerate() if thread.name == "beat"], "it has ended"
    )


def test_without_a_parent_nothing_beats(asked: Asked) -> None:
    local_folder.beat()
    assert not [thread for thread in threading.enumerate() if thread.name == "beat"]


@pytest.fixture
def signal_numbers() -> Iterator[list[signal.Signals]]:
    """Those that ask to stop; they do what they did again afterwards."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP]
    before = [signal.getsignal(number) for number in numbers]
    yield numbers
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_signals_are_counted(signal_numbers: list[signal.Signals]) -> None:
    signals = Signals()
    signals.install()
    for number in signal_numbers:
        signal.raise_signal(number)
    assert signals.got == signal_numbers


def test_what_is_ignored_stays_ignored(signal_numbers: list[signal.Signals]) -> None:
    """As `nohup` sets it, and a shell for what runs in the background."""
    for number in signal_numbers:
        signal.signal(number, signal.SIG_IGN)
    signals = Signals()
    signals.install()
    for number in signal_numbers:
        signal.raise_signal(number)
    assert signals.got == []


@pytest.mark.parametrize(("left_s", "up"), [(EARLY_S + 9, True), (EARLY_S + 11, False)])
def test_whoever_asks_near_the_end_of_the_wall_time_asks_for_that(
    left_s: float, up: bool, tmp_path: Path
) -> None:
    limit = WallTime(margin_s=10, started_at=0, limit_s=1000, environment={}, clock=lambda: 0.0)
    now = 1000 - left_s
    stops = Stops(Signals(), tmp_path / "stop", term_grace_s=20, wall_time=limit, clock=lambda: now)
    assert stops.poll() is None
    (tmp_path / "stop").touch()
    now += POLL_S
    assert stops.poll() is not None
    assert (stops.asker, stops.time_was_up) == ("file", up)
