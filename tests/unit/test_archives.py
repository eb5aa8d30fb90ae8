from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.errors import InputError
from mpibatch.inputs.archive_members import MemberPatterns, tidied
from mpibatch.inputs.archives import (
    Answer,
    FoundMembers,
    ListArchive,
    Question,
    SurveyedArchives,
    answer,
    survey,
)
from mpibatch.inputs.survey import TableFile

ORIGIN = "job.yaml: inputs.0.files"


def ask(questions: Sequence[Any]) -> list[Any]:
    """Answers them as they are after a journey, both as msgpack and as JSON."""
    pack, text = msgspec.msgpack, msgspec.json
    there = [pack.decode(pack.encode(one), type=Question) for one in questions]
    there = [text.decode(text.encode(one), type=Question) for one in there]
    back = [pack.decode(pack.encode(answer(one)), type=Answer) for one in there]
    return [text.decode(text.encode(one), type=Answer) for one in back]


def surveyed(*paths: Path, members: str | list[str] = "**") -> SurveyedArchives:
    files = [TableFile(os.fsencode(path), path.stat().st_size, os.fsencode(path)) for path in paths]
    patterns = [members] if isinstance(members, str) else members
    return survey(files, patterns, ask, origin=ORIGIN)


def names(found: FoundMembers) -> list[bytes]:
    return found.names.split(b"\0") if found.names else []


def contents(path: Path, found: FoundMembers) -> list[bytes]:
    """Of a tar: what lies where the survey says."""
    data = path.read_bytes()
    return [data[at : at + size] for at, size in zip(found.offsets.tolist(), found.sizes.tolist())]


def a_tar(
    path: Path, members: dict[str, bytes] | list[tuple[str, bytes]], form: int = tarfile.GNU_FORMAT
) -> Path:
    with tarfile.open(path, "w", format=form, encoding="utf-8", errors="surrogateescape") as tar:
        for name, data in members.items() if isinstance(members, dict) else members:
            put(tar, name, data)
    return path


def put(tar: tarfile.TarFile, name: str, data: bytes = b"", **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data))


def a_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


SOME = {"b/2.png": b"two", "a.png": b"", "b/1.txt": b"text", "b/c/0.png": b"0" * 1000}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_members_of_a_tar_come_in_the_order_of_storage_with_their_places(tmp_path: Path, form: int) -> None:
    path = a_tar(tmp_path / "a.tar", SOME, form)
    found = surveyed(path, members="*.png")
    (one,) = found.archives
    assert found.warnings == []
    assert names(one) == [b"b/2.png", b"a.png", b"b/c/0.png"]
    assert contents(path, one) == [b"two", b"", b"0" * 1000]
    assert one.error is None and one.offsets.dtype == one.sizes.dtype == "int64"


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_members_of_a_zip_are_found_by_their_local_headers(tmp_path: Path, method: int) -> None:
    path = a_zip(tmp_path / "a.zip", SOME, method)
    (one,) = surveyed(path, members="*.png").archives
    assert names(one) == [b"b/2.png", b"a.png", b"b/c/0.png"]
    assert one.sizes.tolist() == [3, 0, 1000]
    data = path.read_bytes()
    for name, offset in zip(names(one), one.offsets.tolist()):
        assert data[offset:].startswith(b"PK\3\4") and data[offset + 30 :].startswith(name)


def test_a_zip_is_read_in_the_order_of_its_data_not_of_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("1", "2", "3"):
            archive.writestr(name, name)
        archive.filelist.reverse()
    assert zipfile.ZipFile(path).namelist() == ["3", "2", "1"]
    assert names(surveyed(path).archives[0]) == [b"1", b"2", b"3"]


MATCHES = [
    (
        "*.png",
        ["a.png", "d/a.png", "d/e/a.png", "/d/a.png", "../a.png"],
        ["a.PNG", ".a.png", ".d/a.png", "a.png/x"],
    ),
    ("d/*.png", ["d/a.png", "/d/a.png", "../d/a.png"], ["a.png", "d/e/a.png", "x/d/a.png"]),
    ("./d/*", ["d/a"], ["a", "d/e/a"]),
    ("/d/*", ["d/a"], ["a"]),
    ("**", ["a", "d/e/a"], [".a", ".d/a"]),
    ("d/**", ["d/a", "d/e/a"], ["a", "d/.a"]),
    ("d/", ["d/a", "d/e/a"], ["d", "a"]),
    ("**/e/*", ["e/a", "d/e/a"], ["d/a"]),
    (".*", [".a", "d/.a"], ["a", ".d/a"]),
    (".d/*", [".d/a"], ["a"]),
    ("[ab]?", ["a1", "d/b2"], ["c1", "a"]),
    ("\udcff*", ["\udcff1"], ["1"]),
    ("é", ["é"], ["e"]),
]


@pytest.mark.parametrize(("pattern", "right", "wrong"), MATCHES)
def test_patterns(pattern: str, right: list[str], wrong: list[str]) -> None:
    wanted = MemberPatterns([pattern])
    assert [name for name in right + wrong if wanted(os.fsencode(name))] == right
    assert [name for name in right if MemberPatterns(["nothing", pattern])(os.fsencode(name))] == right


def test_the_last_member_of_a_name_counts_where_it_is_stored(tmp_path: Path) -> None:
    path = a_tar(tmp_path / "a.tar", [("a", b"old"), ("b", b"b"), ("./a", b"new"), ("c", b"c")])
    (one,) = surveyed(path).archives
    assert names(one) == [b"b", b"a", b"c"]
    assert contents(path, one) == [b"b", b"new", b"c"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_last_member_of_a_name_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in (("a", "old"), ("b", ""), ("a", "newer")):
            archive.writestr(name, data)
    (one,) = surveyed(tmp_path / "a.zip").archives
    assert (names(one), one.sizes.tolist()) == ([b"b", b"a"], [0, 5])


def test_a_folder_that_comes_later_takes_the_place_of_a_file(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        put(tar, "a", b"file")
        put(tar, "b", b"b")
        put(tar, "a", type=tarfile.DIRTYPE)
    assert names(surveyed(tmp_path / "a.tar").archives[0]) == [b"b"]


def test_links_are_the_content_that_they_lead_to(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        put(tar, "soft", type=tarfile.SYMTYPE, linkname="d/file")
        put(tar, "d", type=tarfile.DIRTYPE)
        put(tar, "d/file", b"old")
        put(tar, "hard", type=tarfile.LNKTYPE, linkname="./d/file")
        put(tar, "d/file", b"newer")
        put(tar, "d/up", type=tarfile.SYMTYPE, linkname="../d/./chain")
        put(tar, "d/chain", type=tarfile.SYMTYPE, linkname="file")
        put(tar, "hard soft", type=tarfile.LNKTYPE, linkname="soft")
    found = surveyed(path)
    (one,) = found.archives
    assert found.warnings == []
    assert dict(zip(names(one), contents(path, one))) == {
        b"soft": b"newer",
        b"hard": b"old",
        b"d/file": b"newer",
        b"d/up": b"newer",
        b"d/chain": b"newer",
        b"hard soft": b"newer",
    }


def test_what_is_no_file_is_left_out_and_told_of_where_it_matches(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        put(tar, "file.x", b"data")
        for name, target in (
            ("out.x", "../../etc/passwd"),
            ("above.x", "../file.x"),
            ("abs.x", "/file.x"),
            ("gone.x", "nothing"),
        ):
            put(tar, name, type=tarfile.SYMTYPE, linkname=target)
        put(tar, "round.x", type=tarfile.SYMTYPE, linkname="round.x")
        put(tar, "hard.x", type=tarfile.LNKTYPE, linkname="later")
        put(tar, "pipe.x", type=tarfile.FIFOTYPE)
        put(tar, "device.x", type=tarfile.CHRTYPE)
        put(tar, "to pipe.x", type=tarfile.SYMTYPE, linkname="pipe.x")
        put(tar, "hard pipe.x", type=tarfile.LNKTYPE, linkname="pipe.x")
        put(tar, "odd.x", type=b"V")
        put(tar, "folder.x", type=tarfile.DIRTYPE)
        put(tar, "pipe.y", type=tarfile.FIFOTYPE)
    found = surveyed(tmp_path / "a.tar", members="*.x")
    assert names(found.archives[0]) == [b"file.x"]
    place = repr(str(tmp_path / "a.tar"))
    assert found.warnings == [
        f"left out: links that lead to no file in their archive: 8, first 'out.x' in {place}",
        f"left out: devices or pipes: 2, first 'pipe.x' in {place}",
        f"left out: members of a type that is not known: 1, first 'odd.x' in {place}",
    ]


def test_what_is_left_out_of_several_archives_is_one_warning(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with tarfile.open(tmp_path / name, "w") as tar:
            put(tar, f"file {name}")
            put(tar, f"pipe {name}", type=tarfile.FIFOTYPE)
    found = surveyed(tmp_path / "b", tmp_path / "a")
    assert found.warnings == [f"left out: devices or pipes: 2, first 'pipe b' in {str(tmp_path / 'b')!r}"]


def test_sparse_files_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        put(tar, "file", b"data")
        sparse = {"GNU.sparse.map": "0,4", "GNU.sparse.size": "100"}
        put(tar, "sparse", b"data", pax_headers=sparse)
        put(tar, "last", b"l")
    found = surveyed(tmp_path / "a.tar")
    assert names(found.archives[0]) == [b"file", b"last"]
    assert "sparse files" in found.warnings[0]


def test_links_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data, mode in (
            ("d/link", "../file", stat.S_IFLNK),
            ("file", "12345", stat.S_IFREG),
            ("pipe", "", stat.S_IFIFO),
            ("folder/", "", stat.S_IFDIR),
        ):
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode | 0o644) << 16
            archive.writestr(info, data)
    found = surveyed(tmp_path / "a.zip")
    (one,) = found.archives
    assert (names(one), one.sizes.tolist()) == ([b"d/link", b"file"], [5, 5])
    assert one.offsets[0] == one.offsets[1]
    assert found.warnings == [f"left out: devices or pipes: 1, first 'pipe' in {str(tmp_path / 'a.zip')!r}"]


ODD = ["\udcff\udcfe", "new\nline", "é", "../up", "/root", "x" * 120, "d" * 90 + "/" + "f" * 200]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_any_bytes_and_length_survive(tmp_path: Path, form: int) -> None:
    path = a_tar(tmp_path / "a.tar", {name: name.encode("utf-8", "surrogateescape") for name in ODD}, form)
    (one,) = surveyed(path).archives
    assert names(one) == [os.fsencode(name) for name in ODD]
    assert contents(path, one) == names(one)


def test_names_in_a_zip_are_utf8_by_flag_or_by_look_else_code_page_437(tmp_path: Path) -> None:
    path = a_zip(
        tmp_path / "a.zip", {"marked-é": b"", "marked-├⌐": b"", "unmarked-\xc3\xa9": b"", "old-dos": b""}
    )
    raw = path.read_bytes().replace(b"old-dos", b"old-\x82os")
    raw = raw.replace("unmarked-Ã©".encode(), b"unmarked-\xc3\xa9__")
    at = -1
    while (at := raw.find(b"unmarked", at + 1)) >= 0:  # The flag stands 24 or 38 bytes before the name.
        before = 24 if raw[at - 30 : at - 28] == b"PK" else 38
        raw = raw[: at - before] + b"\0\0" + raw[at - before + 2 :]
    path.write_bytes(raw)
    assert names(surveyed(path).archives[0]) == [
        "marked-é".encode(),
        "marked-├⌐".encode(),
        "unmarked-é__".encode(),
        "old-éos".encode(),
    ]


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("./a", "a"),
        ("a//b", "a/b"),
        ("a/./b", "a/b"),
        ("a/.", "a"),
        ("/./a/", "/a"),
        (".", ""),
        ("a.", "a."),
        ("../a", "../a"),
        ("a/../b", "a/../b"),
        ("..", ".."),
        ("/", "/"),
        (".a", ".a"),
        ("a./b", "a./b"),
    ],
)
def test_tidied(name: str, right: str) -> None:
    assert tidied(name.encode()) == right.encode()


# What is wrong with an archive


def truncated(data: bytes) -> bytes:
    return data[:1700]


def damaged(data: bytes) -> bytes:
    """The second header: what follows must not be lost in silence."""
    return data[:1030] + b"????" + data[1034:]


def misnamed(data: bytes) -> bytes:
    """A name that is marked as UTF-8 and is not."""
    at = data.index(b"PK\1\2")
    return data[: at + 8] + b"\0\x08" + data[at + 10 : at + 46] + b"\xff" + data[at + 47 :]


BAD: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("a.tar", truncated, "cut short"),
    ("a.tar", damaged, "follows its member 'a' at byte 1,024"),
    ("a.tar", lambda data: data[:300], "neither a tar nor a zip"),
    ("a.tar", lambda _: b"", "it is empty"),
    ("a.tar", lambda _: b"some text" * 1000, "neither a tar nor a zip"),
    ("a.zip", lambda data: data[:-30], "cut short or damaged"),
    ("a.zip", lambda data: data[:20], "cut short or damaged"),
    ("a.zip", misnamed, "damaged: 'utf-8' codec"),
    ("a.zip", lambda data: data.replace(b"PK\1\2", b"PK\1\3"), "damaged"),
]


@pytest.mark.parametrize(("name", "spoil", "words"), BAD)
def test_an_archive_that_cannot_be_read_is_one_item_and_a_warning(
    tmp_path: Path, name: str, spoil: Callable[[bytes], bytes], words: str
) -> None:
    good = a_tar(tmp_path / "good.tar", {"a": b"a"})
    make = a_tar if name.endswith("tar") else a_zip
    bad = make(tmp_path / name, {"a": b"a" * 300, "b": b"b" * 300})
    bad.write_bytes(spoil(bad.read_bytes()))
    found = surveyed(bad, good)
    assert [names(one) for one in found.archives] == [[], [b"a"]]
    error = found.archives[0].error
    assert error is not None and words in error
    assert len(found.archives[0].sizes) == 0 and found.archives[1].error is None
    (warning,) = found.warnings
    assert warning.startswith("1 archive, ") and "cannot be read" in warning and str(bad) in warning
    with pytest.raises(InputError, match=f"^{ORIGIN}: none of 1 archives can be read.*{name}"):
        surveyed(bad)


def test_a_missing_archive_is_one_that_cannot_be_read(tmp_path: Path) -> None:
    there = a_tar(tmp_path / "there.tar", {"a": b"a"})
    files = [TableFile(os.fsencode(path), 0, os.fsencode(path)) for path in (there, tmp_path / "gone.tar")]
    found = survey(files, ["*"], ask, origin=ORIGIN)
    assert found.archives[1].error == "No such file or directory."


def test_many_that_cannot_be_read_are_one_warning(tmp_path: Path) -> None:
    paths = [a_tar(tmp_path / "good.tar", {"a": b"a"})]
    for number in range(5):
        (tmp_path / f"{number}.tar").write_bytes(b"no")
        paths.append(tmp_path / f"{number}.tar")
    (warning,) = surveyed(*paths).warnings
    assert warning.startswith("5 archives, ") and " and 2 more: cannot be read" in warning


def test_a_tar_without_its_end_mark_is_read_with_a_warning(tmp_path: Path) -> None:
    path = a_tar(tmp_path / "a.tar", {"a": b"a", "b": b"b"})
    for size in (2048, 2100):  # Nothing, and a part of it.
        path.write_bytes(path.read_bytes()[:2048].ljust(size, b"\0"))
        found = surveyed(path)
        assert names(found.archives[0]) == [b"a", b"b"]
        assert "end without the mark of a tar's end" in found.warnings[0]


ENDS_LIKE_A_ZIP = b"PK\5\6" + bytes(18)


@pytest.mark.parametrize(
    ("pack", "words"),
    [
        (gzip.compress, "gzip.*gunzip"),
        (bz2.compress, "bzip2"),
        (lzma.compress, "xz"),
        (lambda data: b"\x28\xb5\x2f\xfd" + data, "zstd"),
        (lambda data: b"BZh" + data + ENDS_LIKE_A_ZIP, "bzip2"),
        (lambda data: b"7z\xbc\xaf\x27\x1c" + data, "7z archive"),
    ],
)
def test_a_compressed_tar_is_refused_whatever_its_name(
    tmp_path: Path, pack: Callable[[bytes], bytes], words: str
) -> None:
    good = a_tar(tmp_path / "good.tar", SOME)
    (tmp_path / "a.tar").write_bytes(pack(good.read_bytes()))
    with pytest.raises(InputError, match=f"^{ORIGIN}: '.*/a.tar': .*{words}"):
        surveyed(good, tmp_path / "a.tar")


def test_a_plain_tar_with_the_name_of_a_compressed_one_is_read(tmp_path: Path) -> None:
    path = a_tar(tmp_path / "a.tar.gz", SOME)
    assert len(names(surveyed(path).archives[0])) == 4


def with_flag(path: Path, name: bytes, at: int, value: int) -> None:
    """Sets a field of a member in a zip's directory, where it stands `at` bytes after the record's begin."""
    raw = path.read_bytes()
    record = raw.rindex(name, 0) - 46
    path.write_bytes(raw[: record + at] + struct.pack("<H", value) + raw[record + at + 2 :])


@pytest.mark.parametrize(
    ("at", "value", "words"), [(8, 1, "'s.png' is encrypted"), (10, 9, "'s.png' is compressed by method 9")]
)
def test_a_zip_that_cannot_be_unpacked_is_refused(tmp_path: Path, at: int, value: int, words: str) -> None:
    path = a_zip(tmp_path / "a.zip", {"a.txt": b"a", "s.png": b"s"})
    with_flag(path, b"s.png", at, value)
    with pytest.raises(InputError, match=f"a.zip': {words}"):
        surveyed(path)
    assert names(surveyed(path, members="*.txt").archives[0]) == [b"a.txt"]


def test_no_match_is_an_error_that_shows_what_is_there(tmp_path: Path) -> None:
    path = a_tar(tmp_path / "a.tar", dict.fromkeys(("1.jpg", "2.jpg", "3.jpg", "4.jpg"), b""))
    with pytest.raises(InputError) as caught:
        surveyed(path, members=["*.png", "d/*"])
    text = str(caught.value)
    assert text.startswith(f"{ORIGIN}: no member of 1 archives matches '*.png', 'd/*'.")
    assert "a.tar' holds '1.jpg', '2.jpg', '3.jpg'. A pattern without a slash" in text


@pytest.mark.parametrize("make", [a_tar, a_zip])
def test_an_archive_of_nothing_is_no_error_among_others(tmp_path: Path, make: Callable[..., Path]) -> None:
    empty, full = make(tmp_path / "empty", {}), a_tar(tmp_path / "full.tar", SOME)
    found = surveyed(empty, full)
    assert [len(one.sizes) for one in found.archives] == [0, 4] and found.archives[0].error is None
    assert "hold no member that matches" in found.warnings[0]
    with pytest.raises(InputError, match="They hold no files"):
        surveyed(empty)


def test_a_tar_that_ends_with_a_zip_is_a_tar_and_a_zip_behind_a_program_a_zip(tmp_path: Path) -> None:
    packed = a_zip(tmp_path / "inner.zip", {"inner": b"1"}).read_bytes()
    assert names(surveyed(a_tar(tmp_path / "a.tar", {"z": packed})).archives[0]) == [b"z"]
    (tmp_path / "self").write_bytes(b"#!/bin/sh\n" * 100 + packed)
    assert names(surveyed(tmp_path / "self").archives[0]) == [b"inner"]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=8)
NAMES = st.lists(TEXT.filter(lambda part: part not in (".", "..")), min_size=1, max_size=3).map("/".join)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=600)), min_size=1, max_size=8), st.sampled_from([0, 1, 2])
)
def test_what_is_unpacked_is_what_tarfile_unpacks(
    tmp_path_factory: pytest.TempPathFactory, stored: list[tuple[str, bytes]], form: int
) -> None:
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    try:
        a_tar(path, stored, form)
    except ValueError:
        return  # Too long for this form.
    (one,) = survey(
        [TableFile(os.fsencode(path), 0, b"a")], ["**", ".*", "**/.*/**", ".*/**", "**/.*"], ask, origin=""
    ).archives
    right = {name.encode(): data for name, data in stored}
    assert dict(zip(names(one), contents(path, one))) == {
        name: data for name, data in right.items() if name in names(one)
    }
    visible = {name for name in right if b"/." not in b"/" + name}
    assert visible <= set(names(one))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_anywhere_is_an_answer_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    make = data.draw(st.sampled_from([a_tar, a_zip]))
    path = make(folder / "a", {"a/1": b"1" * 40, "b" * 130: b"2", "é": b"3"})
    raw = bytearray(path.read_bytes().rstrip(b"\0") if make is a_tar else path.read_bytes())
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=4)
    ):
        raw[at] = value
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    got = ask([ListArchive(os.fsencode(path), ["**"])])[0]
    assert isinstance(got, Answer)
    count = len(got.sizes) // 8
    assert len(got.offsets) == len(got.sizes)
    assert got.names.count(b"\0") == max(count - 1, 0)
