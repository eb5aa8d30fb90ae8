"""The output file while it grows: errors with its name, and nothing written after one."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mpibatch.outputs.partial import PartialFile


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file of this process grows further."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_it_can_be_written_read_and_cut(tmp_path: Path) -> None:
    file = PartialFile(tmp_path / "x")
    file.begin()
    assert file.write(b"0123456789") == 10 and file.tell() == 10
    assert file.seek(2) == 2 and file.read(3) == b"234"
    assert file.seek(-1, os.SEEK_END) == 9 and file.read(5) == b"9" and file.read(5) == b""
    assert file.seek(-4, os.SEEK_CUR) == 6 and file.write(b"ab") == 2
    assert file.truncate(8) == 8 and file.truncate() == 8
    file.sync()
    assert (tmp_path / "x").read_bytes() == b"012345ab"
    file.begin()
    file.write(b"new")
    file.close()
    file.close()
    assert (tmp_path / "x").read_bytes() == b"new"


def test_what_is_dropped_seems_to_be_written(tmp_path: Path) -> None:
    file = PartialFile(tmp_path / "x")
    assert file.write(b"before it began") == 15
    file.begin()
    file.drop()
    assert file.write(b"abc") == 3 and file.tell() == 3 and file.truncate(1) == 1
    file.begin()
    file.write(b"d")
    file.close()
    assert file.write(b"e") == 1 and file.read(5) == b""
    assert (tmp_path / "x").read_bytes() == b"d"


def test_an_error_names_the_file(tmp_path: Path) -> None:
    file = PartialFile(tmp_path / "x")
    file.begin()
    with at_most(4), pytest.raises(OSError, match="File too large") as caught:
        file.write(b"012345")
    assert caught.value.filename == str(tmp_path / "x") and file.error is caught.value
    with at_most(4), pytest.raises(OSError, match="File too large"):
        PartialFile.begin(other := PartialFile(tmp_path / "y"))
        other.truncate(5)
    other.close()
    file.close()


def test_a_quiet_one_tells_of_its_error_around_the_library(tmp_path: Path) -> None:
    file = PartialFile(tmp_path / "x", quiet=True)
    file.begin()
    with at_most(4), pytest.raises(OSError, match="File too large") as caught, file.naming():
        assert file.write(b"012345") == 6
        assert file.write(b"6") == 1
        file.seek(0)
        file.write(b"9")
    assert caught.value.filename == str(tmp_path / "x")
    file.close()
    assert (tmp_path / "x").read_bytes() == b"0123"


def test_what_a_library_makes_of_an_error_is_ours_again(tmp_path: Path) -> None:
    file = PartialFile(tmp_path / "x")
    file.begin()
    with pytest.raises(ValueError, match="its own"), file.naming():
        raise ValueError("its own")
    with at_most(4), pytest.raises(OSError, match="too large") as caught, file.naming():
        try:
            file.write(b"012345")
        except OSError:
            raise ValueError("something went wrong") from None
    assert str(caught.value.__cause__) == "something went wrong"
    file.close()
