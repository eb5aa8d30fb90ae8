"""A copy of an output: whole or not at all, with or without the kernel's help."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mpibatch.outputs.delivery import Delivery, copy_whole

DATA = bytes(range(256)) * 5000


def by_hand(*arguments: object) -> int:
    raise OSError(errno.EXDEV, "another file system")


class Halting:
    """Copies something, and then can no more."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, read: int, written: int, count: int, read_at: int, written_at: int) -> int:
        self.calls += 1
        if self.calls > 2:
            raise OSError(errno.EIO, "no more")
        data = os.pread(read, 70_001, read_at)
        return os.pwrite(written, data, written_at)


@pytest.mark.parametrize("kernel", [None, by_hand, Halting()], ids=["kernel", "by hand", "in part"])
def test_the_copy_has_all_bytes(kernel: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel is not None:
        monkeypatch.setattr(os, "copy_file_range", kernel)
    source, target = tmp_path / "rows", tmp_path / "new" / "folder" / "copy"
    source.write_bytes(DATA)
    copy_whole(source, target, of=source)
    assert target.read_bytes() == DATA
    source.write_bytes(b"changed")
    assert target.read_bytes() == DATA
    assert os.listdir(target.parent) == ["copy"]


def test_what_a_killed_start_has_left_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is written to no more, nor by whoever still has it open."""
    source, target = tmp_path / "rows", tmp_path / "copy"
    source.write_bytes(DATA)
    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", by_hand)
        broken.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(OSError, match="another file system"):
            copy_whole(source, target, of=source)
    (left,) = tmp_path.glob(".copy.*")
    with open(left, "r+b") as not_dead:
        copy_whole(source, target, of=source)
        not_dead.write(b"late")
    assert target.read_bytes() == DATA
    assert sorted(os.listdir(tmp_path)) == ["copy", "rows"]


def test_without_its_copy_a_file_is_not_put_into_its_place(tmp_path: Path) -> None:
    made, final, taken = tmp_path / "made", tmp_path / "rows", tmp_path / "taken"
    made.write_bytes(DATA)
    taken.mkdir()
    with pytest.raises(OSError) as caught:
        Delivery(final, taken).deliver(made)
    assert caught.value.filename == str(taken)
    assert sorted(os.listdir(tmp_path)) == ["made", "taken"]
