"""core.argument_settings: arguments that set something, those that are wrong, and mini-batches without data."""

from __future__ import annotations

from typing import Any

import pytest

from mpibatch.core.argument_settings import options_among
from mpibatch.core.config import FilesInput, Job, job_warnings, parse_job
from mpibatch.core.job_inputs import CountInput
from mpibatch.errors import ConfigError

SMALL: dict[Any, Any] = {"entry_script": "score.py", "inputs": [{"files": "images/"}]}


def job_of(*arguments: Any, set_keys: tuple[str, ...] = (), **keys: Any) -> Job:
    mapping = SMALL | {"arguments": list(arguments)} | keys
    return parse_job(mapping, job_file="/jobs/night.yaml", set_keys=set_keys)


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--error_threshold", 5], "error_threshold", 5),
        (["--error_threshold", "5"], "error_threshold", 5),
        (["--error_threshold=-1"], "error_threshold", -1),
        (["--error_threshold", "1", "--model", "m", "--error_threshold", "2"], "error_threshold", 2),
        (["--mini_batch_error_threshold", "0"], "mini_batch_error_threshold", 0),
        (["--allowed_failed_count=7"], "mini_batch_error_threshold", 7),
        (["--allowed_failed_percent", "2.5"], "allowed_failed_percent", 2.5),
        (["--allowed_failed_percent", "30"], "allowed_failed_percent", 30.0),
        (["--progress_update_timeout", "600"], "progress_update_timeout", 600.0),
        (["--model", "--error_threshold=5"], "error_threshold", 5),
        (["error_threshold", "5", "-error_threshold", "6", "--error-threshold", "7"], "error_threshold", -1),
    ],
)
def test_an_argument_sets_its_key(arguments: list[Any], field: str, value: Any) -> None:
    job = job_of(*arguments)
    assert getattr(job, field) == value
    assert job.arguments == [str(one) for one in arguments], "the script gets them too"


def test_a_key_with_the_same_value_may_stand_beside_it() -> None:
    job = job_of(
        "--error_threshold", 5, "--progress_update_timeout", 9, error_threshold=5, progress_update_timeout=9
    )
    assert (job.error_threshold, job.progress_update_timeout) == (5, 9.0)
    assert job_of("--allowed_failed_count=2", mini_batch_error_threshold=2).mini_batch_error_threshold == 2


def test_the_command_line_s_key_replaces_it() -> None:
    assert (
        job_of("--error_threshold=5", error_threshold=6, set_keys=("error_threshold",)).error_threshold == 6
    )
    job = job_of("--allowed_failed_count=5", mini_batch_error_threshold=6, set_keys=("allowed_failed_count",))
    assert job.mini_batch_error_threshold == 6


@pytest.mark.parametrize(
    ("arguments", "keys", "words"),
    [
        (
            ["--error_threshold", "5"], {"error_threshold": 6},
            "error_threshold is 6, and the argument --error_threshold, which sets it too, is 5: leave one",
        ),
        (
            ["--allowed_failed_count=5"], {"mini_batch_error_threshold": 6},
            "mini_batch_error_threshold is 6, and the argument --allowed_failed_count,",
        ),
        (
            ["--allowed_failed_count=5", "--mini_batch_error_threshold", "6"], {},
            "arguments has --allowed_failed_count 5 and --mini_batch_error_threshold 6, which set the same thing",
        ),
        (["--error_threshold", "x"], {}, 'arguments has --error_threshold "x": must be a whole number from -1'),
        (["--error_threshold", "5.5"], {}, 'arguments has --error_threshold "5.5": must be a whole number'),
        (["--error_threshold=5s"], {}, "(items that may fail; -1 ignores all); write 5 and without a unit"),
        (["--error_threshold="], {}, 'arguments has --error_threshold "": must be a whole number'),
        (["--error_threshold", "--x"], {}, "arguments has --error_threshold without a value: a number must"),
        (["--allowed_failed_percent", "101"], {}, "must be a number of percent of the mini-batches, from 0 to 100"),
        (["--progress_update_timeout", "0"], {}, "must be a number of seconds, above 0"),
        (["--rank_mini_batch_count", "many"], {}, 'arguments has --rank_mini_batch_count "many": must be a whole'),
        (["--rank_mini_batch_count"], {}, "arguments has --rank_mini_batch_count without a value"),
    ],
)  # fmt: skip
def test_words_for_what_is_wrong(arguments: list[Any], keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        job_of(*arguments, **keys)
    assert words in str(caught.value)


def test_a_wrong_key_is_told_of_once() -> None:
    with pytest.raises(ConfigError) as caught:
        job_of("--error_threshold=5", error_threshold="many")
    assert str(caught.value).count("error_threshold") == 1


@pytest.mark.parametrize("arguments", [["--rank_mini_batch_count", 4], ["--rank_mini_batch_count=4"]])
def test_mini_batches_without_data(arguments: list[Any]) -> None:
    mapping = {"entry_script": "score.py", "arguments": arguments}
    job = parse_job(mapping, job_file="/jobs/night.yaml")
    assert (job.inputs, job.mini_batch_size, job.keys_ignored) == ([CountInput(count=4)], 1, [])
    assert job_warnings(job) == []
    job = job_of(*arguments, mini_batch_size=3, partition_keys=["a"], shuffle=True)
    assert (job.inputs, job.mini_batch_size, job.partition_keys) == ([CountInput(count=4)], 1, [])
    (warning,) = job_warnings(job)
    assert "keys are not read: inputs, mini_batch_size, partition_keys, shuffle" in warning


@pytest.mark.parametrize("count", [0, -3])
def test_no_mini_batches_without_data(count: int) -> None:
    job = job_of("--rank_mini_batch_count", count)
    assert job.inputs == [FilesInput(files=["/jobs/images"], text="images/")]


def test_options_among_arguments() -> None:
    found = options_among(["a", "--x", "1", "--x=", "--y", "2", "--x", "--x=a=b", "--x"], ("x",))
    assert list(found) == [("--x", "1"), ("--x", ""), ("--x", None), ("--x", "a=b"), ("--x", None)]


# Inputs that are counts


def test_counts_are_inputs() -> None:
    job = job_of(inputs=[{"count": 5}, {"count": 2**31 - 1}], mini_batch_size=3)
    assert job.inputs == [CountInput(count=5), CountInput(count=2**31 - 1)]
    assert [one.text for one in job.inputs] == ["count: 5", "count: 2147483647"]


@pytest.mark.parametrize(
    ("inputs", "keys", "words"),
    [
        ([{"count": 0}], {}, "inputs.0.count is 0: must be a whole number from 1 to 2147483647 (items, the numbers"),
        ([{"count": "7"}], {}, "write 7 without quotes"),
        ([{"count": True}], {}, "must be a whole number"),
        ([{"count": 5, "mode": "download"}], {}, "a count has no options"),
        ([{"count": 5, "files": "x"}], {}, "inputs.0 has files and count: one input has one kind"),
        ([{"files": "x"}, {"count": 5}], {}, "inputs.1 has a count, and inputs.0 has files"),
        ([{"count": 5}], {"partition_keys": ["a"]}, "partition_keys are for files: with a path format"),
        ([{"count": 5}], {"mini_batch_size": "5 rows"}, "bytes and rows are for tables"),
        ([{"count": 5}], {"count": 5}, "it belongs into inputs, like inputs: [{count: 1000}]"),
    ],
)  # fmt: skip
def test_counts_that_are_wrong(inputs: list[Any], keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        job_of(inputs=inputs, **keys)
    assert words in str(caught.value)
