"""What travels between ranks: large and many messages both ways arrive whole and in order; idle ranks get work."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import support

pytestmark = pytest.mark.mpi


def make_list(folder: Path, names: list[str]) -> dict[str, Any]:
    """Keys of a job whose items are names, of no files."""
    file = folder / "paths.txt"
    file.write_text("".join(f"/nowhere/{name}\n" for name in names))
    return {"inputs": [{"list": "paths.txt", "check": False}]}


LARGE = """
import os

def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    return [name + ":" + name[-1] * {length}]
"""


def test_large_fragments(tmp_path: Path) -> None:
    length, names = 5_000_000, [f"{number:03d}" for number in range(60)]
    job = support.make_job(
        tmp_path, LARGE.format(length=length), items=0, process_count_per_node=3, **make_list(tmp_path, names)
    )

    ended = support.mpibatch("run", job, ranks=4)

    assert ended.returncode == 0, support.words(ended)
    output = tmp_path / "output"
    with (output / "rows.txt").open("rb") as file:
        for name in names:
            row = file.readline()
            assert len(row) == 4 + length + 1
            assert row == f"{name}:{name[-1] * length}\n".encode(), f"row {name} is torn"
        assert not file.read()
    assert support.result(output)["mini_batches"]["attempts"] == len(names)
    (output / "rows.txt").unlink()  # 300 MB.
    for segment in (output / ".mpibatch").glob("*.rows"):
        segment.unlink()


SMALL = """
def run(mini_batch):
    return [path.rpartition("/")[2] for path in mini_batch]
"""


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_flood_of_small_ones(ranks: int, tmp_path: Path) -> None:
    names = [f"{number:05d}" for number in range(20_000)]
    job = support.make_job(tmp_path, SMALL, items=0, process_count_per_node=2, **make_list(tmp_path, names))

    ended = support.mpibatch("run", job, ranks=ranks)

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == names
    assert support.result(tmp_path / "output")["mini_batches"]["attempts"] == len(names)


DIGEST = """
import hashlib, os

def run(mini_batch):
    return [hashlib.sha256("".join(mini_batch).encode()).hexdigest()] * len(mini_batch)
"""


def test_a_grant_above_the_eager_limit(tmp_path: Path) -> None:
    names = [f"{number:06d}" for number in range(60_000)]
    job = support.make_job(
        tmp_path,
        DIGEST,
        items=0,
        process_count_per_node=2,
        mini_batch_size=20_000,
        **make_list(tmp_path, names),
    )

    ended = support.mpibatch("run", job, ranks=3)

    assert ended.returncode == 0, support.words(ended)
    digests = []
    for first in range(0, len(names), 20_000):
        paths = "".join(f"/nowhere/{name}" for name in names[first : first + 20_000])
        digests += [hashlib.sha256(paths.encode()).hexdigest()] * 20_000
    assert support.rows(tmp_path / "output") == digests


SLOW = (
    support.NOTE
    + """
def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    for _ in range(200):
        print("x" * 10_000)  # 2 MB, into the log.
    sys.stdout.flush()
    end = time.monotonic() + 50
    if name == "item000":  # Not done before all others are: what was granted behind it has to be taken back.
        while len(done()) < 7:
            if time.monotonic() > end:
                raise TimeoutError(f"only {done()} have been done elsewhere")
            time.sleep(0.01)
    else:
        time.sleep(0.1)
        note(f"{name} {os.getpid()}")
    return [f"{name} {os.getpid()}"]

def done():
    with open(sys.argv[sys.argv.index("--notes") + 1], "a+") as file:
        file.seek(0)
        return file.readlines()
"""
)


@pytest.mark.parametrize("ranks", [2, 3])
def test_what_waits_behind_a_slow_one_is_taken_back(ranks: int, tmp_path: Path) -> None:
    job = support.make_job(tmp_path, SLOW, items=8, process_count_per_node=2, run_max_try=1)

    ended = support.mpibatch("run", job, ranks=ranks)

    assert ended.returncode == 0, support.words(ended)
    assert support.failed_items(tmp_path / "output") == []
    rows = [row.split() for row in support.rows(tmp_path / "output")]
    assert [name for name, _ in rows] == [f"item{number:03d}" for number in range(8)]
    slow, fast = {rows[0][1]}, {pid for _, pid in rows[1:]}
    # What the slow one's processor did before it does not matter; one other did all behind it.
    assert len(fast - slow) == 1
    assert support.result(tmp_path / "output")["mini_batches"]["attempts"] == 8
    for log in (tmp_path / "output" / "logs").rglob("*.stdout.txt"):
        assert log.stat().st_size >= 2_000_000
