"""What a start means where a run is already: a finished one is reused or refused, a folder of others left alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import support
import yaml

NAMES = """
import os

def run(mini_batch):
    return [os.path.basename(item) for item in mini_batch]
"""


def finished(folder: Path, script: str = NAMES, **keys: Any) -> Path:
    """A job with a run that is complete, and its job file."""
    job = support.make_job(folder, script, **{"arguments": ["--number", "3"], **keys})
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    return job


def change(job: Path, **keys: Any) -> None:
    job.write_text(yaml.safe_dump({**yaml.safe_load(job.read_text()), **keys}))


def tree_with_times(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        name: (content, (folder / name).stat().st_mtime_ns) for name, content in support.tree(folder).items()
    }


def test_a_finished_run_is_reused_and_untouched(tmp_path: Path) -> None:
    job = finished(tmp_path)
    before = tree_with_times(tmp_path / "output")

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert (
        ended.stdout.splitlines()[-1]
        == f"This run was complete already, and is reused: {tmp_path / 'output'}"
    )
    assert "6: 6 succeeded, 0 failed" in ended.stdout
    assert tree_with_times(tmp_path / "output") == before


def test_a_finished_run_with_failed_items_is_reused(tmp_path: Path) -> None:
    script = NAMES.replace("    return", "    if mini_batch[0].endswith('3'): raise ValueError\n    return")
    job = finished(tmp_path, script, run_max_try=1)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0 and "is reused" in ended.stdout, support.words(ended)


def edit_script(folder: Path) -> None:
    (folder / "script.py").write_text(NAMES + "\n# edited\n")


def edit_item(folder: Path) -> None:
    (folder / "data" / "item002").write_text("other content\n")


def touch_item(folder: Path) -> None:
    """Same size, later time."""
    item = folder / "data" / "item002"
    os.utime(item, ns=(item.stat().st_atime_ns, item.stat().st_mtime_ns + 1_000_000))


def add_item(folder: Path) -> None:
    (folder / "data" / "item999").touch()


def remove_item(folder: Path) -> None:
    (folder / "data" / "item002").unlink()


def keys(**changed: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / "job.yaml", **changed)


CHANGES: list[tuple[str, Callable[[Path], None], str]] = [
    ("script", edit_script, "the entry script"),
    ("argument", keys(arguments=["--number", "4"]), "arguments"),
    ("input content", edit_item, "the size or time of an input file"),
    ("input time", touch_item, "the size or time of an input file"),
    ("new input file", add_item, "the input files"),
    ("input file gone", remove_item, "the input files"),
    ("append_row", keys(append_row={"sep": ","}), "append_row"),
    ("output_action", keys(output_action="summary_only"), "output_action"),
    ("file name", keys(append_row_file_name="other.txt"), "append_row_file_name"),
    ("environment", keys(environment_variables={"A": "1"}), "environment_variables"),
    ("mini_batch_size", keys(mini_batch_size=3), "mini_batch_size"),
    ("inputs key", keys(inputs=[{"files": "data/*"}]), "inputs"),
    ("name and inputs", keys(name="other-name", mini_batch_size=3), "another job: test-job"),
]


@pytest.mark.parametrize(("edit", "words"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_what_has_changed_since_is_named_and_nothing_is_done(
    edit: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    job = finished(tmp_path)
    before = tree_with_times(tmp_path / "output")
    edit(tmp_path)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 2, support.words(ended)
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    for told in (str(tmp_path / "output"), words, "--output DIR", "--fresh"):
        assert told in line
    assert tree_with_times(tmp_path / "output") == before


def test_what_does_not_decide_the_rows_may_change(tmp_path: Path) -> None:
    job = finished(tmp_path)
    change(job, run_max_try=1, run_invocation_timeout=5, logging_level="DEBUG", shutdown_timeout=1)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0 and "is reused" in ended.stdout, support.words(ended)


def test_a_script_that_was_edited_while_it_ran_is_not_taken_for_what_made_the_rows(tmp_path: Path) -> None:
    script = support.NOTE + NAMES.replace("    return", "    note('called')\n    gate()\n    return")
    job = support.make_job(tmp_path, script)
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "called" in support.notes(tmp_path), "run() is called")
        edit_script(tmp_path)
        support.open_gate(tmp_path)
        assert run.wait_to_end() == 0, run.said

    ended = support.mpibatch("run", job)

    assert ended.returncode == 2, support.words(ended)
    assert "the entry script" in ended.stderr


def test_a_script_that_writes_to_a_file_of_its_arguments_is_reused(tmp_path: Path) -> None:
    script = support.NOTE + NAMES.replace("    return", "    note('called')\n    return")
    job = support.make_job(tmp_path, script)
    assert support.mpibatch("run", job).returncode == 0

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0 and "is reused" in ended.stdout, support.words(ended)
    assert support.notes(tmp_path) == ["called"] * 6


def test_a_finished_run_whose_output_is_gone_writes_it_again_without_running(tmp_path: Path) -> None:
    script = support.NOTE + NAMES.replace("    return", "    note('called')\n    return")
    job = support.make_job(tmp_path, script)
    assert support.mpibatch("run", job).returncode == 0
    rows = (tmp_path / "output" / "rows.txt").read_bytes()
    (tmp_path / "output" / "rows.txt").unlink()

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert (tmp_path / "output" / "rows.txt").read_bytes() == rows
    assert len(support.notes(tmp_path)) == 6


def test_a_run_folder_that_was_moved_is_still_the_run(tmp_path: Path) -> None:
    script = support.NOTE + NAMES.replace("    return", "    note('called')\n    return")
    job = support.make_job(tmp_path, script)
    assert support.mpibatch("run", job).returncode == 0
    (tmp_path / "output").rename(tmp_path / "elsewhere")

    ended = support.mpibatch("run", job, "--output", tmp_path / "elsewhere")

    assert ended.returncode == 0, support.words(ended)
    assert str(tmp_path / "elsewhere" / "rows.txt") in ended.stdout, support.words(ended)
    assert len(support.notes(tmp_path)) == 6


def test_allow_reuse_false_starts_anew(tmp_path: Path) -> None:
    job = finished(tmp_path, allow_reuse=False)
    edit_script(tmp_path)
    add_item(tmp_path)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert "allow_reuse is false: starting anew" in ended.stderr
    assert len(support.rows(tmp_path / "output")) == 7
    assert support.result(tmp_path / "output")["sessions"] == 1


def test_fresh_starts_anew_and_removes_only_what_a_run_makes(tmp_path: Path) -> None:
    job = finished(tmp_path)
    output = tmp_path / "output"
    (output / "my-notes.txt").write_text("mine")
    change(job, append_row_file_name="other.txt", mini_batch_size=4)

    ended = support.mpibatch("run", job, "--fresh")

    assert ended.returncode == 0, support.words(ended)
    assert (output / "my-notes.txt").read_text() == "mine"
    assert not (output / "rows.txt").exists()
    assert len(support.rows(output, "other.txt")) == 6
    told = support.result(output)
    assert (told["sessions"], told["mini_batches"]["total"]) == (1, 2)


WRONG = [
    ("input that matches nothing", {"inputs": [{"files": "data/*.png"}]}, "data/*.png"),
    ("side input is missing", {"side_inputs": {"labels": "no-such.txt"}}, "side_inputs.labels"),
    ("prepare fails", {"prepare": "prepare.py"}, "sorry, no data"),
    ("python cannot import mpibatch", {"python": "bare"}, "python: "),
    ("unknown key", {"mini_batch_sice": 3}, "mini_batch_size"),
    ("value out of range", {"run_max_try": 0}, "run_max_try"),
    ("script is missing", {"entry_script": "scirpt.py"}, "entry_script"),
    ("script without run", {"entry_script": "prepare.py"}, "run"),
]


def make_wrong(folder: Path, wrong: dict[str, Any]) -> None:
    (folder / "prepare.py").write_text("raise SystemExit('sorry, no data')\n")
    bare = folder / "bare"
    bare.write_text("#!/bin/sh\necho 'No module named mpibatch' >&2\nexit 1\n")
    bare.chmod(0o755)
    change(folder / "job.yaml", **wrong)


@pytest.mark.parametrize(("wrong", "words"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_wrong_job_leaves_no_folder(wrong: dict[str, Any], words: str, tmp_path: Path) -> None:
    job = support.make_job(tmp_path, NAMES, output="runs/deep/output")
    make_wrong(tmp_path, wrong)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 2, support.words(ended)
    assert words in ended.stderr and "Traceback" not in ended.stderr, support.words(ended)
    assert not (tmp_path / "runs").exists()
    (tmp_path / "runs" / "deep" / "output").mkdir(parents=True)
    assert support.mpibatch("run", job).returncode == 2
    assert list((tmp_path / "runs" / "deep" / "output").iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "words"), [row[1:] for row in WRONG[:4]], ids=[row[0] for row in WRONG[:4]]
)
def test_a_wrong_job_does_not_cost_the_finished_run(
    wrong: dict[str, Any], words: str, tmp_path: Path
) -> None:
    finished(tmp_path)
    before = support.tree(tmp_path / "output")
    make_wrong(tmp_path, wrong)

    for options in (["--fresh"], ["--set", "allow_reuse=false"]):
        ended = support.mpibatch("run", tmp_path / "job.yaml", *options)
        assert ended.returncode == 2, support.words(ended)
        assert support.tree(tmp_path / "output") == before


def test_prepare_makes_the_input(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, NAMES, items=0, prepare="prepare.py")
    (tmp_path / "prepare.py").write_text(
        "from pathlib import Path\nfile = Path('data/made')\nprint('making')\nfile.exists() or file.touch()\n"
    )

    for _ in range(2):
        ended = support.mpibatch("run", job)
        assert ended.returncode == 0, support.words(ended)
        assert "making" in ended.stderr
        assert support.rows(tmp_path / "output") == ["made"]
    assert "is reused" in ended.stdout


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, NAMES)
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "thesis.txt").write_text("mine")

    for options in ([], ["--fresh"]):
        ended = support.mpibatch("run", job, *options)
        assert ended.returncode == 2, support.words(ended)
        assert "is not empty and is not a run" in ended.stderr and "--output DIR" in ended.stderr
        assert support.tree(tmp_path / "output") == {"thesis.txt": b"mine"}


def test_a_file_in_place_of_the_folder_is_left_alone(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, NAMES)
    (tmp_path / "output").write_text("mine")

    ended = support.mpibatch("run", job)

    assert ended.returncode == 2, support.words(ended)
    assert f"{tmp_path / 'output'} is a file" in ended.stderr and "--output DIR" in ended.stderr
    assert (tmp_path / "output").read_text() == "mine"


UNREADABLE = [
    ("another version", lambda text: text.replace('"format":1', '"format":99'), 2, "format 99"),
    ("damaged", lambda text: text[:20], 74, "run.json"),
]


@pytest.mark.parametrize(
    ("spoil", "code", "words"), [row[1:] for row in UNREADABLE], ids=[r[0] for r in UNREADABLE]
)
def test_fresh_also_throws_away_what_cannot_be_read(
    spoil: Callable[[str], str], code: int, words: str, tmp_path: Path
) -> None:
    job = finished(tmp_path)
    file = tmp_path / "output" / ".mpibatch" / "run.json"
    file.write_text(spoil(file.read_text()))

    ended = support.mpibatch("run", job)
    assert ended.returncode == code, support.words(ended)
    assert words in ended.stderr and "--fresh" in ended.stderr
    ended = support.mpibatch("run", job, "--fresh")
    assert ended.returncode == 0, support.words(ended)


STANDS = support.NOTE + NAMES.replace("    return", "    note('called')\n    gate()\n    return")


def test_while_a_run_goes_on_a_second_start_is_refused(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, STANDS)
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "called" in support.notes(tmp_path), "run() is called")
        # Beside each other, as each waits for some seconds.
        others = [support.Started(tmp_path, "run", job, *options) for options in ([], ["--fresh"])]
        for other in others:
            with other:
                assert other.wait_to_end() == 2, other.said
            line = other.said.splitlines()[-1]
            assert f"is in use by process {run.process.pid} on " in line
            for told in (str(tmp_path / "output"), "mpibatch status", "mpibatch stop", "--output"):
                assert told in line
        support.open_gate(tmp_path)
        assert run.wait_to_end() == 0, run.said
    assert len(support.rows(tmp_path / "output")) == 6
    assert support.result(tmp_path / "output")["sessions"] == 1


def test_of_two_starts_at_once_in_a_new_folder_one_runs_unharmed(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, STANDS)
    with support.Started(tmp_path, "run", job) as one, support.Started(tmp_path, "run", job) as two:
        support.wait_until(lambda: [one.process.poll(), two.process.poll()].count(None) < 2, "one is refused")
        refused, other = (one, two) if one.process.poll() is not None else (two, one)
        assert refused.wait_to_end() == 2, refused.said
        assert re.search(f"is in use by process {other.process.pid} ", refused.said), refused.said
        support.open_gate(tmp_path)
        assert other.wait_to_end() == 0, other.said
    assert len(support.rows(tmp_path / "output")) == 6
    assert support.mpibatch("run", job).returncode == 0


def test_a_second_start_takes_over_as_soon_as_the_first_has_ended(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, STANDS)
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "called" in support.notes(tmp_path), "run() is called")
        with support.Started(tmp_path, "run", job, env=support.patient(tmp_path)) as other:
            other.wait_to_say(f"is in use by process {run.process.pid} ")
            run.process.kill()
            support.open_gate(tmp_path)
            assert other.wait_to_end() == 0, other.said
    assert len(support.rows(tmp_path / "output")) == 6
    assert support.result(tmp_path / "output")["sessions"] == 2


def test_a_run_whose_folder_another_start_has_taken_stops_and_writes_nothing_more(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, STANDS)
    private = tmp_path / "output" / ".mpibatch"
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "called" in support.notes(tmp_path), "run() is called")
        lease = private / "lease.json"
        lease.write_text(lease.read_text().replace(f'"pid":{run.process.pid}', '"pid":1'))
        before = support.tree(tmp_path / "output")
        assert run.wait_to_end() == 75, run.said
    assert "another start has taken over the run folder" in run.said and "process 1 on" in run.said
    after = support.tree(tmp_path / "output")
    assert not (tmp_path / "output" / "job_result.json").exists()
    assert after[".mpibatch/lease.json"] == before[".mpibatch/lease.json"]
    assert after[".mpibatch/session-0001.journal"] == before[".mpibatch/session-0001.journal"]
