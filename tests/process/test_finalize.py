"""`finalize()` of a script: once, on whole rows, after the last one; and what is kept if it fails or dies."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import NamedTuple

import pytest
import support
import yaml
from support import Started, make_job, mpibatch, notes, open_gate, result, rows, words

NAMES = [f"item{number:03d}" for number in range(6)]

SCRIPT = (
    support.NOTE
    + """
def init():
    note(f"init {os.getpid()}")

def run(mini_batch):
    names = [os.path.basename(item) for item in mini_batch]
    note(f"run {names[0]} {os.getpid()}")
    return names

def shutdown():
    note(f"shutdown {os.getpid()}")

def before(word):
    return sum(line.startswith(word) for line in open(sys.argv[sys.argv.index("--notes") + 1]))
"""
)
"""To be followed by a `finalize`. `before(word)`: how many notes so far begin with it."""

SUMS = (
    SCRIPT
    + """
def finalize(output_file):
    note(f"finalize {os.getpid()} {output_file}")
    print("printed in finalize()")
    with open(output_file) as file:
        lines = len(file.readlines())
    with open(output_file, "a") as file:
        file.write(f"{lines} in all\\n")
"""
)
ROWS = [*NAMES, "6 in all"]


def told(folder: Path, word: str) -> list[list[str]]:
    """The notes that begin with this word, in words."""
    return [line.split() for line in notes(folder) if line.split()[0] == word]


def change(job: Path, script: str | None = None, **keys: object) -> None:
    job.write_text(yaml.safe_dump({**yaml.safe_load(job.read_text()), **keys}))
    if script is not None:
        (job.parent / "script.py").write_text(script)


WORLDS = [
    pytest.param(None, 1, id="alone"),
    pytest.param(2, 2, id="rank 0 works too", marks=pytest.mark.mpi),
    pytest.param(3, 2, id="rank 0 only coordinates", marks=pytest.mark.mpi),
]


@pytest.mark.parametrize(("ranks", "workers"), WORLDS)
def test_it_is_called_once_after_all_else(ranks: int | None, workers: int, tmp_path: Path) -> None:
    job = make_job(tmp_path, SUMS, process_count_per_node=workers)
    output = tmp_path / "output"

    ended = mpibatch("run", job, ranks=ranks)

    assert ended.returncode == 0, words(ended)
    assert rows(output) == ROWS
    ((_, pid, file),) = told(tmp_path, "finalize")
    assert Path(file).name == "rows.txt" and Path(file) != output / "rows.txt"
    assert [line.split()[0] for line in notes(tmp_path)][-3:] == ["init", "finalize", "shutdown"]
    ran = [one[2] for one in told(tmp_path, "run")]
    shut = [one[1] for one in told(tmp_path, "shutdown")]
    assert shut[-1] == pid and len(set(shut)) == len(shut)
    # A processor whose `init()` is still going on when all is done has nothing to shut down.
    assert len(ran) == 6 and set(ran) <= set(shut[:-1])
    assert "finalize() of the script begins" in ended.stderr and "finalize() has ended" in ended.stderr
    (printed,) = (output / "logs" / "user" / "stdout").rglob("finalize.stdout.txt")
    assert printed.read_text() == "printed in finalize()\n"
    assert not (output / ".mpibatch" / "finalize").exists()
    assert result(output)["rows"] == 6 and result(output)["output"] == str(output / "rows.txt")


ASYNC = (
    SCRIPT
    + """
from mpibatch import EntryScript

async def finalize(PARAMETER):
    import asyncio
    await asyncio.sleep(0)
    EntryScript().logger.info("logged in finalize()")
    note("finalize")
"""
)


@pytest.mark.parametrize("parameter", ["output_file", ""])
def test_it_may_be_async_and_has_a_log_of_its_own(parameter: str, tmp_path: Path) -> None:
    job = make_job(tmp_path, ASYNC.replace("PARAMETER", parameter))

    ended = mpibatch("run", job)

    assert ended.returncode == 0, words(ended)
    assert len(told(tmp_path, "finalize")) == 1
    logs = tmp_path / "output" / "logs" / "user" / "entry_script_log"
    assert "logged in finalize()" in next(logs.rglob("finalize.log.txt")).read_text()


FRAMES = """
import os, sys
import pandas as pd

def run(mini_batch):
    return pd.DataFrame({"number": [int(open(item).read()) for item in mini_batch]})

def finalize(output_file):
    beside = os.path.join(os.path.dirname(output_file), "sum.txt")
    open(beside, "w").write(str(total(output_file)))
"""
READERS = {
    "csv": 'def total(file): return pd.read_csv(file)["number"].sum()',
    "parquet": 'def total(file): return pd.read_parquet(file)["number"].sum()',
    "hdf5": 'import h5py\ndef total(file): return h5py.File(file)["number"][:].sum()',
}


@pytest.mark.parametrize("kind", READERS)
def test_each_format_can_be_read_and_what_is_left_beside_it_comes_along(kind: str, tmp_path: Path) -> None:
    name = f"rows.{'h5' if kind == 'hdf5' else kind}"
    script = FRAMES.replace("pd.DataFrame(", "dict(") if kind == "hdf5" else FRAMES
    job = make_job(tmp_path, script + READERS[kind], append_row_format=kind, append_row_file_name=name)

    ended = mpibatch("run", job)

    assert ended.returncode == 0, words(ended)
    assert (tmp_path / "output" / "sum.txt").read_text() == "15"
    assert (tmp_path / "output" / name).stat().st_size


PARAMETERS = [
    ("output_file", "output_file", "None"),
    ("", "5", "5"),
    ("*all", "all", "(None,)"),
    ("file=7", "file", "None"),
]


@pytest.mark.parametrize(("parameters", "given", "seen"), PARAMETERS)
def test_without_rows_there_is_no_file(parameters: str, given: str, seen: str, tmp_path: Path) -> None:
    script = f"{SCRIPT}\ndef finalize({parameters}): note(f'finalize {{{given}!r}}')\n"
    job = make_job(tmp_path, script, output_action="summary_only")

    ended = mpibatch("run", job)

    assert ended.returncode == 0, words(ended)
    assert told(tmp_path, "finalize") == [["finalize", seen]]


def test_what_needs_more_than_a_file_is_refused_before_any_work(tmp_path: Path) -> None:
    job = make_job(tmp_path, SCRIPT + "\ndef finalize(file, context): pass\n")

    ended = mpibatch("run", job)

    assert ended.returncode == 2, words(ended)
    assert "`finalize` of" in ended.stderr + ended.stdout and "finalize(output_file)" in ended.stdout
    assert not told(tmp_path, "run")


DAMAGES = """
    note("finalize")
    lines = open(output_file).read().split()
    if before("finalize") == 1:
        HOW
        sys.stdout.flush()
        os.kill(os.getpid(), 9)
    note("saw " + " ".join(lines))
"""
HOWS = {
    "cut": 'os.truncate(output_file, 3); open(output_file + ".more", "w")',
    "replaced": 'open(output_file + ".x", "w").write("x"); os.replace(output_file + ".x", output_file)',
    "removed": "os.remove(output_file)",
    "kept": 'open(output_file + ".more", "w")',
}


@pytest.mark.parametrize("how", HOWS)
def test_a_killed_try_is_followed_by_another_on_whole_rows(how: str, tmp_path: Path) -> None:
    job = make_job(tmp_path, SCRIPT + "\ndef finalize(output_file):" + DAMAGES.replace("HOW", HOWS[how]))

    ended = mpibatch("run", job)

    assert ended.returncode == 0, words(ended)
    assert told(tmp_path, "saw") == [["saw", *NAMES]]
    assert rows(tmp_path / "output") == NAMES
    assert len(told(tmp_path, "finalize")) == 2 and len(told(tmp_path, "run")) == 6
    assert "it died: SIGKILL" in ended.stderr and "try 1 of 3" in ended.stderr
    assert not (tmp_path / "output" / "rows.txt.more").exists()


HELD = SUMS.replace(
    "    print(",
    "    if before('finalize') == 1:\n        os.truncate(output_file, 3)\n        gate()\n    print(",
)


@pytest.mark.parametrize(("ranks", "workers"), WORLDS)
def test_a_run_killed_meanwhile_calls_it_again_and_nothing_else(
    ranks: int | None, workers: int, tmp_path: Path
) -> None:
    job = make_job(tmp_path, HELD, process_count_per_node=workers)
    output = tmp_path / "output"
    with Started(tmp_path, "run", job, ranks=ranks) as run:
        run.wait_until(lambda: bool(told(tmp_path, "finalize")), "finalize() is called")
        assert not (output / "rows.txt").exists() and not (output / "job_result.json").exists()
        world = support.ranks_with(str(job)).values()
        for pid in [run.process.pid, *world]:
            with contextlib.suppress(ProcessLookupError):  # Its launcher has taken it along.
                support.kill(pid)
    support.wait_until(lambda: not support.processes_with(str(tmp_path)), "all have died")
    assert not (output / "rows.txt").exists()

    ended = mpibatch("run", job, ranks=ranks)

    assert ended.returncode == 0, words(ended)
    assert rows(output) == ROWS
    assert len(told(tmp_path, "run")) == 6 and len(told(tmp_path, "finalize")) == 2
    assert result(output)["sessions"] == 2 and result(output)["items"]["succeeded"] == 6
    assert not (output / ".mpibatch" / "finalize").exists()


class Failure(NamedTuple):
    body: str
    """Of `finalize`."""
    words: str
    log: str
    """Part of the log's name that the first cause names."""
    init: str = ""


FAILURES = {
    "raises": Failure("raise ValueError('no sum')", "finalize() raised ValueError: no sum", "error"),
    "exits": Failure("sys.exit(7)", "finalize() raised SystemExit: 7", "error"),
    "dies": Failure("os._exit(9)", "finalize() failed: Died: it died: exit code 9", "stderr"),
    "hangs": Failure("gate()", "over finalize_timeout: 2 s", "stderr"),
    "in init()": Failure("pass", "RuntimeError: late (while it loaded the script or in init()", "error",
                         "    if before('run') == 6: raise RuntimeError('late')"),
    "leaves a folder": Failure("os.mkdir(output_file + '.d')", "has left 'rows.txt.d' beside the rows", "stdout"),
    "leaves a name of ours": Failure(
        "open(os.path.dirname(output_file) + '/logs', 'w')", "the run folder has its own logs", "stdout"
    ),
    "removes the folder": Failure(
        "import shutil; shutil.rmtree(os.path.dirname(output_file))", "has removed the folder", "stdout"
    ),
}  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES.values(), ids=list(FAILURES))
def test_where_it_fails_the_run_has_failed_and_keeps_its_items(failure: Failure, tmp_path: Path) -> None:
    script = SCRIPT.replace("def run(", f"{failure.init}\n\ndef run(")
    finalize = f"\ndef finalize(output_file):\n    note('finalize')\n    {failure.body}\n"
    job = make_job(
        tmp_path,
        script + finalize,
        run_max_try=2,
        finalize_timeout=2 if "timeout" in failure.words else 600,
    )
    output = tmp_path / "output"

    ended = mpibatch("run", job)

    assert ended.returncode == 3, words(ended)
    assert len(told(tmp_path, "finalize")) == (0 if failure.init else 2)
    how = result(output)
    assert how["verdict"] == "failed" and how["items"] == {"total": 6, "succeeded": 6, "failed": 0}
    assert failure.words in how["reason"] and failure.words in how["first_cause"]["error"]
    assert failure.log in how["first_cause"]["log"] and Path(how["first_cause"]["log"]).name.startswith(
        "finalize"
    )
    assert failure.words in ended.stdout.splitlines()[-1], "the first cause is the last that is said"
    assert how["output"] is None and not (output / "rows.txt").exists()
    assert not (output / ".mpibatch" / "finalize").exists()

    change(job, SUMS)
    again = mpibatch("run", job)

    assert again.returncode == 0, words(again)
    assert rows(output) == ROWS and len(told(tmp_path, "run")) == 6


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_asked_to_stop_it_is_killed_and_called_again_at_the_next_start(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    job = make_job(tmp_path, HELD)
    output = tmp_path / "output"
    with Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: bool(told(tmp_path, "finalize")), "finalize() is called")
        run.process.send_signal(number)
        assert run.wait_to_end() == code, run.said
    assert (
        result(output)["verdict"] == "stopped" and "before finalize() had ended" in result(output)["reason"]
    )
    assert not (output / "rows.txt").exists()

    ended = mpibatch("run", job)

    assert ended.returncode == 0, words(ended)
    assert rows(output) == ROWS and len(told(tmp_path, "run")) == 6


def test_status_tells_of_it(tmp_path: Path) -> None:
    job = make_job(tmp_path, HELD)
    with Started(tmp_path, "run", job) as run:
        run.wait_until(
            lambda: "finalize() is running" in mpibatch("status", tmp_path / "output").stdout, "status tells"
        )
        open_gate(tmp_path)
        assert run.wait_to_end() == 0, run.said


FAILS_ONCE = SUMS.replace(
    "    return names\n",
    """
    if names[0] == 'item003' and not os.path.exists(FOLDER + '/gate'):
        raise ValueError
    return names
""",
)


def test_not_where_the_run_is_not_complete_nor_where_it_is_reused_but_anew_for_new_rows(
    tmp_path: Path,
) -> None:
    job = make_job(tmp_path, FAILS_ONCE, run_max_try=1, error_threshold=0)
    output = tmp_path / "output"

    assert mpibatch("run", job).returncode == 3
    assert not told(tmp_path, "finalize")

    change(job, error_threshold=1)
    assert mpibatch("run", job).returncode == 0
    assert rows(output) == [*NAMES[:3], *NAMES[4:], "5 in all"]
    assert mpibatch("run", job).returncode == 0
    assert len(told(tmp_path, "finalize")) == 1, "the second start has reused the run"

    open_gate(tmp_path)
    ended = mpibatch("run", job, "--only-failed")
    assert ended.returncode == 0, words(ended)
    assert rows(output) == ROWS and len(told(tmp_path, "finalize")) == 2


def test_rows_that_it_removes_are_no_output(tmp_path: Path) -> None:
    job = make_job(tmp_path, SCRIPT + "\ndef finalize(output_file): os.remove(output_file)\n")
    output = tmp_path / "output"

    ended = mpibatch("run", job)

    assert ended.returncode == 0, words(ended)
    assert result(output)["output"] is None and not (output / "rows.txt").exists()
    assert "has removed the file of its 6 rows" in ended.stdout
    assert "is reused" in mpibatch("run", job).stdout
    assert len(told(tmp_path, "run")) == 6
