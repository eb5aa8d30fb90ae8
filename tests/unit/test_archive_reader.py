from __future__ import annotations

import io
import os
import random
import resource
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.inputs import archive_reader
from mpibatch.inputs.archive_reader import open_archives
from mpibatch.inputs.archives import ListArchive, answer
from mpibatch.inputs.survey import Batch, Unreadable
from mpibatch.work import Members

EVERYTHING = ["**", ".*", "**/.*", ".*/**"]


def listed(path: Path, patterns: list[str] | None = None) -> Members:
    import numpy as np

    got = answer(ListArchive(os.fsencode(path), patterns or EVERYTHING))
    assert got.error is None and got.refused is None
    offsets, sizes = (np.frombuffer(raw, "<i8").tolist() for raw in (got.offsets, got.sizes))
    return Members(os.fsencode(path), got.names, offsets, sizes)


def part(source: Members, first: int, stop: int) -> Members:
    names = b"\0".join(source.names.split(b"\0")[first:stop])
    return Members(source.archive, names, source.offsets[first:stop], source.sizes[first:stop])


def read(as_: str, source: Members, scratch: Path) -> Batch:
    reader = open_archives("path" if as_ == "path" else "bytes", str(scratch))
    batch = reader.read(source, len(source.sizes))
    if as_ == "path":
        batch.data = [(path, Path(path).read_bytes()) for path in batch.data]
    reader.close()
    return batch


def a_tar(path: Path, members: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form, encoding="utf-8", errors="surrogateescape") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def a_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


SOME = {"b/2.png": b"two", "a.png": b"", "b/1.txt": b"text", "b/c/0.png": bytes(range(256)) * 100}


@pytest.mark.parametrize("as_", ["bytes", "path"])
@pytest.mark.parametrize("make", [a_tar, a_zip])
def test_members_come_with_their_names_and_contents(
    tmp_path: Path, make: Callable[..., Path], as_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_reader, "_STRETCH", 1000)
    path = make(tmp_path / "some.archive", SOME)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    batch = read(as_, listed(path), scratch)
    assert batch.bad == []
    assert [data for _, data in batch.data] == list(SOME.values())
    if as_ == "bytes":
        assert [name for name, _ in batch.data] == [f"{path}/{name}" for name in SOME]
    else:
        roots = {name.removesuffix(f"/some.archive/{member}") for (name, _), member in zip(batch.data, SOME)}
        (root,) = roots
        assert Path(root).parent == scratch
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_of_all_methods(tmp_path: Path, method: int) -> None:
    batch = read("bytes", listed(a_zip(tmp_path / "a.zip", SOME, method)), tmp_path)
    assert [data for _, data in batch.data] == list(SOME.values())


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_that_are_long_or_not_utf8(tmp_path: Path, form: int) -> None:
    members = {"\udcff": b"1", "d" * 90 + "/" + "f" * 200: b"2", "é\n": b"3"}
    batch = read("path", listed(a_tar(tmp_path / "a.tar", members, form)), tmp_path)
    assert [(name.split("/a.tar/")[1], data) for name, data in batch.data] == list(members.items())


def test_the_last_archive_stays_open_and_what_was_unpacked_before_goes(tmp_path: Path) -> None:
    path = a_tar(tmp_path / "a.tar", {"1": b"one", "2": b"two"})
    source = listed(path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    reader = open_archives("path", str(scratch))
    (first,) = reader.read(part(source, 0, 1), 1).data
    path.unlink()  # As long as it is open, it is there.
    (second,) = reader.read(part(source, 1, 2), 1).data
    assert (Path(first).exists(), Path(second).read_bytes()) == (False, b"two")
    assert len(list(scratch.iterdir())) == 1
    other = a_tar(tmp_path / "b.tar", {"3": b"three"})
    (third,) = reader.read(listed(other), 1).data
    assert third.endswith("/b.tar/3") and not Path(second).exists()
    with pytest.raises(Unreadable, match=r"a.tar' cannot be opened: No such file"):
        reader.read(part(source, 0, 1), 1)
    reader.close()
    assert list(scratch.iterdir()) == []
    reader.close()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("as_", ["bytes", "path"])
def test_nothing_stays_open(tmp_path: Path, as_: str) -> None:
    sources = [
        listed(make(tmp_path / name, SOME)) for make, name in ((a_tar, "a"), (a_zip, "b"), (a_tar, "c"))
    ]
    before = open_files()
    for source in sources:
        read(as_, source, tmp_path)
    assert open_files() == before


HOSTILE = [
    "../up",
    "../../up",
    "/up",
    "./up",
    "up",
    "up/below",
    "up//below",
    "..",
    "/",
    "x" * 300,
    "y/" * 2100 + "z",
]


@pytest.mark.parametrize("make", [a_tar, a_zip])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_name_leads_out_and_no_two_become_one(tmp_path: Path, make: Callable[..., Path]) -> None:
    contents = [b"%d" % number for number in range(len(HOSTILE))]
    path = make(tmp_path / "0", {f"{number}": data for number, data in enumerate(contents)})
    source = listed(path)
    source = Members(source.archive, b"\0".join(map(os.fsencode, HOSTILE)), source.offsets, source.sizes)
    scratch = tmp_path / "deep" / "scratch"
    scratch.mkdir(parents=True)
    reader = open_archives("path", str(scratch))
    batch = reader.read(source, len(HOSTILE))
    assert [Path(one).read_bytes() for one in batch.data] == contents
    (folder,) = scratch.iterdir()
    assert all(os.path.realpath(one).startswith(f"{folder}/") for one in batch.data)
    assert len({os.path.realpath(one) for one in batch.data}) == len(HOSTILE)
    assert batch.data[0].endswith("/0/up")
    reader.close()
    assert list((tmp_path / "deep").rglob("*")) == [scratch]


PARTS = st.sampled_from([".", "..", "", "a", "b", "0", "1", "a.png"])
ANY_NAMES = st.lists(
    st.lists(PARTS, min_size=1, max_size=4).map("/".join).filter(bool), min_size=1, max_size=8
)


@settings(max_examples=100, deadline=None)
@given(ANY_NAMES, st.sampled_from(["0", "1", "1_", "a"]))
def test_any_names_stay_apart_below_the_scratch_folder(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], archive: str
) -> None:
    folder = tmp_path_factory.mktemp("names")
    source = listed(a_tar(folder / archive, {f"{number}": b"%d" % number for number in range(len(names))}))
    source = Members(source.archive, "\0".join(names).encode(), source.offsets, source.sizes)
    (folder / "scratch").mkdir()
    batch = read("path", source, folder / "scratch")
    assert [data for _, data in batch.data] == [b"%d" % number for number in range(len(names))]
    assert all("/../" not in name and name.startswith(f"{folder}/scratch/members-") for name, _ in batch.data)


# What is wrong


@pytest.mark.parametrize("as_", ["bytes", "path"])
@pytest.mark.parametrize("make", [a_tar, a_zip])
def test_a_member_that_is_not_as_planned_is_one_bad_item(
    tmp_path: Path, make: Callable[..., Path], as_: str
) -> None:
    path = make(tmp_path / "a", {"1": b"one", "2": b"two" * 100, "3": b"three"})
    source = listed(path)
    make(path, {"1": b"one", "2": b"three" * 100, "3": b"three"})
    batch = read(as_, source, tmp_path / ".")
    positions = [bad.position for bad in batch.bad]
    assert 1 in positions and len(batch.data) + len(batch.bad) == 3
    assert b"one" in [data for _, data in batch.data] and b"three" * 100 not in [
        data for _, data in batch.data
    ]
    error = batch.bad[0].error
    assert error.type == "BadMember"
    assert error.message.startswith(
        f"{str(path)!r}: member '2' cannot be read: no member of 300 bytes begins"
    )
    assert "changed since it was planned" in error.message


def test_a_tar_cut_short_costs_the_items_that_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_reader, "_STRETCH", 50)
    path = a_tar(tmp_path / "a.tar", {"1": b"one", "2": b"2" * 400, "3": b"three"})
    source = listed(path)
    os.truncate(path, 512 + 512 + 512 + 130)
    reader = open_archives("path", str(tmp_path))
    batch = reader.read(source, 3)
    (written,) = [found for found in tmp_path.glob("members-*/**/*") if found.is_file()]
    assert batch.data == [str(written)] and written.read_bytes() == b"one"
    reader.close()
    assert [(bad.position, bad.error.message.partition("be read: ")[2]) for bad in batch.bad] == [
        (1, "the archive ends 270 bytes before the member's end: was it cut short?"),
        (
            2,
            f"no member of 5 bytes begins at byte {512 * 5:,}: has the archive changed since it was planned?",
        ),
    ]


@pytest.mark.parametrize("as_", ["bytes", "path"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_wrong_check_value_in_a_zip_costs_one_item(tmp_path: Path, as_: str, method: int) -> None:
    noise = random.Random(1).randbytes(300)
    members = {"1": b"first" * 50, "2": noise, "3": b"third" * 50}
    path = a_zip(tmp_path / "a.zip", members, method)
    source = listed(path)
    raw = bytearray(path.read_bytes())
    raw[source.offsets[1] + 30 + 100] ^= 0xFF
    path.write_bytes(raw)
    batch = read(as_, source, tmp_path)
    assert [data for _, data in batch.data] == [b"first" * 50, b"third" * 50]
    (bad,) = batch.bad
    assert bad.position == 1 and "member '2' cannot be read" in bad.error.message


def test_a_member_over_8_gib_has_its_size_elsewhere(tmp_path: Path) -> None:
    """Its own header then has 0, or the size in another form: both are right."""
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        info = tarfile.TarInfo("big")
        info.size = 9 << 30
        header = info.tobuf(form)
        path = tmp_path / "a.tar"
        path.write_bytes(header)
        os.truncate(path, len(header) + (9 << 30))
        archive = archive_reader._Tar(os.fsencode(path))
        assert len(next(archive.content(len(header), 9 << 30))) == 4 << 20
        archive.close()


def test_what_is_no_archive_any_more_is_unreadable(tmp_path: Path) -> None:
    path = a_zip(tmp_path / "a.zip", SOME)
    source = listed(path)
    path.write_bytes(b"not any more")
    with pytest.raises(Unreadable, match=r"a.zip' cannot be read as an archive: .*changed since"):
        read("bytes", source, tmp_path)


def test_an_archive_that_could_not_be_read_when_planned_says_why_again(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"no archive")
    source = Members(os.fsencode(path), b"", [0], [0])
    with pytest.raises(Unreadable, match=r"a.tar' cannot be read: it is neither a tar nor a zip"):
        read("bytes", source, tmp_path)
    a_tar(path, SOME)
    with pytest.raises(Unreadable, match="could not be read when the run was planned, and can be now"):
        read("bytes", source, tmp_path)


def test_a_piece_that_disagrees_with_its_count_is_unreadable(tmp_path: Path) -> None:
    source = listed(a_tar(tmp_path / "a.tar", SOME))
    with pytest.raises(Unreadable, match="the plan has 4 of 3 members"):
        open_archives("bytes", str(tmp_path)).read(source, 3)


def test_a_scratch_folder_that_cannot_be_written_is_no_fault_of_the_items(tmp_path: Path) -> None:
    source = listed(a_tar(tmp_path / "a.tar", SOME))
    reader = open_archives("path", str(tmp_path / "gone"))
    with pytest.raises(Unreadable, match=r"scratch folder '.*/gone': No such file.*TMPDIR"):
        reader.read(source, 4)
    reader.close()


def test_a_scratch_folder_that_is_full_is_no_fault_of_the_items(tmp_path: Path) -> None:
    source = listed(a_tar(tmp_path / "a.tar", SOME))
    reader = open_archives("path", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(Unreadable, match=r"cannot be unpacked to the scratch folder .*: File too large"):
            reader.read(source, 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    reader.close()
    assert [found.name for found in tmp_path.iterdir()] == ["a.tar"]
