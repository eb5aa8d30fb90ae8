"""Files in archives, by the real command line."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
import support

PATHS = """
import os

def run(mini_batch):
    rows = []
    for path in mini_batch:
        with open(path) as file:
            rows.append(f"{os.path.relpath(path).count('..')} {os.path.basename(path)} {file.read()}")
    return rows
"""
BYTES = """
def run(mini_batch):
    return [f"{name.rpartition('/')[2]} {content.decode()}" for name, content in mini_batch]
"""


def make_tar(file: Path, members: dict[str, str]) -> None:
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))


def make_zip(file: Path, members: dict[str, str]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def members(first: int, count: int) -> dict[str, str]:
    return {f"set/{n:03d}.png": str(n) for n in range(first, first + count)} | {"set/notes.txt": "no"}


@pytest.mark.parametrize("as_", ["path", "bytes"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_each_member_is_an_item(tmp_path: Path, kind: str, as_: str) -> None:
    make = make_tar if kind == "tar" else make_zip
    make(tmp_path / f"a.{kind}", members(0, 17))
    make(tmp_path / f"b.{kind}", members(17, 10))
    job = support.make_job(
        tmp_path, PATHS if as_ == "path" else BYTES, items=0, mini_batch_size=5,
        inputs=[{"files": f"*.{kind}", "members": "*.png", "as": as_}],
    )  # fmt: skip
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    in_scratch = "0 " if as_ == "path" else ""
    assert support.rows(tmp_path / "output") == [f"{in_scratch}{n:03d}.png {n}" for n in range(27)]
    result = support.result(tmp_path / "output")
    assert result["items"]["total"] == 27 and result["mini_batches"]["total"] == 4 + 2


def test_members_are_unpacked_to_the_scratch_folder_also_where_init_has_gone_elsewhere(
    tmp_path: Path,
) -> None:
    make_tar(tmp_path / "a.tar", members(0, 2))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = f"""
import os

def init():
    os.chdir({str(elsewhere)!r})

def run(mini_batch):
    return [str(len(os.listdir("."))) for _ in mini_batch]
"""
    job = support.make_job(
        tmp_path, script, items=0, mini_batch_size=5, inputs=[{"files": "*.tar", "members": "*.png"}]
    )
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == ["0", "0"]
    assert not list(elsewhere.iterdir())


def test_a_failing_member_is_named_by_archive_and_member(tmp_path: Path) -> None:
    make_tar(tmp_path / "a.tar", members(0, 6))
    script = BYTES.replace("return [", "assert mini_batch[0][1] != b'2', 'bad'\n    return [")
    job = support.make_job(
        tmp_path, script, items=0, mini_batch_size=2, error_threshold=2,
        inputs=[{"files": "a.tar", "members": "*.png", "as": "bytes"}],
    )  # fmt: skip
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    failed = support.failed_items(tmp_path / "output")
    assert [one["item"] for one in failed] == [f"{tmp_path}/a.tar/set/002.png"]


def test_members_that_match_nothing_are_refused(tmp_path: Path) -> None:
    make_tar(tmp_path / "a.tar", members(0, 6))
    job = support.make_job(
        tmp_path, BYTES, items=0, inputs=[{"files": "a.tar", "members": "*.jpg", "as": "bytes"}]
    )
    ended = support.mpibatch("run", job)
    assert ended.returncode == 2, support.words(ended)
    assert "*.jpg" in ended.stderr and "a.tar" in ended.stderr
