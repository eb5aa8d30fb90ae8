"""Elements of a job array, as processes without a batch system: shares of one plan, and their merging."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import support
from array_elements import all_elements, element, merge, plain
from support import NOTE, Started, failed_items, make_job, mpibatch, notes, open_gate, result, rows

from mpibatch.core.shares import Division
from mpibatch.runtime.array_folder import share_folder
from mpibatch.runtime.journal import HEADER_SIZE
from mpibatch.runtime.lease import Lease
from mpibatch.runtime.run_folder import RunFolder

ODD = (
    NOTE
    + """
def run(mini_batch):
    names = [os.path.basename(item) for item in mini_batch]
    for name in names:
        note(name)
    if "item011" in names:
        raise ValueError("bad eleven")
    if "item018" in names:
        return names[:1]
    return names
"""
)
"""An item that fails, and a mini-batch that returns too little."""

HELD = (
    NOTE
    + """
def run(mini_batch):
    names = [os.path.basename(item) for item in mini_batch]
    note(" ".join(names))
    if "item009" in names:
        gate()
    time.sleep(0.02)  # So long that it is told of before the next one begins.
    return names
"""
)

BAD_EVEN = (
    NOTE
    + """
def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    if int(name[4:]) % 2 == 0 and not os.path.exists(FOLDER + "/repaired"):
        raise ValueError("even")
    if name == "item005":
        note("held")
        gate()
    return [name]
"""
)

NUMBERS = """
import pandas as pd

def run(mini_batch):
    numbers = [int(open(item).read()) for item in mini_batch]
    if numbers[0] % 2:
        return pd.DataFrame({"n": numbers})
    return pd.DataFrame({"n": [number + 0.5 for number in numbers]})
"""
"""Even shares give floats, odd ones integers."""


KILLED_AT_RENAME = """
import os, signal
replace = os.replace
def replaced(old, new, **more):
    if os.path.basename(str(new)) == os.environ["KILLED_AT"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(old, new, **more)
os.replace = replaced
"""
"""What `mpibatch merge` imports at its start: it is killed as a file of this name is about to appear."""


def without_places(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Failed items, but for where their logs are."""
    return [{**line, "log": None} for line in lines]


def test_elements_one_after_the_other(tmp_path: Path) -> None:
    job, output = make_job(tmp_path, ODD, items=23, mini_batch_size=2), tmp_path / "output"
    for number in (2, 0):
        assert "the last one to be merges them" in element(job, f"{number}/3")
    assert not (output / "rows.txt").exists()
    told = merge(output, code=75)
    assert "1: missing: its element has never begun" in told
    assert "--array=1;" in told.replace(")", ";")
    counted = result(share_folder(RunFolder(output), 2).root)
    assert (counted["mini_batches"]["total"], counted["mini_batches"]["failed"]) == (4, 1)
    assert (counted["items"]["total"], counted["output"], counted["share"]) == (7, None, 2)

    assert "The 3 shares of the array, merged" in element(job, "1/3")

    alone = plain(job)
    assert (output / "rows.txt").read_bytes() == (alone / "rows.txt").read_bytes()
    assert without_places(failed_items(output)) == sorted(
        without_places(failed_items(alone)), key=lambda line: int(line["mini_batch"])
    )
    ours, theirs = result(output), result(alone)
    for key in ("verdict", "exit_code", "items", "mini_batches", "rows"):
        assert ours[key] == theirs[key], key
    assert ours["output"] == str(output / "rows.txt")


def test_what_is_merged_stays_and_is_told_of(tmp_path: Path) -> None:
    job, output = make_job(tmp_path, ODD, items=6, mini_batch_size=2), tmp_path / "output"
    all_elements(job, 2)
    before = (output / "rows.txt").stat()

    assert "is reused" in element(job, "0/2")
    assert "complete, exit code 0" in merge(output, code=0)

    assert (output / "rows.txt").stat() == before
    assert len(notes(tmp_path)) == 6, "nothing was done again"
    told = mpibatch("status", output)
    assert "2 shares, numbers 0 to 1: 2 complete" in told.stdout, support.words(told)
    as_json = json.loads(mpibatch("status", output, "--json").stdout)
    assert [one["state"] for one in as_json["shares"]] == ["complete", "complete"]
    (output / "rows.txt").unlink()
    assert "merging the 2 shares" in merge(output, code=0), "the output is gone, so it is made again"
    assert len(rows(output)) == 6


@pytest.mark.mpi
def test_all_at_once_with_worlds_of_different_sizes(tmp_path: Path) -> None:
    job, output = make_job(tmp_path, HELD, items=24, mini_batch_size=2), tmp_path / "output"
    with (
        Started(tmp_path, "run", job, "--share", "0/4", ranks=2) as first,
        Started(tmp_path, "run", job, "--share", "1/4", ranks=3) as second,
        Started(tmp_path, "run", job, "--share", "2/4") as third,
        Started(tmp_path, "run", job, "--share", "3/4") as fourth,
    ):
        every = [first, second, third, fourth]
        support.wait_until(lambda: len(notes(tmp_path)) >= 10, "nearly all is done")
        assert not (output / "rows.txt").exists()
        asked = mpibatch("status", output)
        assert "running" in asked.stdout, support.words(asked)
        open_gate(tmp_path)
        codes = [one.wait_to_end() for one in every]
        said = "\n".join(one.said for one in every)
    assert codes == [0, 0, 0, 0], said
    assert "merging the 4 shares" in said
    assert rows(output) == [f"item{number:03d}" for number in range(24)]
    assert sorted(" ".join(notes(tmp_path)).split()) == rows(output), "each item once"


def test_the_last_two_end_at_the_same_moment(tmp_path: Path) -> None:
    script = NOTE + "def run(mini_batch):\n    note('here')\n    gate()\n    return mini_batch\n"
    job, output = make_job(tmp_path, script, items=2), tmp_path / "output"
    with (
        Started(tmp_path, "run", job, "--share", "0/2") as one,
        Started(tmp_path, "run", job, "--share", "1/2") as other,
    ):
        support.wait_until(lambda: len(notes(tmp_path)) == 2, "both are at their last item")
        open_gate(tmp_path)
        assert [one.wait_to_end(), other.wait_to_end()] == [0, 0], one.said + other.said
        assert "shares of the array, merged" in one.said + other.said
    assert len(rows(output)) == 2


def test_a_killed_element_goes_on_alone(tmp_path: Path) -> None:
    job, output = make_job(tmp_path, HELD, items=18, mini_batch_size=2), tmp_path / "output"
    with Started(tmp_path, "run", job, "--share", "1/3") as held:
        held.wait_until(lambda: any("item009" in line for line in notes(tmp_path)), "it is in its second")
        journal = share_folder(RunFolder(output), 1).journal(1)
        held.wait_until(lambda: journal.stat().st_size > HEADER_SIZE, "the first is kept")
        os.kill(held.process.pid, signal.SIGKILL)
    element(job, "0/3")
    element(job, "2/3")
    assert "1: unfinished: it was broken off without a result" in merge(output, code=75)
    open_gate(tmp_path)

    element(job, "1/3")

    assert rows(output) == [f"item{number:03d}" for number in range(18)]
    assert notes(tmp_path).count("item002 item003") == 1, "what was kept is not done again"


def test_too_many_errors_over_all_shares(tmp_path: Path) -> None:
    job = make_job(tmp_path, BAD_EVEN, items=8, error_threshold=3, run_max_try=1, shutdown_timeout=1)
    output = tmp_path / "output"
    with Started(tmp_path, "run", job, "--share", "1/2") as odd:
        support.wait_until(lambda: "held" in notes(tmp_path), "the odd ones are at work")

        told = element(job, "0/2", code=3)
        assert "4 items failed; error_threshold is 3" in told
        assert odd.wait_to_end() == 3, "it stops by itself, at the gate"
        assert "4 items failed (4 of them in other shares of the array)" in odd.said
    told = merge(output, code=3)
    assert "0: too many errors" in told
    assert "1: too many errors" in told

    (tmp_path / "repaired").touch()
    open_gate(tmp_path)
    element(job, "1/2")
    element(job, "0/2")
    assert rows(output) == [f"item{number:03d}" for number in range(8)]


def test_a_share_without_a_success_fails_nobody_but_the_whole_is_judged(tmp_path: Path) -> None:
    job = make_job(tmp_path, BAD_EVEN, items=5, run_max_try=1, allowed_failed_percent=50)
    open_gate(tmp_path)
    element(job, "0/2")
    ended = mpibatch("run", job, "--share", "1/2")
    assert ended.returncode == 3, support.words(ended)
    assert "60.0 % of the mini-batches failed" in ended.stdout
    output = tmp_path / "output"
    assert (result(output)["verdict"], len(failed_items(output))) == ("too_many_errors", 3)
    assert not (output / "rows.txt").exists()

    element(job, "0/2", "--set", "allowed_failed_percent=70", code=3)  # It is complete: nothing is set anew.


@pytest.mark.parametrize("row_format", ["csv", "parquet"])
def test_the_forms_of_all_shares_become_one(tmp_path: Path, row_format: str) -> None:
    name = f"rows.{row_format}"
    job = make_job(tmp_path, NUMBERS, items=6, append_row_format=row_format, append_row_file_name=name)

    all_elements(job, 2)

    alone = plain(job)
    assert (tmp_path / "output" / name).read_bytes() == (alone / name).read_bytes()


def test_order_completion_is_share_after_share(tmp_path: Path) -> None:
    job = make_job(tmp_path, ODD, items=6, order="completion")

    all_elements(job, 2)

    names = [f"item{number:03d}" for number in (0, 2, 4, 1, 3, 5)]
    assert rows(tmp_path / "output") == names


@pytest.mark.parametrize("damaged", ["rows", "journal"])
def test_damage_opens_the_share_again(tmp_path: Path, damaged: str) -> None:
    job = make_job(tmp_path, ODD, items=6, array={"elements": 2, "merge": "manual"})
    output = tmp_path / "output"
    all_elements(job, 2)
    share = share_folder(RunFolder(output), 1)
    file = share.rows(1) if damaged == "rows" else share.journal(1)
    data = bytearray(file.read_bytes())
    data[2 if damaged == "rows" else HEADER_SIZE + 12] ^= 0xFF
    file.write_bytes(data)

    told = merge(output, code=74)

    assert "Start element 1 of the array again (sbatch --array=1)" in told
    assert "1: failed" in merge(output, code=74)
    element(job, "1/2")
    merge(output, code=0)
    assert rows(output) == [f"item{number:03d}" for number in range(6)]
    assert len(notes(tmp_path)) == 7, "one mini-batch was made again"


def test_two_merges_at_once(tmp_path: Path) -> None:
    job = make_job(tmp_path, ODD, items=6, array={"merge": "manual"})
    all_elements(job, 2)
    output = tmp_path / "output"
    assert not (output / "rows.txt").exists()
    with Started(tmp_path, "merge", output) as one, Started(tmp_path, "merge", output) as other:
        assert [one.wait_to_end(), other.wait_to_end()] == [0, 0], one.said + other.said
    assert len(rows(output)) == 6


def test_the_last_element_waits_for_who_merges_already(tmp_path: Path) -> None:
    job, output = make_job(tmp_path, ODD, items=4), tmp_path / "output"
    element(job, "0/2")
    lease = Lease(RunFolder(output))
    lease.acquire(print)
    try:
        with Started(tmp_path, "run", job, "--share", "1/2") as last:
            last.wait_to_say("are being merged by somebody else: waiting for that")
            lease.release()
            assert last.wait_to_end() == 0, last.said
    finally:
        lease.release()
    assert len(rows(output)) == 4


def test_if_the_planner_dies_another_one_plans(tmp_path: Path) -> None:
    job = make_job(tmp_path, ODD, items=4, prepare="prepare.py")
    (tmp_path / "prepare.py").write_text(
        "import os, time\n"
        "here = os.path.dirname(os.path.abspath(__file__))\n"
        "with open(here + '/planning', 'a') as file:\n"
        "    file.write('x')\n"
        "while not os.path.exists(here + '/gate'):\n"
        "    time.sleep(0.005)\n"
    )
    planning = tmp_path / "planning"
    with Started(tmp_path, "run", job, "--share", "0/2") as first:
        first.wait_until(planning.exists, "it plans")
        with Started(tmp_path, "run", job, "--share", "1/2") as second:
            second.wait_to_say("another element makes the plan")
            os.kill(first.process.pid, signal.SIGKILL)
            first.wait_to_end()
            second.wait_until(lambda: planning.read_text() == "xx", "the other one plans")
            open_gate(tmp_path)
            assert second.wait_to_end() == 0, second.said
    element(job, "0/2")
    assert planning.read_text() == "xx", "all others use that plan"
    assert len(rows(tmp_path / "output")) == 4


def test_what_is_not_of_this_array_is_refused(tmp_path: Path) -> None:
    job = make_job(tmp_path, ODD, items=4)
    element(job, "0/2")
    for arguments, words in [
        (("--share", "0/3"), "divided into 2 shares"),
        ((), "is that of a job array"),
        (("--fresh",), "is that of a job array"),
        (("--share", "1/2", "--fresh"), "cannot throw away what its siblings have done"),
        (("--share", "1/2", "--only-failed"), "--only-failed"),
        (("--share", "1/2", "--set", "mini_batch_size=2"), "belongs to a run with other settings"),
        (("--share", "1/2", "--set", "append_row_format=csv"), "rows of another form"),
    ]:
        ended = mpibatch("run", job, *arguments)
        assert ended.returncode == 2, support.words(ended)
        assert words in ended.stderr, support.words(ended)
    alone = plain(job)
    assert "not divided into shares" in element(job, "0/2", "--output", alone, code=2)


def test_a_slurm_array_tells_by_itself(tmp_path: Path) -> None:
    job = make_job(tmp_path, ODD, items=4)
    values = {"ID": 6, "MIN": 5, "MAX": 6, "STEP": 1, "COUNT": 2}
    slurm = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}
    slurm["SLURM_ARRAY_JOB_ID"] = "812"

    ended = mpibatch("run", job, env=support.environment(**slurm))

    assert ended.returncode == 0, support.words(ended)
    assert "this is element 6 of Slurm array 812: it takes 2 of 4 mini-batches" in ended.stderr
    assert (tmp_path / "output" / "shares" / "0006" / "job_result.json").exists()
    alone = mpibatch(
        "run", job, "--set", "array=false", "--output", tmp_path / "x", env=support.environment(**slurm)
    )
    assert alone.returncode == 0, support.words(alone)
    assert len(rows(tmp_path / "x")) == 4


def test_stop_asks_all_elements(tmp_path: Path) -> None:
    job, output = make_job(tmp_path, HELD, items=12, mini_batch_size=2, term_grace_s=1), tmp_path / "output"
    with Started(tmp_path, "run", job, "--share", "0/2") as held:
        held.wait_until(lambda: any("item009" in line for line in notes(tmp_path)), "it is at work")

        told = mpibatch("stop", output)

        assert "asked 1 element" in told.stdout, support.words(told)
        held.wait_to_say("stopping (asked to by")
        open_gate(tmp_path)
        assert held.wait_to_end() in (0, 75), held.said
    assert Division(first=0, step=1, count=2).words in mpibatch("status", output).stdout


def test_a_share_whose_items_failed_is_done_again_once_it_was_removed(tmp_path: Path) -> None:
    job = make_job(tmp_path, BAD_EVEN, items=4, run_max_try=1, allowed_failed_percent=10)
    output = tmp_path / "output"
    open_gate(tmp_path)
    element(job, "0/2")
    assert "remove the folders below" in element(job, "1/2", code=3)
    (tmp_path / "repaired").touch()
    shutil.rmtree(output / "shares" / "0000")
    element(job, "0/2")
    assert rows(output) == [f"item{number:03d}" for number in range(4)]


def test_more_shares_than_mini_batches(tmp_path: Path) -> None:
    job, output = make_job(tmp_path, ODD, items=2), tmp_path / "output"
    all_elements(job, 4)
    assert rows(output) == ["item000", "item001"]
    nothing = result(share_folder(RunFolder(output), 3).root)
    assert (nothing["verdict"], nothing["items"]["total"]) == ("complete", 0)


def test_scripts_that_store_their_own_output(tmp_path: Path) -> None:
    job, output = make_job(tmp_path, ODD, items=4, output_action="summary_only"), tmp_path / "output"
    all_elements(job, 2)
    assert (result(output)["verdict"], result(output)["output"]) == ("complete", None)
    assert not (output / "rows.txt").exists()


def test_an_element_that_is_started_twice_at_once(tmp_path: Path) -> None:
    job, output = make_job(tmp_path, HELD, items=12, mini_batch_size=2), tmp_path / "output"
    with Started(tmp_path, "run", job, "--share", "0/2") as held:
        held.wait_until(lambda: any("item009" in line for line in notes(tmp_path)), "it is at work")
        assert "in use" in element(job, "0/2", code=2)
        open_gate(tmp_path)
        assert held.wait_to_end() == 0, held.said
    element(job, "1/2")
    assert len(rows(output)) == 12


def test_changed_between_elements(tmp_path: Path) -> None:
    job, output = make_job(tmp_path, ODD, items=4), tmp_path / "output"
    element(job, "0/2")
    (tmp_path / "script.py").write_text(NOTE + "def run(mini_batch):\n    return ['new'] * len(mini_batch)\n")
    assert "have changed: the entry script" in element(job, "1/2")
    assert rows(output) == ["item000", "new", "item002", "new"]
    assert "have changed: the entry script" in element(job, "0/2", code=2)
    told = element(job, "1/2", "--set", 'arguments=[--notes, "${job_dir}/notes", --more]')
    assert "have changed: arguments" in told
    assert "is reused" in told


@pytest.mark.parametrize(
    ("killed_at", "again"),
    [("rows.txt", "merge"), ("failed_items.jsonl", "element"), ("job_result.json", "merge")],
)
def test_a_killed_merge_is_done_again(tmp_path: Path, killed_at: str, again: str) -> None:
    script = (
        NOTE
        + "def run(mini_batch):\n    return [os.path.basename(item) + 'x' * 3000 for item in mini_batch]\n"
    )
    job, output = make_job(tmp_path, script, items=6, array={"merge": "manual"}), tmp_path / "output"
    all_elements(job, 2)
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(KILLED_AT_RENAME)
    variables = support.environment(
        PYTHONPATH=f"{hook}{os.pathsep}{Path(__file__).parents[2]}", KILLED_AT=killed_at
    )
    ended = mpibatch("merge", output, env=variables)
    assert ended.returncode == -signal.SIGKILL, support.words(ended)
    assert list(output.rglob("*.partial"))
    assert not (output / "job_result.json").exists()

    if again == "merge":
        merge(output, code=0)
    else:
        element(job, "0/2", "--set", "array.merge=auto")

    assert (output / "rows.txt").read_bytes() == (plain(job) / "rows.txt").read_bytes()
    assert not list(output.rglob("*.partial"))


def test_a_dry_run_shows_the_share(tmp_path: Path) -> None:
    job = make_job(tmp_path, ODD, items=9)
    ended = mpibatch("run", job, "--share", "1/4", "--dry-run")
    assert ended.returncode == 0, support.words(ended)
    assert "share        number 1, as one of 4 shares, numbers 0 to 3: 2 of them" in ended.stdout
    assert [line for line in ended.stdout.splitlines() if line.startswith("mini-batch ")] == [
        "mini-batch 1:",
        "mini-batch 5:",
    ]
    element(job, "0/2")
    ended = mpibatch("run", job, "--share", "1/4", "--dry-run")
    assert (ended.returncode, "divided into 2 shares" in ended.stderr) == (2, True), support.words(ended)
