"""How files are copied, and which jobs ask for it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from mpibatch.core.config import parse_job
from mpibatch.core.job_inputs import FilesInput, ListInput
from mpibatch.errors import ConfigError
from mpibatch.runtime.copying import copy_files
from mpibatch.runtime.setups import downloads


def always() -> bool:
    return True


def file(path: Path, content: bytes = b"") -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return os.fsencode(path)


# Copies


def test_a_copy_lies_below_the_folder_as_its_file_below_the_root(tmp_path: Path) -> None:
    files = [file(tmp_path / "in" / name, name.encode()) for name in ("a/1", "b/1")]
    folder = os.fsencode(tmp_path / "out")
    copied = copy_files(files, folder, always)
    assert copied.paths == [folder + path for path in files] and not copied.trouble
    assert [Path(os.fsdecode(path)).read_bytes() for path in copied.paths] == [b"a/1", b"b/1"]


def test_a_path_that_climbs_stays_below_the_folder(tmp_path: Path) -> None:
    one = file(tmp_path / "1", b"one")
    folder = os.fsencode(tmp_path / "out")
    paths = copy_files([one, b"/.." + one], folder, always).paths
    assert all(os.path.realpath(path).startswith(folder + b"/") for path in paths)
    assert len({os.path.realpath(path) for path in paths}) == 2


def test_a_file_whose_copy_would_be_a_folder_has_one_of_its_own(tmp_path: Path) -> None:
    """Two paths may be a file and a folder below it, if the first is a link by now, or changed meanwhile."""
    one = file(tmp_path / "a", b"one")
    folder = tmp_path / "out"
    Path(f"{folder}{os.fsdecode(one)}").mkdir(parents=True)
    (path,) = copy_files([one], os.fsencode(folder), always).paths
    assert path == os.fsencode(folder / "0" / "a") and Path(os.fsdecode(path)).read_bytes() == b"one"


def test_large_content_is_whole(tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (path,) = copy_files([file(tmp_path / "a", content)], os.fsencode(tmp_path / "out"), always).paths
    assert Path(os.fsdecode(path)).read_bytes() == content


def test_what_is_not_wanted_any_more_is_left(tmp_path: Path) -> None:
    files = [file(tmp_path / name) for name in "abc"]
    answers = iter([True, False, False])
    copied = copy_files(files, os.fsencode(tmp_path / "out"), lambda: next(answers))
    assert copied.paths[1:] == files[1:] and copied.paths[0] != files[0] and not copied.trouble


def test_what_cannot_be_read_is_itself_and_no_trouble(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    odd = [b"/nowhere/x", os.fsencode(tmp_path), os.fsencode(tmp_path / "pipe"), b"/proc/self/mem"]
    copied = copy_files(odd, os.fsencode(tmp_path / "out"), always)
    assert copied.paths == odd and not copied.trouble
    assert not [name for _, _, names in os.walk(tmp_path / "out") for name in names], "no partial copy"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_copy_that_does_not_fit_is_removed_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [file(tmp_path / name, b"x") for name in "abc"]

    def on_a_full_disk(path: bytes) -> tuple[bytes, int]:
        Path(os.fsdecode(path)).parent.mkdir(parents=True, exist_ok=True)
        Path(os.fsdecode(path)).touch()
        return path, os.open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr("mpibatch.runtime.copying._create", on_a_full_disk)
    copied = copy_files(files, os.fsencode(tmp_path / "out"), always)
    assert copied.paths == files
    assert os.strerror(errno.ENOSPC) in copied.trouble and str(tmp_path / "a") in copied.trouble
    assert not [name for _, _, names in os.walk(tmp_path / "out") for name in names]


# Job files


def job(*inputs: dict[str, Any], **keys: Any) -> Any:
    return parse_job(
        {"name": "job", "entry_script": "s.py", "inputs": list(inputs), "output": "out"} | keys,
        job_file="/j/j.yaml",
    )


def refused(*inputs: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        job(*inputs)
    return str(caught.value)


def test_each_input_of_files_says_how_it_is_read() -> None:
    read = job(
        {"files": "a"}, {"files": "b", "mode": "download"}, {"list": "c", "mode": "download"}, {"list": "d"}
    )
    assert [one.mode for one in read.inputs if isinstance(one, FilesInput | ListInput)] == [
        "mount", "download", "download", "mount",
    ]  # fmt: skip
    assert downloads(read) == [1, 2]
    assert downloads(job({"files": "a", "mode": "mount"})) == []


def test_also_with_partition_keys() -> None:
    read = job({"files": "d/{user}/*.wav", "mode": "download"}, partition_keys=["user"])
    assert downloads(read) == [0]


@pytest.mark.parametrize(
    ("one", "words"),
    [
        ({"files": "a", "mode": "downlod"}, ["inputs.0.mode", "mount, download", "download?"]),
        ({"list": "a", "mode": True}, ["inputs.0.mode", "mount, download"]),
        (
            {"files": "a.tar", "members": "*", "mode": "download"},
            ["inputs.0.mode", "unpacked to scratch anyway"],
        ),
        ({"csv": "a.csv", "mode": "download"}, ["inputs.0.mode", "files: and list: inputs", "its own range"]),
    ],
)
def test_what_makes_no_sense_is_refused(one: dict[str, Any], words: list[str]) -> None:
    message = refused(one)
    assert [word for word in words if word not in message] == []
