"""Questions that rank 0 answers: in its own process, or in one beside it that may die."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import deadly
import pandas as pd
import pytest
import support

from mpibatch.core.tables import BySize, CsvOptions
from mpibatch.errors import StoppedError
from mpibatch.inputs.csv_cuts import NORMAL, way_of
from mpibatch.inputs.csv_questions import Look, One
from mpibatch.inputs.csv_survey import dialect_of
from mpibatch.inputs.hdf5_contents import Datasets
from mpibatch.inputs.parquet_footers import Footers, answer
from mpibatch.runtime.surveying import here as module
from mpibatch.runtime.surveying.here import Here, Late


def parquet(path: Path, rows: int = 3) -> bytes:
    pd.DataFrame({"id": range(rows)}).to_parquet(path)
    return os.fsencode(path)


def beside(here: Here) -> int:
    """The process id of the process beside this one."""
    assert here._child is not None
    return here._child._process.pid


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_one_process_answers_all_that_may_crash(tmp_path: Path) -> None:
    files = [parquet(tmp_path / f"{rows}.parquet", rows) for rows in (3, 1, 2)]
    here = Here()
    questions = [Footers(files, None), Footers(files[::-1], ["id"])]
    assert here.answer(questions[0]) == answer(questions[0])
    first = beside(here)
    assert here.ask(questions) == [answer(one) for one in questions] and beside(here) == first
    text = tmp_path / "a.h5"
    text.write_text("This is no table.")
    (contents,) = here.answer(Datasets([os.fsencode(text)], "/", None)).contents
    assert "signature" in contents.error and beside(here) == first


def test_it_ends_with_who_has_asked(tmp_path: Path) -> None:
    here = Here()
    here.answer(Footers([parquet(tmp_path / "a.parquet")], None))
    pid = beside(here)
    del here
    gc.collect()
    assert not Path(f"/proc/{pid}").exists(), "it was ended, and is no zombie"


def test_files_of_lines_need_no_process(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n2\n")
    way = way_of(dialect_of(CsvOptions(), ""), BySize(100), mark=True, encoding=None, limits=NORMAL)
    here = Here()
    (seen,) = here.answer(Look([One(os.fsencode(tmp_path / "a.csv"), 7, True, False)], way)).files
    assert seen.header == b"id\n" and here._child is None


def test_a_file_that_kills_its_reader_cannot_be_read(tmp_path: Path) -> None:
    good = [parquet(tmp_path / f"{rows}.parquet", rows) for rows in (3, 1)]
    bad = tmp_path / "bad.parquet"
    deadly.deadly_parquet(bad)
    here = Here()
    question = Footers([good[0], os.fsencode(bad), good[1], os.fsencode(bad)], None)
    found = here.answer(question).footers
    assert [one.error for one in found] == [None, "its reader died: SIGABRT"] * 2
    assert [found[0], found[2]] == answer(Footers(good, None)).footers
    assert here.answer(Footers(good, None)) == answer(Footers(good, None)), "the next question is answered"


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (
            "signal.signal(11, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGSEGV)",
            "its reader died: SIGSEGV",
        ),
        ("os.kill(os.getpid(), signal.SIGKILL)", "its reader died: SIGKILL (not sent by mpibatch"),
        ("os._exit(3)", "its reader died: exit code 3"),
        ("raise TypeError('a bytes-like\\n object')", "TypeError: a bytes-like object"),
        ("raise MemoryError", "MemoryError: "),
        (
            "'\\xff'.encode().decode('utf-8'); b'\\xff'.decode()",
            "UnicodeDecodeError: 'utf-8' codec can't decode",
        ),
    ],
)
def test_whatever_a_reader_does_is_told_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deed: str, words: str
) -> None:
    set_variables(monkeypatch, deadly.deadly_reader(tmp_path / "site", deed))
    good, bad = parquet(tmp_path / "a.parquet"), parquet(tmp_path / "deadly.parquet")
    found = Here().answer(Footers([good, bad, good], None)).footers
    assert [found[0], found[2]] == answer(Footers([good, good], None)).footers
    assert found[1].error is not None and found[1].error.startswith(words)


def test_what_does_not_come_back_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, deadly.deadly_reader(tmp_path / "site", "time.sleep(1000)"))
    good, bad = parquet(tmp_path / "a.parquet"), parquet(tmp_path / "deadly.parquet")
    here = Here()
    here.answer(Footers([good], None))
    pid = beside(here)
    with pytest.raises(Late):
        here.answer(Footers([bad], None), 0.1)
    assert not Path(f"/proc/{pid}").exists()
    assert here.answer(Footers([good], None), 60) == answer(Footers([good], None))


def test_a_signal_that_asks_to_stop_is_heard_while_a_reader_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(number: int, frame: object) -> None:
        raise StoppedError("got SIGALRM")

    deed = f"open({str(tmp_path / 'began')!r}, 'w'); os.kill(os.getppid(), signal.SIGALRM); time.sleep(1000)"
    set_variables(monkeypatch, deadly.deadly_reader(tmp_path / "site", deed))
    bad = parquet(tmp_path / "deadly.parquet")
    here = Here()
    before = signal.signal(signal.SIGALRM, stop)
    try:
        with pytest.raises(StoppedError):
            here.answer(Footers([bad], None))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (tmp_path / "began").exists() and here._child is None
    assert not support.processes_with(str(tmp_path / "site"))


def test_where_no_process_can_be_started_rank_0_looks_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = Footers([parquet(tmp_path / "a.parquet")], None)
    monkeypatch.setattr(module, "interpreter_command", lambda python, call: ["/nowhere/python"])
    assert Here().answer(question) == answer(question)
    monkeypatch.setattr(module, "interpreter_command", lambda python, call: [sys.executable, "-c", "exit(1)"])
    assert Here().answer(question) == answer(question)


def test_it_does_not_outlive_a_killed_rank_0(tmp_path: Path) -> None:
    """Not even in a library that never comes back."""
    bad = parquet(tmp_path / "deadly.parquet")
    variables = deadly.deadly_reader(
        tmp_path / "site", f"open({str(tmp_path / 'began')!r}, 'w'); time.sleep(1000)"
    )
    call = (
        "from mpibatch.inputs.parquet_footers import Footers\n"
        f"from mpibatch.runtime.surveying.here import Here\nHere().answer(Footers([{bad!r}], None))"
    )
    rank = subprocess.Popen([sys.executable, "-c", call], env=variables)
    try:
        support.wait_until((tmp_path / "began").exists, "the file is looked at")
    finally:
        rank.kill()
        rank.wait()
    support.wait_until(lambda: not support.processes_with(str(tmp_path / "site")), "its process has ended")
