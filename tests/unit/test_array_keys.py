"""The job file's key `array`."""

from __future__ import annotations

from typing import Any

import pytest

from mpibatch.core.array_keys import ArrayKeys, read_array
from mpibatch.core.settings import Problems


def read(value: Any) -> tuple[ArrayKeys, str]:
    problems = Problems("job.yaml")
    return read_array(problems, value), "\n".join(problems.lines)


@pytest.mark.parametrize(
    ("value", "read_as"),
    [
        (10, ArrayKeys(elements=10)),
        (False, ArrayKeys(off=True)),
        ({}, ArrayKeys()),
        ({"elements": 3, "at_once": 2}, ArrayKeys(elements=3, at_once=2)),
        ({"merge": "manual"}, ArrayKeys(merge="manual")),
    ],
)
def test_legal_values(value: Any, read_as: ArrayKeys) -> None:
    assert read(value) == (read_as, "")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, ["array is true", "a number of elements, like 10", "or false"]),
        ("0-9", ['array is "0-9"', "{elements: 10"]),
        (0, ["array is 0", "from 1 to 10000"]),
        (10_001, ["array is 10001", "from 1 to 10000"]),
        ({"element": 3}, ["array.element is 3", "did you mean elements?"]),
        ({"elements": True}, ["array.elements is true"]),
        ({"merge": "later"}, ['array.merge is "later"', "auto", "manual"]),
        ({"at_once": 0}, ["array.at_once is 0"]),
        ({"at_once": 4}, ["array.at_once is 4, but array.elements is missing", "--array=0-9%4"]),
    ],
)
def test_what_is_wrong_is_named(value: Any, words: list[str]) -> None:
    _, told = read(value)

    for word in words:
        assert word in told
