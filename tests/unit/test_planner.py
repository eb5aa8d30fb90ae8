from __future__ import annotations

import os
import resource
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core.config import FilesInput, Job, ListInput
from mpibatch.core.job_inputs import JobInput
from mpibatch.errors import InputError, MpibatchError, RunFolderError, StorageError
from mpibatch.runtime import plan_container, plan_file
from mpibatch.runtime.file_plan import FilePlan
from mpibatch.runtime.plan_file import PlanFile, PlanWriter
from mpibatch.runtime.planner import Plan, make_plan, open_plan
from mpibatch.work import Piece


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two folders of files: `a` with 7 and `b` with 3, one of whose names is not UTF-8."""
    for folder, names in (
        ("a", [b"%d" % number for number in range(7)]),
        ("b", [b"x y", b"\xff", b"new\nline"]),
    ):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for name in names:
            with open(os.path.join(os.fsencode(tmp_path / "data" / folder), name), "wb"):
                pass
    (tmp_path / "run").mkdir()
    return tmp_path / "data"


def a_job(data: Path, *inputs: str | ListInput, size: int = 3) -> Job:
    given: list[JobInput] = [
        one if isinstance(one, ListInput) else FilesInput(files=[f"{data}/{one}"], text=one) for one in inputs
    ]
    return Job(
        job_file=f"{data}/job.yaml",
        job_dir=str(data),
        name="job",
        entry_script=f"{data}/script.py",
        inputs=given,
        mini_batch_size=size,
        output=str(data.parent / "run"),
    )


def planned(data: Path, *inputs: str | ListInput, size: int = 3) -> FilePlan:
    plan = make_plan(a_job(data, *inputs, size=size), data.parent / "run")
    assert isinstance(plan, FilePlan)
    return plan


def mini_batch(plan: FilePlan, number: int) -> list[bytes]:
    return plan.paths(Piece(number, 0, plan.item_count(number)))


def everything(plan: Plan) -> list[bytes]:
    assert isinstance(plan, FilePlan)
    return [path for number in range(plan.mini_batches) for path in mini_batch(plan, number)]


# What a plan says


@pytest.mark.parametrize("size", [1, 2, 3, 5, 10])
def test_a_plan(data: Path, size: int) -> None:
    top = os.fsencode(data)
    expected = [top + b"/b/" + name for name in (b"new\nline", b"x y", b"\xff")]
    expected += [top + b"/a/%d" % number for number in range(7)]
    with planned(data, "b", "a", size=size) as plan:
        of_b, of_a = -(-3 // size), -(-7 // size)
        assert (plan.items, plan.inputs, plan.mini_batches) == (10, 2, of_b + of_a)
        assert plan.largest_mini_batch == min(size, 7)
        assert [plan.input_of(number) for number in range(plan.mini_batches)] == [0] * of_b + [1] * of_a
        assert everything(plan) == expected
        assert [path for paths in plan.all_paths() for path in paths] == expected
        assert [one.items for one in plan.planned_inputs] == [3, 7]
        assert [one.text for one in plan.planned_inputs] == ["b", "a"]
        assert plan.remarks == []


def test_pieces_of_a_mini_batch(data: Path) -> None:
    with planned(data, "b", "a", size=4) as plan:
        top = os.fsencode(data)
        piece = Piece(2, 1, 2)
        assert plan.paths(piece) == [top + b"/a/5", top + b"/a/6"]
        assert plan.source(piece).blob == top + b"/a/5\0" + top + b"/a/6"
        assert plan.position(piece) == 5
        assert plan.position(Piece(0, 2, 1)) == 2
        assert plan.paths(Piece(0, 2, 1)) == [top + b"/b/\xff"]


@pytest.mark.parametrize(
    "piece", [Piece(0, 0, 4), Piece(0, 3, 1), Piece(0, 0, 0), Piece(0, -1, 2), Piece(9, 0, 1)]
)
def test_a_piece_that_is_not_in_the_plan(data: Path, piece: Piece) -> None:
    with planned(data, "b") as plan, pytest.raises(IndexError):
        plan.source(piece)


def test_a_later_session_trusts_what_is_stored(data: Path) -> None:
    with planned(data, "a") as plan:
        before = everything(plan)
        fingerprint = plan.fingerprint
    for file in (data / "a").iterdir():
        file.unlink()
    with open_plan(data.parent / "run") as plan:
        assert everything(plan) == before
        assert plan.fingerprint == fingerprint


def test_a_list_and_a_folder(data: Path) -> None:
    (data / "paths.txt").write_text("a/3\na/1\na/3\n")
    one = ListInput(list=str(data / "paths.txt"), text="paths.txt")
    with planned(data, one, "b") as plan:
        assert [os.path.basename(path) for path in mini_batch(plan, 0)] == [b"3", b"1", b"3"]
        assert [one.kind for one in plan.planned_inputs] == ["list", "files"]


def test_remarks_are_kept(data: Path) -> None:
    os.symlink("gone", data / "a/dead")
    planned(data, "b", "a").close()
    with open_plan(data.parent / "run") as plan:
        (remark,) = plan.remarks
        assert remark.startswith("inputs.1.files: symbolic links that lead nowhere")


# The fingerprint


def test_the_fingerprint_is_of_paths_boundaries_and_size_only(data: Path) -> None:
    def fingerprint(*inputs: str | ListInput, size: int = 3) -> str:
        with planned(data, *inputs, size=size) as plan:
            return plan.fingerprint

    first = fingerprint("a", "b")
    (data / "a/1").write_text("other content")
    assert fingerprint("a", "b") == first
    assert fingerprint("a/*", "b/**") == first
    (data / "paths.txt").write_text("".join(f"a/{number}\n" for number in range(7)))
    assert fingerprint(ListInput(list=str(data / "paths.txt"), text="t"), "b") == first
    others = [fingerprint("a", "b", size=4), fingerprint("b", "a"), fingerprint("a"), fingerprint("?/*")]
    os.rename(data / "a/6", data / "a/7")
    others.append(fingerprint("a", "b"))
    os.rename(data / "a", data / "c")
    others.append(fingerprint("c", "b"))
    assert len({first, *others}) == len(others) + 1


# The file's form


def stored(folder: Path, inputs: list[list[tuple[bytes, list[bytes]]]], size: int) -> PlanFile:
    with PlanWriter(folder / "plan", size) as writer:
        counts = []
        for batches in inputs:
            for prefix, names in batches:
                writer.add(prefix, names)
            counts.append(writer.end_input())
        writer.finish({"inputs": [{"items": count} for count in counts]}, [])
    return PlanFile(folder / "plan")


NO_SLASH = bytes(48 if byte in b"\0/" else byte for byte in range(256))
NAMES = st.lists(st.binary(min_size=1, max_size=3).map(lambda name: name.translate(NO_SLASH)), max_size=30)
INPUTS = st.lists(
    st.lists(st.tuples(st.sampled_from([b"/", b"/a/", b"/bc/"]), NAMES), max_size=4), max_size=3
)


@settings(deadline=None, max_examples=200)
@given(inputs=INPUTS, size=st.integers(1, 20), block=st.integers(1, 40), starts=st.data())
def test_any_range_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    inputs: list[list[tuple[bytes, list[bytes]]]],
    size: int,
    block: int,
    starts: st.DataObject,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_file, "_BLOCK", block)
        patch.setattr(plan_container, "_BUFFER", 50)
        file = stored(tmp_path_factory.getbasetemp(), inputs, size)
        expected = [[prefix + name for prefix, names in batches for name in names] for batches in inputs]
        assert [path for paths in file.blocks() for path in paths] == [
            path for paths in expected for path in paths
        ]
    for number, paths in enumerate(expected):
        if paths:
            first = starts.draw(st.integers(0, len(paths) - 1))
            count = starts.draw(st.integers(1, len(paths) - first))
            assert file.blob(number, first, count) == b"\0".join(paths[first : first + count])
    file.close()


def test_what_was_read_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_container, "_MOST_MAPPED", 100)
    names = [b"%05d" % number for number in range(5000)]
    file = stored(tmp_path, [[(b"/a/", names)]], 10)
    for _ in range(2):
        assert [path for paths in file.blocks() for path in paths] == [b"/a/" + name for name in names]
    file.close()


# Damage


def test_a_plan_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"plan' is missing\. Start the run anew with --fresh"):
        open_plan(tmp_path)
    (tmp_path / "plan").mkdir()
    with pytest.raises(StorageError, match="cannot be read: Is a directory"):
        open_plan(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x" * 63, b"x" * 1000, b'{"items": 3}' * 20])
def test_a_foreign_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan").write_bytes(content)
    with pytest.raises(StorageError, match="is not a whole plan of mpibatch"):
        open_plan(tmp_path)


def test_a_plan_of_another_version(data: Path) -> None:
    planned(data, "a").close()
    path = data.parent / "run/plan"
    path.write_bytes(
        path.read_bytes().replace(struct.pack("<I", plan_container.VERSION), struct.pack("<I", 77), 1)
    )
    with pytest.raises(
        RunFolderError, match="has the form 77, and this mpibatch reads form 2: use the version"
    ):
        open_plan(path.parent)


def test_a_torn_plan_of_any_length_is_refused(data: Path) -> None:
    planned(data, "a", "b").close()
    path = data.parent / "run/plan"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(StorageError, match="is not a whole plan"):
            open_plan(path.parent)
    path.write_bytes(whole + b"x")
    with pytest.raises(StorageError, match="is not a whole plan"):
        open_plan(path.parent)


def test_zeros_where_pages_were_not_written_are_seen(data: Path) -> None:
    """Any 8 zeroed bytes: seen when opening, or when what stands there is read."""
    planned(data, "a", "b").close()
    path = data.parent / "run/plan"
    whole = path.read_bytes()
    for place in range(0, len(whole), 8):
        if any(whole[place : place + 8]):
            path.write_bytes(whole[:place] + bytes(8) + whole[place + 8 :])
            with pytest.raises(StorageError), open_plan(path.parent) as plan:
                everything(plan)


# Failing


@pytest.fixture
def small_files() -> Iterator[Callable[[], None]]:
    """Lets files of this process grow to 64 KiB only, until the test's end: `write` fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def leftovers(folder: Path) -> list[str]:
    assert not [thread for thread in threading.enumerate() if thread.name == "plan-writer"]
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("lines", [14_000, 300_000])  # It fails at the end, or midway.
def test_no_room_for_the_plan(data: Path, small_files: Callable[[], None], lines: int) -> None:
    (data / "paths.txt").write_text("".join(f"some/file/{number}\n" for number in range(lines)))
    one = ListInput(list=str(data / "paths.txt"), check=False, text="paths.txt")
    small_files()
    with pytest.raises(
        StorageError, match=r"the plan '.*/run/plan' cannot be written: .*too large"
    ) as caught:
        planned(data, one)
    assert caught.value.exit_code == 74
    assert leftovers(data.parent / "run") == []


def test_a_folder_that_cannot_be_written(data: Path) -> None:
    (data.parent / "run").rmdir()
    with pytest.raises(StorageError, match=r"the plan '.*/run/plan' cannot be written: .*No such file"):
        planned(data, "a")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "job.yaml: inputs.1.files: 'nothing': matches nothing"),
        ("c", "no files are in the folder"),
    ],
)
def test_a_wrong_input_leaves_the_old_plan_and_no_other_file(data: Path, name: str, words: str) -> None:
    (data / "c").mkdir()
    planned(data, "a").close()
    with pytest.raises(InputError, match=words) as caught:
        planned(data, "b", name)
    assert isinstance(caught.value, MpibatchError) and caught.value.exit_code == 2
    assert leftovers(data.parent / "run") == ["plan"]
    with open_plan(data.parent / "run") as plan:
        assert plan.items == 7


def test_what_a_killed_process_left_is_removed(data: Path) -> None:
    (data.parent / "run/plan.4711.partial").touch()
    planned(data, "a").close()
    assert leftovers(data.parent / "run") == ["plan"]
