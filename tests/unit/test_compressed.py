"""Compressed files as streams, whole or damaged, and unpacked ones."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from mpibatch.errors import InputError
from mpibatch.inputs.compressed import Damaged, blocks, check_zstandard, suffix_of, unpack
from mpibatch.inputs.new_files import NoRoom

DATA = random.Random(3).randbytes(200_000) + b"same " * 50_000
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def write(path: Path, data: bytes) -> bytes:
    path.write_bytes(data)
    return bytes(path)


def test_suffixes() -> None:
    names = [b"a.csv", b"a.csv.gz", b"a.BZ2", b"/gz/a", b"a.xz", b"a.b.zst", b".gz"]
    assert [suffix_of(name) for name in names] == [None, b".gz", b".bz2", None, b".xz", b".zst", None]


@pytest.mark.parametrize("suffix", PACK)
def test_a_stream_is_what_was_packed(tmp_path: Path, suffix: str) -> None:
    pack = PACK[suffix]
    for data in (DATA, b"", b"x"):
        path = write(tmp_path / f"f{suffix}", pack(data))
        assert b"".join(blocks(path, 1000)) == data
    path = write(tmp_path / f"f{suffix}", pack(DATA) + pack(b"more"))
    assert b"".join(blocks(path, 1 << 20)) == DATA + b"more"


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("lost", [1, 5, 100, 150_000])
def test_a_truncated_stream_is_seen(tmp_path: Path, suffix: str, lost: int) -> None:
    path = write(tmp_path / f"f{suffix}", PACK[suffix](DATA)[:-lost])
    with pytest.raises(Damaged, match="truncated"):
        list(blocks(path, 1 << 20))


@pytest.mark.parametrize("suffix", PACK)
def test_what_is_no_archive_is_seen(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"f{suffix}", b"a,b\n1,2\n" * 10)
    with pytest.raises(Damaged, match="damaged"):
        list(blocks(path, 1 << 20))


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_damage_in_the_middle_is_seen(tmp_path: Path, suffix: str) -> None:
    data = bytearray(PACK[suffix](DATA))
    data[len(data) // 2] ^= 255
    path = write(tmp_path / f"f{suffix}", bytes(data))
    with pytest.raises(Damaged, match="damaged"):
        list(blocks(path, 1 << 20))


def test_a_file_that_is_gone_is_no_damaged_one(tmp_path: Path) -> None:
    for suffix in PACK:
        with pytest.raises(FileNotFoundError):
            list(blocks(bytes(tmp_path / f"f{suffix}"), 10))


@pytest.mark.parametrize("suffix", PACK)
def test_unpacked(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"f{suffix}", PACK[suffix](DATA))
    target = tmp_path / "new" / "folder" / "f"
    assert unpack(path, bytes(target), 1000) == len(DATA)
    assert target.read_bytes() == DATA
    assert [one.name for one in target.parent.iterdir()] == ["f"]


def test_what_is_there_already_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "f"
    target.write_bytes(b"there")
    assert unpack(b"/nowhere.gz", bytes(target)) == 5
    assert target.read_bytes() == b"there"


def test_nothing_is_left_of_a_damaged_one(tmp_path: Path) -> None:
    path = write(tmp_path / "f.gz", gzip.compress(DATA)[:-100])
    target = tmp_path / "new" / "f"
    with pytest.raises(Damaged):
        unpack(path, bytes(target), 1000)
    assert list(target.parent.iterdir()) == []


def test_what_cannot_be_written_is_another_error(tmp_path: Path) -> None:
    path = write(tmp_path / "f.gz", gzip.compress(b"x"))
    (tmp_path / "file").touch()
    for target in (tmp_path / "file" / "f", Path("/proc/none/f")):
        with pytest.raises(NoRoom, match="cannot be written"):
            unpack(path, bytes(target))


def test_zstandard_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    check_zstandard(iter([b"a.zst"]), "job.yaml: inputs.0.csv")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    check_zstandard(iter([b"a.gz", b"b"]), "job.yaml: inputs.0.csv")
    with pytest.raises(InputError, match=r"inputs\.0\.csv: 'a.zst'.*install the package zstandard"):
        check_zstandard(iter([b"b.gz", b"a.zst"]), "job.yaml: inputs.0.csv")
