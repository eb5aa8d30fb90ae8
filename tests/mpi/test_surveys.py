"""Surveys of tables on the workers, before the work itself: real worlds of ranks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import support

from mpibatch.runtime.surveying.rounds import IN_PLACE

pytestmark = pytest.mark.mpi

ON_WORKERS = support.environment(**{IN_PLACE: "0"})
"""Rank 0 answers no question by itself."""

ROWS = 3000


def table(folder: Path, rows: int = ROWS) -> pd.DataFrame:
    data = pd.DataFrame({"id": range(rows), "text": [f'"{n}"\n, {n}' for n in range(rows)]})
    for number in range(3):
        part = data[number * rows // 3 : (number + 1) * rows // 3]
        part.to_csv(folder / f"part{number}.csv", index=False)
    return data


def expected(data: pd.DataFrame) -> str:
    return data.to_csv(sep=" ", header=False, index=False)


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_workers_survey_and_then_work(tmp_path: Path, ranks: int) -> None:
    data = table(tmp_path)
    job = support.make_job(
        tmp_path, "def run(df): return df", items=0, inputs=[{"csv": "*.csv"}], mini_batch_size="100 rows",
        process_count_per_node=2,
    )  # fmt: skip
    ended = support.mpibatch("run", job, ranks=ranks, env=ON_WORKERS)
    assert ended.returncode == 0, support.words(ended)
    assert "surveying the inputs on the workers" in ended.stderr
    assert (tmp_path / "output" / "rows.txt").read_text() == expected(data)
    assert support.result(tmp_path / "output")["items"]["succeeded"] == ROWS
    assert not list((tmp_path / "output" / ".mpibatch").glob("survey*"))


def test_a_world_that_is_started_here_surveys_too(tmp_path: Path) -> None:
    data = table(tmp_path)
    job = support.make_job(
        tmp_path, "def run(df): return df", items=0, inputs=[{"csv": "*.csv"}], mini_batch_size="2KB",
        process_count_per_node=2,
    )  # fmt: skip
    ended = support.mpibatch("run", job, env=ON_WORKERS)
    assert ended.returncode == 0, support.words(ended)
    assert (tmp_path / "output" / "rows.txt").read_text() == expected(data)


def test_after_a_kill_in_the_survey_the_next_start_completes(tmp_path: Path) -> None:
    data = table(tmp_path)
    job = support.make_job(
        tmp_path, "def run(df): return df", items=0, inputs=[{"csv": "*.csv"}], mini_batch_size="100 rows",
    )  # fmt: skip
    with support.Started(tmp_path, "run", job, ranks=2, env=ON_WORKERS) as run:
        run.wait_to_say("surveying the inputs on the workers")
        support.kill(run.process.pid)
    support.wait_until(lambda: not support.ranks_with(str(tmp_path)), "its ranks have ended")
    ended = support.mpibatch("run", job, ranks=2, env=ON_WORKERS)
    assert ended.returncode == 0, support.words(ended)
    assert (tmp_path / "output" / "rows.txt").read_text() == expected(data)
