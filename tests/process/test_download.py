"""`mode: download`: what a script is given, when it is copied, what becomes of the copies, and what of trouble."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import support
from disks import Disk, NoDisk
from process.child import Child

from mpibatch.messages import PassedOver
from mpibatch.work import WARN_IN_PLACE, Failed, Succeeded

SHOWS = """
import json, os

def run(mini_batch, context):
    rows = []
    for path, original in zip(mini_batch, context.original_paths, strict=True):
        status = os.stat(path)
        with open(path, "rb") as file:
            content = file.read().decode()
        rows.append(json.dumps([path, original, content, status.st_mode & 0o777, status.st_mtime_ns]))
    return rows
"""
HOLDS = """
import os, time

def run(mini_batch):
    (path,) = mini_batch
    with open(path) as file:
        content = file.read()
    if content == "hold":
        with open("{folder}/holding", "w"):
            pass
        while not os.path.exists("{folder}/gate"):
            time.sleep(0.002)
    return [content]
"""


def child(folder: Path, script: str, **more: Any) -> Child:
    return Child(folder, script.replace("{folder}", str(folder)), downloads=[0], **more)


def file(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def copies(folder: Path) -> set[str]:
    """What of files lies in the scratch folder, by the path of the original below `folder`."""
    # Not by rglob, which fails where a folder goes meanwhile.
    found = [
        f"{below}/{name}" for below, _, names in os.walk(folder / "scratch" / "staged") for name in names
    ]
    return {path.partition("/staged/")[2].partition(str(folder))[2][1:] for path in found}


def shown(outcome: object) -> list[list[Any]]:
    assert isinstance(outcome, Succeeded), outcome
    return [json.loads(line) for line in outcome.fragment.decode().splitlines()]


def test_a_script_is_given_copies_below_scratch_and_may_know_the_originals(tmp_path: Path) -> None:
    one, other, empty = (
        file(tmp_path / "in" / "cats" / "1.png", "cat"),
        file(tmp_path / "in" / "dogs" / "1.png", "dog"),
        file(tmp_path / "in" / "dogs" / "empty"),
    )
    one.chmod(0o640)
    os.utime(one, ns=(1, 123_456_789_000))
    link = tmp_path / "in" / "link.png"
    link.symlink_to(other)
    with child(tmp_path, SHOWS) as processor:
        rows = shown(processor.ready().does(*map(str, (one, other, empty, link, one))))
        assert [row[1] for row in rows] == list(map(str, (one, other, empty, link, one)))
        assert [row[2] for row in rows] == ["cat", "dog", "", "dog", "cat"]
        assert rows[0][3:] == [0o640, 123_456_789_000]
        given = [row[0] for row in rows]
        assert len(set(given)) == 5 and all(path.startswith(str(processor.scratch)) for path in given)
        assert all(path.endswith(str(of)) for path, of in zip(given[:4], (one, other, empty, link)))
        assert given[4].endswith("/1.png")
        support.wait_until(lambda: not copies(tmp_path), "the copies are removed")
        assert processor.finish() == 0


def test_names_of_any_bytes_and_any_length(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/not\xffutf8\n"
    # As long as a path can be, so that none below scratch has room for it.
    folders = b"/".join([os.fsencode(tmp_path), *[b"d" * 200] * ((4000 - len(str(tmp_path))) // 201)])
    long = folders + b"/" + b"n" * min(255, 4095 - len(folders) - 1)
    for path in (odd, long):
        current = os.open("/", os.O_RDONLY)
        try:
            for part in path.split(b"/")[1:-1]:
                if not os.path.exists(b"/proc/self/fd/%d/%s" % (current, part)):
                    os.mkdir(part, dir_fd=current)
                below = os.open(part, os.O_RDONLY, dir_fd=current)
                os.close(current)
                current = below
            target = os.open(path.split(b"/")[-1], os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=current)
            os.write(target, b"here")
            os.close(target)
        finally:
            os.close(current)
    script = "def run(b):\n    return [f'{open(p).read()} {chr(47) + \"staged\" + chr(47) in p}' for p in b]"
    with child(tmp_path, script) as processor:
        assert processor.ready().rows(odd, long) == b"here True\n" * 2
        assert processor.finish() == 0


def test_the_next_mini_batches_are_copied_while_run_is_busy_and_removed_when_done(tmp_path: Path) -> None:
    names = ["held", "b", "c", "d", "e"]
    for name in names:
        file(tmp_path / name, "hold" if name == "held" else name)
    with child(tmp_path, HOLDS) as processor:
        processor.ready().grant([str(tmp_path / "held")], [str(tmp_path / "b")])
        support.wait_until((tmp_path / "holding").exists, "run() is busy")
        # Granted while the processor does not listen, as its worker does it.
        processor.grant(*[[str(tmp_path / name)] for name in ("c", "d", "e")])
        support.wait_until(lambda: copies(tmp_path) == {"held", "b", "c"}, "two are copied ahead, no more")
        support.open_gate(tmp_path)
        assert [processor.outcome().attempt for _ in names] == [1, 2, 3, 4, 5]
        support.wait_until(lambda: not copies(tmp_path), "all copies are removed")
        assert processor.finish() == 0


def test_what_is_taken_back_is_passed_over_and_takes_no_room(tmp_path: Path) -> None:
    for name in ("held", "b", "c", "d"):
        file(tmp_path / name, "hold" if name == "held" else name)
    with child(tmp_path, HOLDS) as processor:
        processor.ready().grant(*[[str(tmp_path / name)] for name in ("held", "b", "c", "d")])
        support.wait_until((tmp_path / "holding").exists, "run() is busy")
        support.wait_until(lambda: copies(tmp_path) == {"held", "b", "c"}, "they are copied")
        assert processor.revoke(2, 4) == 1
        support.open_gate(tmp_path)
        assert processor.outcome().attempt == 1
        assert [processor.first() for _ in range(3)] == [PassedOver(attempt) for attempt in (2, 3, 4)]
        support.wait_until(lambda: not copies(tmp_path), "copies of what was passed over are removed")
        assert processor.rows(str(tmp_path / "b")) == b"b\n"
        assert processor.finish() == 0


def test_a_file_that_cannot_be_read_fails_in_the_script_as_it_would_in_place(tmp_path: Path) -> None:
    good, gone, folder = file(tmp_path / "good", "good"), tmp_path / "gone", tmp_path / "folder"
    folder.mkdir()
    with child(tmp_path, "def run(b):\n    return [open(p).read() for p in b]") as processor:
        processor.ready()
        failed = processor.fails(str(good), str(gone))
        assert (failed.cause, failed.error.type) == ("raised", "FileNotFoundError")
        assert repr(str(gone)) in failed.error.message
        assert repr(str(folder)) in processor.fails(str(folder)).error.message
        assert str(gone) in processor.errors and "scratch" not in processor.errors.partition("Traceback")[0]
        outcome = processor.does(str(good))
        assert isinstance(outcome, Succeeded) and not outcome.warnings
        assert "mode: download" not in processor.stderr
        assert processor.finish() == 0


def test_a_pipe_is_not_opened_before_the_script_does(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with child(tmp_path, "import os\ndef run(b):\n    return [p for p in b]") as processor:
        assert processor.ready().rows(str(pipe)) == f"{pipe}\n".encode()
        assert processor.finish() == 0


def test_input_keys_name_the_originals(tmp_path: Path) -> None:
    one = file(tmp_path / "one", "x")
    with child(
        tmp_path, "def run(b):\n    return [open(p).read() for p in b]", add_input_key=True
    ) as processor:
        row = processor.ready().rows(str(one))
        assert row.decode().split() == [str(one), "x"]
        assert processor.finish() == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        mounted = Disk(tmp_path / "scratch", "256k")
    except NoDisk as error:
        (tmp_path / "scratch").rmdir()
        pytest.skip(f"needs a file system of its own: {error}")
    with mounted:
        yield mounted


def test_a_full_scratch_disk_falls_back_and_is_tried_again(disk: Disk, tmp_path: Path) -> None:
    small, large = file(tmp_path / "small", "s" * 1000), file(tmp_path / "large", "l" * 1_000_000)
    script = (
        "def run(b):\n    return [f'{len(open(p).read())} {chr(47) + \"staged\" + chr(47) in p}' for p in b]"
    )
    with child(tmp_path, script) as processor:
        processor.ready()
        for _ in range(2):
            outcome = processor.does(str(small), str(large), str(small))
            assert isinstance(outcome, Succeeded)
            # What fits is a copy, the rest of that mini-batch is read in place.
            assert outcome.fragment.splitlines() == [b"1000 True", b"1000000 False", b"1000 False"]
            assert outcome.warnings == WARN_IN_PLACE
            # The partial copy took no room.
            outcome = processor.does(str(small))
            assert isinstance(outcome, Succeeded)
            assert (outcome.fragment, outcome.warnings) == (b"1000 True\n", 0)
        assert processor.stderr.count("mode: download") == 1
        assert os.strerror(errno.ENOSPC) in processor.stderr and str(large) in processor.stderr
        assert processor.finish() == 0


def test_scratch_that_the_script_has_made_unwritable_is_no_failure(tmp_path: Path) -> None:
    one = file(tmp_path / "one", "x")
    script = (
        "def init():\n    open('staged', 'w').close()\ndef run(b):\n    return [open(p).read() for p in b]"
    )
    with child(tmp_path, script) as processor:
        outcome = processor.ready().does(str(one))
        assert isinstance(outcome, Succeeded)
        assert (outcome.fragment, outcome.warnings) == (b"x\n", WARN_IN_PLACE)
        assert processor.finish() == 0


def test_the_script_has_no_child_of_ours_and_may_fork(tmp_path: Path) -> None:
    one = file(tmp_path / "one", "x")
    script = """
        import multiprocessing, os
        def run(b):
            try:
                os.wait()
            except ChildProcessError:
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    return pool.map(len, b)
    """
    with child(tmp_path, script, environment={"PYTHONWARNINGS": "error"}) as processor:
        assert processor.ready().rows(str(one)).strip().isdigit()
        assert processor.finish() == 0


@pytest.fixture
def sigio_is_nothing() -> Iterator[None]:
    """It tells the holder of a lease that somebody waits."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, before)


@pytest.mark.usefixtures("sigio_is_nothing")
def test_a_file_that_cannot_be_opened_for_long_holds_up_none_but_its_mini_batch(tmp_path: Path) -> None:
    """And its clock runs, so that it is over time as if the script opened it."""
    good, slow = file(tmp_path / "good", "good"), file(tmp_path / "slow", "slow")
    with open(slow, "r+b") as held:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)  # Whoever opens it waits for us.
        with child(tmp_path, HOLDS) as processor:
            processor.ready().grant([str(good)], [str(slow)])
            outcome = processor.outcome()
            assert isinstance(outcome, Succeeded) and outcome.fragment == b"good\n"
            support.wait_until(lambda: processor.clock()[0] == 2, "the second attempt has begun")
            # It goes on once the file can be opened.
            fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            outcome = processor.outcome()
            assert isinstance(outcome, Succeeded) and outcome.fragment == b"slow\n"
            assert processor.finish() == 0


@pytest.mark.usefixtures("sigio_is_nothing")
def test_of_what_is_taken_back_no_further_file_is_opened(tmp_path: Path) -> None:
    held, first, second, later = (
        file(tmp_path / name, name) for name in ("held", "first", "second", "later")
    )
    held.write_text("hold")
    with open(first, "r+b") as one, open(second, "r+b") as two:
        for lease in (one, two):
            fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        with child(tmp_path, HOLDS) as processor:
            processor.ready().grant([str(held)], [str(first), str(second)])
            support.wait_until((tmp_path / "holding").exists, "run() is busy")
            assert processor.revoke(2, 2) == 1
            processor.grant([str(later)])
            fcntl.fcntl(one, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            support.wait_until(lambda: "later" in copies(tmp_path), "what comes after it is copied")
            support.open_gate(tmp_path)
            assert processor.outcome().attempt == 1
            assert processor.first() == PassedOver(2)
            assert processor.outcome().attempt == 3
            assert processor.finish() == 0


@pytest.mark.usefixtures("sigio_is_nothing")
def test_a_wait_that_the_script_breaks_off_does_not_give_its_copies_to_the_next(tmp_path: Path) -> None:
    script = "import signal\n\ndef no_more(number, frame): raise TimeoutError('no more')\n\n"
    script += "signal.signal(signal.SIGALRM, no_more)\n" + HOLDS
    slow, good = file(tmp_path / "slow", "slow"), file(tmp_path / "good", "good")
    with open(slow, "r+b") as held:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        with child(tmp_path, script) as processor:
            processor.ready().grant([str(slow)])
            support.wait_until(lambda: processor.clock()[0] == 1, "the attempt has begun")
            # It waits for the lease, so that it is asleep in the wait for the copy.
            stat = Path(f"/proc/{processor.process.pid}/wchan")
            support.wait_until(lambda: stat.read_text() not in ("", "0"), "it waits")
            os.kill(processor.process.pid, signal.SIGALRM)
            failed = processor.outcome()
            assert isinstance(failed, Failed) and failed.error.type == "TimeoutError", failed
            processor.grant([str(good)])
            fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            outcome = processor.outcome()
            assert isinstance(outcome, Succeeded) and outcome.fragment == b"good\n"
            assert processor.finish() == 0


def group(processor: Child) -> list[int]:
    """The other processes of its group."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if (
            int(fields[2]) == processor.process.pid
            and fields[0] != "Z"
            and int(entry.name) != processor.process.pid
        ):
            found.append(int(entry.name))
    return found


def test_a_stager_that_is_killed_takes_its_processor_along(tmp_path: Path) -> None:
    with child(tmp_path, HOLDS) as processor:
        (stager,) = group(processor.ready())
        os.kill(stager, signal.SIGKILL)
        assert processor.ends() and processor.process.wait(support.TIMEOUT_S) == 1


def test_it_all_ends_when_the_worker_has_died(tmp_path: Path) -> None:
    with child(tmp_path, HOLDS) as processor:
        assert len(group(processor.ready())) == 1
        processor.socket.shutdown(socket.SHUT_WR)
        assert processor.process.wait(support.TIMEOUT_S) == 1
        support.wait_until(lambda: not group(processor), "the stager has ended by itself")


def test_a_stager_ends_with_its_processor(tmp_path: Path) -> None:
    with child(tmp_path, HOLDS) as processor:
        assert len(group(processor.ready())) == 1
        processor.process.kill()
        support.wait_until(lambda: not group(processor), "the stager has ended by itself")


def test_a_killed_processor_leaves_nothing_and_its_mini_batch_is_copied_again(tmp_path: Path) -> None:
    script = f"""
import os, signal

def run(mini_batch):
    rows = []
    for path in mini_batch:
        with open(path) as file:
            rows.append(file.read().strip() + " " + str("/staged/" in path))
    with open({str(tmp_path / "tries")!r}, "a") as file:
        file.write("x")
    if os.path.getsize({str(tmp_path / "tries")!r}) in (2, 3):
        os.kill(os.getpid(), signal.SIGKILL)
    return rows
"""
    job = support.make_job(
        tmp_path, script, items=9, mini_batch_size=2, inputs=[{"files": "data/", "mode": "download"}]
    )
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    rows = support.rows(tmp_path / "output")
    assert len(rows) == 9 and all(row.endswith(" True") for row in rows)
    assert support.result(tmp_path / "output")["mini_batches"]["attempts"] == 5 + 2


def test_bisection_finds_the_item_and_names_its_original(tmp_path: Path) -> None:
    script = """
def run(mini_batch):
    contents = [open(path).read() for path in mini_batch]
    if any("5" in content for content in contents):
        raise ValueError("bad item")
    return contents
"""
    job = support.make_job(
        tmp_path,
        script,
        items=8,
        mini_batch_size=8,
        inputs=[{"files": "data/", "mode": "download"}],
        run_max_try=2,
    )
    items = sorted(path for path in (tmp_path / "data").iterdir())
    for number, path in enumerate(items):
        path.write_text(str(number))
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    (failed,) = support.failed_items(tmp_path / "output")
    assert failed["item"] == str(items[5])
    assert support.rows(tmp_path / "output") == [str(number) for number in range(8) if number != 5]
