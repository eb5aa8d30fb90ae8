"""Rows while a script's `finalize()` has them: whether they were changed, and what becomes of what is left there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mpibatch.outputs.delivery import Delivery
from mpibatch.outputs.held import HeldOutput, UnfitOutput

ROWS = b"one\ntwo\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def held(home: Path) -> HeldOutput:
    held = HeldOutput(home / ".private" / "0001", "rows.txt", ["logs"])
    take(held)
    return held


def take(held: HeldOutput) -> None:
    rows = held.file.parents[2] / "made"
    rows.write_bytes(ROWS)
    held.take(rows)


def replaced(file: Path) -> None:
    os.replace(file.with_name("other"), file)


def linked(file: Path) -> None:
    file.unlink()
    file.symlink_to("other")


def piped(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def gone(file: Path) -> None:
    file.unlink()
    file.parent.rmdir()


CHANGES: list[tuple[str, Callable[[Path], object]]] = [
    ("longer", lambda file: file.write_bytes(ROWS + b"3\n")),
    ("another byte", lambda file: file.write_bytes(ROWS.replace(b"w", b"W"))),
    ("another file", replaced),
    ("removed", lambda file: file.unlink()),
    ("a link", linked),
]


@pytest.mark.parametrize("change", [change for _, change in CHANGES], ids=[name for name, _ in CHANGES])
def test_what_was_changed_is_seen_even_with_its_old_time(
    change: Callable[[Path], object], held: HeldOutput
) -> None:
    status = held.file.stat()
    held.file.with_name("other").write_bytes(ROWS)
    change(held.file)
    if held.file.exists():
        os.utime(held.file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not held.untouched()
    take(held)
    assert held.untouched()
    assert os.listdir(held.file.parent) == ["rows.txt"]


def test_what_was_only_read_stays_and_all_beside_it_goes(held: HeldOutput) -> None:
    assert held.file.read_bytes() == ROWS
    held.file.with_name("beside").touch()
    (held.file.parent / "folder" / "deep").mkdir(parents=True)
    held.file.with_name("link").symlink_to(held.file.parent)
    inode = held.file.stat().st_ino

    assert held.untouched()
    assert os.listdir(held.file.parent) == ["rows.txt"] and held.file.stat().st_ino == inode


def test_delivered_all_files_go_home(held: HeldOutput, home: Path) -> None:
    held.file.with_name("sums").write_text("3\n")
    (home / "rows.txt").write_text("old")
    held.check(home)
    held.deliver(Delivery(home / "rows.txt"))
    assert {path.name: path.read_bytes() for path in home.iterdir()} == {"rows.txt": ROWS, "sums": b"3\n"}
    assert not held.removed


def test_a_removed_file_takes_the_old_one_with_it(held: HeldOutput, home: Path) -> None:
    (home / "rows.txt").write_text("old")
    held.file.unlink()
    held.check(home)
    held.deliver(Delivery(home / "rows.txt", home / "copy"))
    assert held.removed and not list(home.iterdir())


UNFIT: list[tuple[str, Callable[[Path], object], str]] = [
    ("folder", lambda file: file.with_name("deep").mkdir(), "has left 'deep' beside the rows, which is a folder"),
    ("link", lambda file: file.with_name("link").symlink_to(file), "'link' beside the rows, which is no plain file"),
    ("fifo", piped, "'rows.txt' beside the rows, which is no plain file"),
    ("reserved", lambda file: file.with_name("logs").touch(), "the run folder has its own logs"),
    ("taken", lambda file: file.with_name("theirs").touch(), "the run folder has its own theirs"),
    ("gone", gone, "has removed the folder of the rows"),
]  # fmt: skip


@pytest.mark.parametrize(("leave", "words"), [row[1:] for row in UNFIT], ids=[row[0] for row in UNFIT])
def test_what_cannot_be_delivered_is_told_of(
    leave: Callable[[Path], object], words: str, held: HeldOutput, home: Path
) -> None:
    (home / "theirs").mkdir()
    leave(held.file)
    with pytest.raises(UnfitOutput, match=words):
        held.check(home)
