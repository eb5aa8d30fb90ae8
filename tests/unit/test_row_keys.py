"""core.row_keys: formats of rows, names of their file, and which keys go together."""

from __future__ import annotations

from typing import Any

import pytest

from mpibatch.core.config import Job, parse_job
from mpibatch.core.settings import shown
from mpibatch.errors import ConfigError

SMALL: dict[str, Any] = {"entry_script": "score.py", "inputs": [{"files": "images/"}]}


def job_of(change: dict[str, Any]) -> Job:
    return parse_job(SMALL | change, job_file="/j/rows.yaml")


def test_the_file_is_named_by_the_format() -> None:
    for form, name in (
        ("text", "parallel_run_step.txt"),
        ("csv", "parallel_run_step.csv"),
        ("jsonl", "parallel_run_step.jsonl"),
        ("parquet", "parallel_run_step.parquet"),
        ("hdf5", "parallel_run_step.h5"),
    ):
        assert job_of({"append_row_format": form}).append_row_file_name == name
    assert job_of({}).append_row_file_name == "parallel_run_step.txt"


def test_input_keys_are_on_for_hdf5_unless_the_job_says_otherwise() -> None:
    forms = ("text", "csv", "jsonl", "parquet", "hdf5")
    assert [job_of({"append_row_format": form}).add_input_key for form in forms] == [False] * 4 + [True]
    assert all(job_of({"append_row_format": form, "add_input_key": True}).add_input_key for form in forms)
    assert job_of({"append_row_format": "hdf5", "add_input_key": None}).add_input_key
    assert not job_of({"append_row_format": "hdf5", "add_input_key": False}).add_input_key


SUITS = [
    ("text", ["a", "a.txt", "a.csv", "a.tsv", "a.jsonl", "a.json", "a.dat", "a.log", "h5", "parquet.txt"]),
    ("csv", ["a", "a.csv", "a.tsv", "a.txt", "A.CSV"]),
    ("jsonl", ["a", "a.jsonl", "a.ndjson", "a.json", "a.txt"]),
    ("parquet", ["a", "a.parquet", "a.pq", "a.snappy.parquet", "A.PARQUET"]),
    ("hdf5", ["a", "a.h5", "a.hdf5", "a.hdf", "a.he5"]),
]


@pytest.mark.parametrize(("form", "name"), [(form, name) for form, names in SUITS for name in names])
def test_names_that_suit_the_format(form: str, name: str) -> None:
    job = job_of({"append_row_format": form, "append_row_file_name": name})
    assert job.append_row_file_name == name


WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"append_row_format": "json"}, ["text, csv, jsonl, parquet, hdf5", "did you mean jsonl?"]),
    ({"append_row_format": "h5"}, ["did you mean hdf5?"]),
    ({"append_row_format": None}, ["append_row_format is empty", "text, csv"]),
    ({"add_input_key": "yes"}, ["add_input_key", "true or false"]),
    # A name that promises another format.
    *(
        (
            {"append_row_format": form, "append_row_file_name": name},
            [
                f"the name promises {promised}",
                f"append_row_format is {form}",
                f"append_row_format: {promised}",
            ],
        )
        for form, name, promised in (
            ("text", "rows.parquet", "parquet"),
            ("text", "rows.PQ", "parquet"),
            ("text", "rows.h5", "hdf5"),
            ("text", "rows.hdf5", "hdf5"),
            ("csv", "rows.jsonl", "jsonl"),
            ("csv", "rows.parquet", "parquet"),
            ("csv", "rows.h5", "hdf5"),
            ("jsonl", "rows.csv", "csv"),
            ("jsonl", "rows.parquet", "parquet"),
            ("parquet", "rows.txt", "text"),
            ("parquet", "rows.csv", "csv"),
            ("parquet", "rows.json", "jsonl"),
            ("parquet", "rows.h5", "hdf5"),
            ("hdf5", "rows.txt", "text"),
            ("hdf5", "rows.tsv", "csv"),
            ("hdf5", "rows.parquet", "parquet"),
        )
    ),
    ({"append_row_file_name": "rows.parquet"}, ["append_row_format is text", "like rows.txt"]),
    *(
        ({"append_row_format": form, "append_row_file_name": name}, ["uncompressed", f"like rows{ending}"])
        for form, ending in (("text", ".txt"), ("csv", ".csv"), ("parquet", ".parquet"), ("hdf5", ".h5"))
        for name in ("rows.gz", "rows.csv.bz2", "rows.xz", "rows.ZST", "rows.zip")
    ),
    ({"append_row_file_name": "rows.npy"}, ["append_row_format is text", "Formats are text, csv"]),
    ({"append_row_format": "parquet", "append_row_file_name": "rows.feather"}, ["like rows.parquet"]),
    ({"append_row_format": "csv", "append_row_file_name": "rows.xlsx"}, ["like rows.csv"]),
    ({"append_row_format": "csv", "append_row_file_name": "a/rows.csv"}, ["without a path"]),
    ({"append_row_format": "jsonl", "append_row_file_name": "failed_items.jsonl"}, ["another name"]),
    ({"append_row_format": "cvs", "append_row_file_name": "a/b"}, ["did you mean csv?", "without a path"]),
    # Settings that mean nothing.
    *(
        (
            {"append_row_format": form, "append_row": {"sep": ","}},
            ["append_row is {", "mean nothing", f"append_row_format: {form}"],
        )
        for form in ("jsonl", "parquet", "hdf5")
    ),
    *(
        (
            {"append_row_format": form, "order": "completion"},
            ['order is "completion"', "text and jsonl", f"append_row_format is {form}"],
        )
        for form in ("csv", "parquet", "hdf5")
    ),
    ({"output_action": "summary_only", "order": "completion"}, ["order", "summary_only writes none"]),
    ({"output_action": "summary_only", "add_input_key": True}, ["add_input_key", "summary_only writes none"]),
    *(
        (
            {"output_action": "summary_only", "append_row_format": form},
            [f'append_row_format is "{form}"', "summary_only writes none"],
        )
        for form in ("csv", "jsonl", "parquet", "hdf5")
    ),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=lambda value: shown(value)[:70])
def test_wrong_keys_are_named(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        job_of(change)
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    "change",
    [
        {"order": "completion"},
        {"order": "completion", "append_row_format": "jsonl"},
        {"append_row_format": "csv", "append_row": {"sep": ";"}},
        {"append_row_format": "parquet", "append_row": {}},
        {"append_row_format": "parquet", "append_row": None},
        {"output_action": "summary_only", "append_row_format": "text", "add_input_key": False},
        {"output_action": "summary_only", "order": "input"},
    ],
)
def test_keys_that_go_together(change: dict[str, Any]) -> None:
    job_of(change)


def test_a_wrong_format_is_told_once() -> None:
    with pytest.raises(ConfigError) as caught:
        job_of({"append_row_format": "cvs", "order": "completion", "append_row": {"sep": ","}})
    assert "things are wrong" not in str(caught.value)
