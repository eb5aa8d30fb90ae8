"""Jobs whose items have no data, by the real command line: a sweep, what fails of it, shares, the argument that asks
for it; and folders that scripts write into."""

from __future__ import annotations

from pathlib import Path

import support

from mpibatch.core import history
from mpibatch.runtime.journal import read_journal
from mpibatch.runtime.planner import open_plan
from mpibatch.runtime.run_folder import RunFolder

SWEEP = """
    import os, sys
    folder = sys.argv[sys.argv.index("--to") + 1]
    def init():
        assert os.path.isdir(folder)
    def run(mini_batch, context):
        assert type(mini_batch[0]) is int
        rows = []
        for number in mini_batch:
            if number == 5 and not os.path.exists(os.path.join(folder, "mended")):
                raise ValueError("not five")
            open(os.path.join(folder, f"{number}.model"), "w").close()
            rows.append(f"{number} {mini_batch.task_id} {context.global_row_index_lower_bound} {context.dataset}")
        return rows
"""
TO = ["--to", "${side_outputs.models}"]


def test_a_sweep_and_what_fails_of_it(tmp_path: Path) -> None:
    job = support.make_job(
        tmp_path, SWEEP, items=0, inputs=[{"count": 8}], mini_batch_size=3, run_max_try=1,
        side_outputs={"models": None}, arguments=TO,
    )  # fmt: skip
    output = tmp_path / "output"
    planned = support.mpibatch("run", job, "--dry-run")
    assert f"side output  models: {output}/models" in planned.stdout, support.words(planned)
    assert not output.exists()
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert support.rows(output) == [
        "0 0 0 count: 8", "1 0 0 count: 8", "2 0 0 count: 8", "3 1 3 count: 8", "4 1 4 count: 8", "6 2 6 count: 8",
        "7 2 6 count: 8",
    ]  # fmt: skip
    (failed,) = support.failed_items(output)
    assert (failed["item"], failed["mini_batch"], failed["error"]["message"]) == ("5", 1, "not five")
    assert sorted(path.name for path in (output / "models").iterdir()) == [
        f"{n}.model" for n in (0, 1, 2, 3, 4, 6, 7)
    ]
    (output / "models" / "mended").touch()
    again = support.mpibatch("run", job)
    assert "is reused" in again.stdout, support.words(again)
    mended = support.mpibatch("run", job, "--only-failed")
    assert mended.returncode == 0, support.words(mended)
    assert [row.split()[0] for row in support.rows(output)] == [str(number) for number in range(8)]
    assert support.failed_items(output) == []


def committed(folder: RunFolder) -> int:
    """How many mini-batches have succeeded in the first session."""
    with open_plan(folder.private) as plan:
        records, _ = read_journal(folder, 1, plan.fingerprint)
    return int((records["kind"] == history.SUCCEEDED).sum())


def test_a_sweep_that_was_killed_goes_on(tmp_path: Path) -> None:
    script = (
        support.NOTE
        + """
def run(mini_batch):
    note(str(mini_batch[0]))
    if mini_batch[0] >= 4:
        gate()
    time.sleep(0.02)  # So long that each is handed over singly.
    return mini_batch
"""
    )
    job = support.make_job(tmp_path, script, items=0, inputs=[{"count": 8}])
    with support.Started(tmp_path, "run", job) as first:
        first.wait_until(lambda: "4" in support.notes(tmp_path), "the fifth stands at the gate")
        first.wait_until(lambda: committed(RunFolder(tmp_path / "output")) == 4, "four are committed")
    support.open_gate(tmp_path)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == [str(number) for number in range(8)]
    assert [support.notes(tmp_path).count(str(number)) for number in range(8)] == [1, 1, 1, 1, 2, 1, 1, 1]


def test_shares_of_it(tmp_path: Path) -> None:
    job = support.make_job(
        tmp_path, SWEEP.replace("== 5", "== -1"), items=0, inputs=[{"count": 4}, {"count": 3}], mini_batch_size=2,
        side_outputs={"models": "made/models"}, arguments=TO,
    )  # fmt: skip
    for number in range(2):
        ended = support.mpibatch("run", job, "--share", f"{number}/2")
        assert ended.returncode == 0, support.words(ended)
    assert [row.split(" ", 3)[::3] for row in support.rows(tmp_path / "output")] == [
        *([str(number), "count: 4"] for number in range(4)),
        *([str(number), "count: 3"] for number in range(3)),
    ]
    assert len(list((tmp_path / "made" / "models").iterdir())) == 4


def test_the_argument_that_asks_for_mini_batches_without_data(tmp_path: Path) -> None:
    script = "import sys\ndef run(mini_batch): return [f'{mini_batch} {sys.argv[-1]}']"
    arguments = ["--rank_mini_batch_count", 3]
    job = support.make_job(tmp_path, script, arguments=arguments, mini_batch_size=4)
    planned = support.mpibatch("run", job, "--dry-run")
    assert "items        3" in planned.stdout, support.words(planned)
    assert "mini-batches 3 of up to 1 numbers" in planned.stdout
    assert "mini-batch 2:\n  2\n" in planned.stdout
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == ["[0] 3", "[1] 3", "[2] 3"]
    assert "warning: argument --rank_mini_batch_count: mini-batches have no data" in ended.stderr


def test_items_that_stand_in_front_of_their_rows(tmp_path: Path) -> None:
    job = support.make_job(
        tmp_path, "def run(mini_batch): return [n * n for n in mini_batch]", items=0, inputs=[{"count": 3}],
        add_input_key=True,
    )  # fmt: skip
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == ["0 0", "1 1", "2 4"]


def test_an_argument_stops_a_job_as_its_key_would(tmp_path: Path) -> None:
    script = "def run(mini_batch): raise ValueError('no')"
    job = support.make_job(tmp_path, script, items=30, arguments=["--error_threshold", "2"], run_max_try=1)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 3, support.words(ended)
    assert support.result(tmp_path / "output")["verdict"] == "too_many_errors"
