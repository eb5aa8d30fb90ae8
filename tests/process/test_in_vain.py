"""What may be in vain is told of: sessions in which no mini-batch ends, and a run that --fresh would throw away."""

from __future__ import annotations

from pathlib import Path

import support

STANDS = (
    support.NOTE
    + """

def run(mini_batch):
    note("called")
    gate()
    return [str(item) for item in mini_batch]
"""
)


def test_where_no_mini_batch_ends_within_the_wall_time_it_is_said_what_to_change(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, STANDS, time_limit=2, drain_margin=1)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 75, support.words(ended)
    reason = support.result(tmp_path / "output")["reason"]
    assert "not one mini-batch has ended" in reason
    assert all(key in reason for key in ("mini_batch_size", "time_limit", "slurm"))
    assert "not one mini-batch has ended" in ended.stdout


def test_a_person_who_stops_a_run_early_is_told_nothing_of_that(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, STANDS, time_limit=3600, drain_margin=1)
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "called" in support.notes(tmp_path), "run() is called")
        (tmp_path / "output" / ".mpibatch" / "stop").write_text("now")
        assert run.wait_to_end() == 75, run.said
    assert "not one" not in support.result(tmp_path / "output")["reason"]


def test_a_run_that_ends_while_a_fresh_start_waits_for_it_is_kept(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, STANDS)
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "called" in support.notes(tmp_path), "run() is called")
        with support.Started(tmp_path, "run", job, "--fresh", env=support.patient(tmp_path)) as fresh:
            fresh.wait_to_say("for its end")
            support.open_gate(tmp_path)
            assert run.wait_to_end() == 0, run.said
            assert fresh.wait_to_end() == 2, fresh.said
        assert "has just been completed" in fresh.said
    assert len(support.rows(tmp_path / "output")) == 6
    assert support.result(tmp_path / "output")["sessions"] == 1
    again = support.mpibatch("run", job, "--fresh")
    assert again.returncode == 0, support.words(again)
