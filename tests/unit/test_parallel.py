"""Several mini-batches at a time: the key, and what may begin beside what."""

from __future__ import annotations

from typing import Any

import pytest

from mpibatch.core.config import parse_job
from mpibatch.core.grants import LEAST_IN_FLIGHT, MOST_CONCURRENT, beyond, may_begin
from mpibatch.errors import ConfigError


def job(**keys: Any) -> dict[str, Any]:
    return {"name": "test-job", "entry_script": "score.py", "inputs": [{"files": "data/"}], **keys}


@pytest.mark.parametrize("value", [1, 32, MOST_CONCURRENT])
def test_legal(value: int) -> None:
    assert parse_job(job(concurrency=value), job_file="/jobs/job.yaml").concurrency == value


def test_one_at_a_time_unless_told() -> None:
    assert parse_job(job(), job_file="/jobs/job.yaml").concurrency == 1
    assert parse_job(job(concurrency=None), job_file="/jobs/job.yaml").concurrency == 1


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", True, MOST_CONCURRENT + 1])
def test_illegal(value: Any) -> None:
    with pytest.raises(ConfigError, match="concurrency"):
        parse_job(job(concurrency=value), job_file="/jobs/job.yaml")


def test_not_with_copies() -> None:
    copied = [{"files": "data/", "mode": "download"}]
    with pytest.raises(
        ConfigError, match=r"concurrency is 2, but mode: download .* leave one of the two out"
    ):
        parse_job(job(inputs=copied, concurrency=2), job_file="/jobs/job.yaml")
    assert parse_job(job(inputs=copied, concurrency=1), job_file="/jobs/job.yaml").concurrency == 1


def test_wrong_inputs_are_told_of_alone() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_job(job(inputs=3, concurrency=2), job_file="/jobs/job.yaml")
    assert "concurrency" not in str(caught.value)


def test_two_wait_behind_those_that_run() -> None:
    assert beyond(1) == 0
    assert [beyond(count) + LEAST_IN_FLIGHT for count in (2, 32)] == [4, 34]


@pytest.mark.parametrize(
    ("alone", "running", "expected"),
    [
        (False, [], True),
        (True, [], True),
        (False, [False], True),
        (True, [False], False),
        (False, [True], False),
        (False, [False, False], False),
    ],
)
def test_may_begin(alone: bool, running: list[bool], expected: bool) -> None:
    assert may_begin(alone, running, 2) == expected
