"""Progress: plain lines by a clock, and the bar on a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from mpibatch.monitor.bar import DRAW_EVERY_S, TerminalProgress
from mpibatch.monitor.progress import PlainProgress, Progress, SurveyProgress, make_progress
from mpibatch.results import ItemCounts, MiniBatchCounts, Snapshot


def snapshot(**changes: Any) -> Snapshot:
    usual = Snapshot(
        name="digits",
        session=1,
        host="node1",
        pid=17,
        written_at=0.0,
        elapsed_s=12.0,
        workers=2,
        workers_ready=2,
        in_flight=4,
        items=ItemCounts(total=1797, succeeded=894, failed=3),
        mini_batches=MiniBatchCounts(total=360, succeeded=179, failed=1, attempts=182),
        rows=894,
        rows_per_s=12_345.0,
        mini_batches_per_s=29.0,
        remaining_s=125.0,
    )
    return msgspec.structs.replace(usual, **changes)


DONE = snapshot(
    items=ItemCounts(total=1797, succeeded=1797, failed=0),
    mini_batches=MiniBatchCounts(total=360, succeeded=360, failed=0, attempts=360),
    remaining_s=0.0,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal:
    """A pseudo-terminal: `path` is what the user's terminal would be, `screen()` what it was sent."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.path = os.ttyname(self.slave)
        os.set_blocking(self.master, False)

    def width(self, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def sent(self) -> str:
        parts = []
        while True:
            try:
                parts.append(os.read(self.master, 65536))
            except BlockingIOError:
                return b"".join(parts).decode()

    def screen(self) -> list[str]:
        """The lines as they stand after what was sent: a line is erased by `ESC [2K` after a return."""
        lines = []
        for line in re.sub(r"\x1b\[[0-9;]*m", "", self.sent()).replace("\r\n", "\n").split("\n"):
            _, _, last = line.rpartition("\r\x1b[2K")
            assert "\r" not in last and "\x1b" not in last, repr(last)
            lines.append(last)
        return lines

    def hang_up(self) -> None:
        os.close(self.slave)
        os.close(self.master)
        self.master = self.slave = -1

    def close(self) -> None:
        for fd in (self.master, self.slave):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    made = Terminal()
    made.width(140)
    yield made
    made.close()


def bar(terminal: Terminal, clock: Callable[[], float]) -> Progress:
    progress = make_progress(io.StringIO(), terminal.path, "digits", clock)
    assert isinstance(progress, TerminalProgress)
    return progress


# Plain lines


def test_a_plain_line_holds_what_one_wants_to_know() -> None:
    stream = io.StringIO()
    PlainProgress(stream, Clock()).update(snapshot())
    assert stream.getvalue() == (
        "digits: 180 of 360 mini-batches (50 %), 897 of 1,797 items, 3 failed, 12.3k rows/s,"
        " 2 of 2 workers, 2 min 05 s left\n"
    )


def test_what_is_still_tried_in_pieces_has_not_ended() -> None:
    stream = io.StringIO()
    PlainProgress(stream, Clock()).update(snapshot(half_failed=1))
    assert stream.getvalue().startswith("digits: 179 of 360 mini-batches")


def test_no_time_is_left_where_it_is_unknown_or_all_is_done() -> None:
    for state in (snapshot(remaining_s=None), DONE):
        stream = io.StringIO()
        PlainProgress(stream, Clock()).update(state)
        assert "left" not in stream.getvalue()


def test_plain_lines_start_with_the_first_ready_worker_and_come_every_ten_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream, clock)
    lines_at = []
    for second in range(40):
        clock.now = 1000.0 + second
        before = stream.getvalue().count("\n")
        progress.update(snapshot(workers_ready=0 if second < 3 or second == 20 else 2))
        if stream.getvalue().count("\n") > before:
            lines_at.append(second)
    assert lines_at == [3, 13, 23, 33]


def test_a_warning_is_said_at_once_and_a_line_of_it_cannot_move_the_cursor() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, Clock())
    progress.say("warning: \x1b[2Jone\nand two")
    progress.close()
    assert stream.getvalue() == "warning: \\x1b[2Jone\nand two\n"


def test_a_stream_of_another_encoding_gets_what_it_can_hold() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    progress = PlainProgress(stream, Clock())
    progress.say("ä and \udcff")
    progress.say("more")
    assert raw.getvalue() == b"\\xe4 and \\xff\nmore\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", encoding="utf-8")
    progress = PlainProgress(stream, Clock())
    progress.update(snapshot())
    progress.say("nobody hears this")
    progress.close()
    with pytest.raises(BrokenPipeError):  # So it was really broken; and it is closed for the leak check.
        stream.close()


def test_a_closed_stream_is_no_error() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, Clock())
    stream.close()
    progress.say("nobody hears this")
    progress.update(snapshot())


# The bar


def test_the_bar_on_the_terminal_that_the_parent_names(terminal: Terminal) -> None:
    clock = Clock()
    progress = bar(terminal, clock)
    progress.update(snapshot())
    progress.say("warning: one row has a newline")
    clock.now += DRAW_EVERY_S
    progress.update(DONE)
    progress.close()
    above, line, end = terminal.screen()
    assert above == "warning: one row has a newline"
    assert line == "digits  " + "━" * 40 + "  360/360 mini-batches  1,797/1,797 items  0 failed  12.3k rows/s"
    assert end == ""


def test_the_bar_is_as_full_as_the_work_is_done(terminal: Terminal) -> None:
    progress = bar(terminal, Clock())
    progress.update(snapshot())
    sent = terminal.sent()
    progress.close()
    full, empty = re.findall(r"━+", sent)
    assert (len(full), len(empty)) == (20, 20)


@pytest.mark.parametrize("columns", [200, 140, 120, 100, 80, 60, 40, 20, 8, 1])
def test_the_bar_fits_the_device_and_what_matters_most_stays(terminal: Terminal, columns: int) -> None:
    terminal.width(columns)
    progress = bar(terminal, Clock())
    progress.update(snapshot())
    (line,) = terminal.screen()
    progress.close()
    assert len(line) <= max(0, columns - 1)
    words = {
        "180/360 mini-batches": 40,
        "3 failed": 60,
        "2 min 05 s left": 60,
        "━" * 10: 80,
        "897/1,797 items": 100,
        "12.3k rows/s": 100,
    }
    assert [word for word in words if word in line] == [word for word in words if words[word] <= columns]


def test_the_width_is_asked_for_again_at_each_draw(terminal: Terminal) -> None:
    clock = Clock()
    progress = bar(terminal, clock)
    progress.update(snapshot())
    (wide,) = terminal.screen()
    terminal.width(60)
    clock.now += DRAW_EVERY_S
    progress.update(snapshot())
    (narrow,) = terminal.screen()
    progress.close()
    assert len(wide) > 60 > len(narrow)


def test_a_terminal_that_tells_no_width_is_taken_for_a_usual_one(terminal: Terminal) -> None:
    terminal.width(0)
    progress = bar(terminal, Clock())
    progress.update(snapshot())
    (line,) = terminal.screen()
    progress.close()
    assert "━" * 10 in line and len(line) < 80


def test_before_the_first_ready_worker_it_says_so(terminal: Terminal) -> None:
    start = MiniBatchCounts(total=360, succeeded=0, failed=0, attempts=0)
    progress = bar(terminal, Clock())
    progress.update(snapshot(workers_ready=0, mini_batches=start))
    (line,) = terminal.screen()
    progress.close()
    assert line == "digits  starting, 0 of 2 workers ready"


def test_it_is_drawn_a_few_times_a_second_and_at_the_end(terminal: Terminal) -> None:
    clock = Clock()
    progress = bar(terminal, clock)
    for number in range(1000):
        clock.now += 0.001
        progress.update(snapshot(rows_per_s=number))
    draws = terminal.sent().count("\x1b[2K")
    assert 4 <= draws <= 6
    progress.update(DONE)
    assert terminal.sent() == ""
    progress.close()
    assert "360/360" in terminal.screen()[0]
    progress.close()
    assert terminal.sent() == ""


def test_colours_only_where_they_are_wanted(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    colours = re.compile(r"\x1b\[[0-9;]*3[0-9]m")
    for wanted in (True, False):
        if not wanted:
            monkeypatch.setenv("NO_COLOR", "1")
        progress = bar(terminal, Clock())
        progress.update(snapshot())
        progress.close()
        assert bool(colours.search(terminal.sent())) == wanted


def test_a_terminal_that_goes_away_is_no_error(terminal: Terminal) -> None:
    clock = Clock()
    progress = bar(terminal, clock)
    progress.update(snapshot())
    terminal.hang_up()
    clock.now += DRAW_EVERY_S
    progress.update(DONE)
    progress.say("nobody hears this")
    progress.close()


def test_a_terminal_that_is_held_does_not_hold_the_run(terminal: Terminal) -> None:
    # Nobody reads: after some thousands of bytes a blocking write would stand still for ever.
    clock = Clock()
    progress = bar(terminal, clock)
    for number in range(2000):
        clock.now += DRAW_EVERY_S
        progress.update(snapshot(rows_per_s=number))
        progress.say(f"warning {number}")
    terminal.sent()
    progress.say("heard again")
    sent = terminal.sent()
    progress.close()
    assert "heard again" in sent


def test_the_streams_own_terminal_where_none_is_named(terminal: Terminal) -> None:
    with open(terminal.slave, "w", encoding="utf-8", closefd=False) as stream:
        progress = make_progress(stream, None, "digits", Clock())
        assert isinstance(progress, TerminalProgress)
        progress.update(snapshot())
        progress.close()
        assert "180/360" in terminal.sent()
        assert not stream.closed


@pytest.mark.parametrize("path", [None, "/nowhere/pts/9", "/dev/null", ""])
def test_plain_lines_where_there_is_no_terminal(path: str | None) -> None:
    stream = io.StringIO()
    before = set(os.listdir("/proc/self/fd"))
    assert isinstance(make_progress(stream, path, "digits", Clock()), PlainProgress)
    assert set(os.listdir("/proc/self/fd")) == before


def test_plain_lines_on_a_terminal_that_cannot_move_its_cursor(terminal: Terminal) -> None:
    progress = make_progress(io.StringIO(), terminal.path, "digits", Clock(), environment={"TERM": "dumb"})
    assert isinstance(progress, PlainProgress)


def test_the_bar_of_a_terminal_without_unicode() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    progress = TerminalProgress(stream, "digits", clock=Clock())
    progress.update(snapshot())
    stream.seek(0)
    assert re.search("#+", stream.read())


# Processes of their own


def child(code: str, *arguments: str) -> str:
    """What a process that leads its own session, as a rank does, prints."""
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_users_terminal_does_not_become_the_ranks_own(terminal: Terminal) -> None:
    # Else a rank would get the SIGHUP and SIGINT of that terminal, beside its launcher's.
    code = """
import sys
from mpibatch.monitor.progress import make_progress
print(type(make_progress(sys.stderr, sys.argv[1], "digits")).__name__)
try:
    open("/dev/tty")
except OSError:
    print("no terminal of its own")
"""
    assert child(code, terminal.path).splitlines() == ["TerminalProgress", "no terminal of its own"]


def test_rich_is_imported_only_where_a_bar_is_drawn() -> None:
    code = """
import io, sys
from mpibatch.monitor import figures, progress, status, summary
progress.make_progress(sys.stderr, None, "digits").say("plain")
print([name for name in ("rich", "numpy", "pandas") if name in sys.modules])
"""
    assert child(code) == "[]\n"


def test_who_does_not_read_does_not_hold_a_run_up() -> None:
    """A pipe whose reader sleeps fills up; what does not fit is lost, and what comes later is not."""
    reading, writing = os.pipe()
    with open(writing, "w") as stream, open(reading, "rb") as reader:
        clock = Clock()
        progress = PlainProgress(stream, clock)
        for _ in range(200):
            progress.say("x" * 5_000)
        assert b"x" * 5_000 + b"\n" in os.read(reader.fileno(), 1 << 20)
        progress.say("later")
        assert os.read(reader.fileno(), 1 << 20).endswith(b"later\n")


# While the inputs are surveyed


def test_a_survey_tells_of_its_parts_every_ten_seconds_and_that_it_stops() -> None:
    clock, said = Clock(), list[str]()
    progress = SurveyProgress(said.append, clock)
    progress.update(snapshot())
    clock.now += 9.9
    progress.update(snapshot())
    assert said == []
    clock.now += 0.1
    progress.update(snapshot())
    progress.update(snapshot())
    assert said == ["surveyed 180 of 360 parts of the inputs"]
    progress.say("1,797 items in 360 mini-batches, the first handed out 0.20 s after the start")
    progress.say("stopping (got SIGINT): what is running may finish; ask again to give it up")
    assert said[1:] == [
        "the survey of the inputs is stopping (got SIGINT): what is running may finish; ask again to give it up"
    ]
