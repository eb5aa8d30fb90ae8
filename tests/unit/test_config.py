"""core.config and what it is made of: good jobs, wrong ones and their words, `--set`, warnings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpibatch.core.array_keys import ArrayKeys
from mpibatch.core.config import FilesInput, Job, ListInput, TableInput, job_warnings, parse_job
from mpibatch.core.environment_keys import Environment
from mpibatch.core.job_inputs import KINDS
from mpibatch.core.job_keys import LEGAL_KEYS
from mpibatch.core.places import contains, joined
from mpibatch.core.retry_backoff import RetryBackoff
from mpibatch.core.settings import shown
from mpibatch.core.slurm_keys import SlurmKeys
from mpibatch.core.tables import ByRows, BySize, CsvOptions
from mpibatch.errors import EXIT_USAGE, ConfigError

FILE = "/home/ann/jobs/digits.yaml"
SMALL: dict[Any, Any] = {"entry_script": "score.py", "inputs": [{"files": "images/"}]}
V2_TASK = {"code": "src", "entry_script": "score.py"}


def job_of(change: Mapping[Any, Any] | None = None, **options: Any) -> Job:
    options = {"job_file": FILE} | options
    return parse_job(SMALL | dict(change or {}), **options)


def words_of(change: Mapping[Any, Any], **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        job_of(change, **options)
    assert caught.value.exit_code == EXIT_USAGE
    return str(caught.value)


def test_the_smallest_job_takes_all_defaults() -> None:
    assert job_of() == Job(
        job_file=FILE,
        job_dir="/home/ann/jobs",
        name="digits",
        entry_script="/home/ann/jobs/score.py",
        inputs=[FilesInput(files=["/home/ann/jobs/images"], text="images/")],
        output="/home/ann/jobs/runs/digits",
    )


ALL_KEYS: dict[str, tuple[Any, Any]] = {
    "name": ("my-job", "my-job"),
    "entry_script": ("sub/score.py", "/home/ann/jobs/src/sub/score.py"),
    "source_directory": ("src", "/home/ann/jobs/src"),
    "prepare": ("prepare.py", "/home/ann/jobs/prepare.py"),
    "arguments": (["--n", 5, "${models.m}"], ["--n", "5", "/home/ann/jobs/model"]),
    "inputs": (
        [{"files": ["a", "b/*.png"]}, {"list": "paths.txt", "check": False}],
        [
            FilesInput(files=["/home/ann/jobs/a", "/home/ann/jobs/b/*.png"], text="a, b/*.png"),
            ListInput(list="/home/ann/jobs/paths.txt", check=False, text="paths.txt"),
        ],
    ),
    "side_inputs": ({"labels": "l.txt"}, {"labels": "/home/ann/jobs/l.txt"}),
    "models": ({"m": "model/"}, {"m": "/home/ann/jobs/model"}),
    "side_outputs": ({"a": None, "c": "c"}, {"a": "/home/ann/jobs/out/a", "c": "/home/ann/jobs/c"}),
    "mini_batch_size": (7, 7),
    "output": ("out", "/home/ann/jobs/out"),
    "output_action": ("summary_only", "summary_only"),
    "append_row_file_name": ("rows.csv", "rows.csv"),
    "append_row": ({"sep": ",", "header": True}, {"sep": ",", "header": True}),
    "order": ("input", "input"),
    "error_threshold": (0, 0),
    "mini_batch_error_threshold": (0, 0),
    "allowed_failed_percent": (2.5, 2.5),
    "run_invocation_timeout": (90, 90.0),
    "run_max_try": (1, 1),
    "init_timeout": (1.5, 1.5),
    "shutdown_timeout": (5, 5.0),
    "finalize_timeout": (50, 50.0),
    "term_grace_s": (0, 0.0),
    "retry_backoff": (
        {"initial": 2, "max": 30, "jitter": False},
        RetryBackoff(initial=2, factor=2, max=30, jitter=False),
    ),
    "isolate_failures": (False, False),
    "straggler_copies": (True, True),
    "progress_update_timeout": (600, 600.0),
    "heartbeat_timeout": (3, 3.0),
    "max_restarts": (0, 0),
    "time_limit": (3600, 3600.0),
    "drain_margin": (60, 60.0),
    "process_count_per_node": (2, 2),
    "node_count": (3, 3),
    "concurrency": (8, 8),
    "logging_level": ("DEBUG", "DEBUG"),
    "allow_reuse": (False, False),
    "gpus": ("share", "share"),
    "cpus": ("none", "none"),
    "tensorflow_v1": (True, True),
    "environment_variables": ({"A": 1, "B": ""}, {"A": "1", "B": ""}),
    "environment_keep": (["OMPI_*", "X"], ["OMPI_*", "X"]),
    "python": ("env/bin/python", "/home/ann/jobs/env/bin/python"),
    "environment": ({"modules": ["gcc"]}, Environment(modules=["gcc"])),
    "slurm": ({"partition": "long", "time": "1:30:00"}, SlurmKeys(partition="long", time="1:30:00")),
    "array": ({"elements": 4, "at_once": 2}, ArrayKeys(elements=4, at_once=2)),
}


TABLE_KEYS: dict[str, tuple[Any, Any]] = {
    "inputs": (
        [{"csv": "t/*.csv", "sep": ";"}],
        [
            TableInput(
                kind="csv", files=["/home/ann/jobs/t/*.csv"], text="t/*.csv", options=CsvOptions(sep=";")
            )
        ],
    ),
    "partition_keys": (["a", "b"], ["a", "b"]),
    "shuffle": (True, True),
    "append_row_format": ("csv", "csv"),
    "add_input_key": (True, True),
    "copy_output_to": ("a/b.csv", "/home/ann/jobs/a/b.csv"),
}
"""Keys that cannot stand beside those of `ALL_KEYS`."""


@pytest.mark.parametrize("table", [ALL_KEYS, TABLE_KEYS])
def test_every_key_arrives_in_its_field(table: dict[str, tuple[Any, Any]]) -> None:
    job = job_of({key: given for key, (given, _) in table.items()})
    assert {key: getattr(job, key) for key in table} == {key: want for key, (_, want) in table.items()}


OTHER_FIELDS = {
    "job_file",
    "job_dir",
    "entry_is_module",
    "table_size",
    "site",
    "site_keys",
    "keys_ignored",
    "remarks",
}


def test_every_key_and_field_is_in_the_tables_above() -> None:
    keys = {*ALL_KEYS, *TABLE_KEYS}
    assert keys == set(LEGAL_KEYS) - {"allowed_failed_count"}
    assert keys == {*Job.__struct_fields__} - OTHER_FIELDS


@pytest.mark.parametrize(
    ("change", "files", "table"),
    [
        ({}, 10, None),
        ({"mini_batch_size": 3}, 3, None),
        ({"inputs": [{"files": "a.tar", "members": "*"}], "mini_batch_size": 3}, 3, None),
        ({"inputs": [{"csv": "t"}]}, 10, BySize(bytes=2**20)),
        ({"inputs": [{"hdf5": "t"}], "mini_batch_size": "500 rows"}, 10, ByRows(rows=500)),
        ({"inputs": [{"jsonl": "t"}], "partition_keys": "a"}, 10, BySize(bytes=2**20)),
    ],
)
def test_mini_batch_size_is_of_files_or_of_tables(
    change: dict[Any, Any], files: int, table: BySize | ByRows | None
) -> None:
    job = job_of(change)
    assert (job.mini_batch_size, job.table_size) == (files, table)


def test_a_job_survives_encoding() -> None:
    job = job_of({key: given for key, (given, _) in ALL_KEYS.items()})
    assert msgspec.structs.replace(job) == job
    fields = {key: value for key, value in msgspec.to_builtins(job).items() if key != "inputs"}
    assert fields["run_invocation_timeout"] == 90.0


GOOD: list[tuple[dict[Any, Any], str, Any]] = [
    ({"allowed_failed_count": 3}, "mini_batch_error_threshold", 3),
    ({"mini_batch_error_threshold": -1}, "mini_batch_error_threshold", -1),
    ({"mini_batch_error_threshold": None}, "mini_batch_error_threshold", None),
    ({"error_threshold": 2**31 - 1}, "error_threshold", 2**31 - 1),
    ({"name": "a1z"}, "name", "a1z"),
    ({"name": "a" * 32}, "name", "a" * 32),
    ({"name": None}, "name", "digits"),
    ({"append_row_file_name": "a b\nc.txt"}, "append_row_file_name", "a b\nc.txt"),
    ({"output": "/scratch//x/./y/"}, "output", "/scratch/x/y"),
    ({"output": "../out"}, "output", "/home/ann/jobs/../out"),
    ({"order": "completion"}, "order", "completion"),
    ({"arguments": None}, "arguments", []),
    (
        {"arguments": ["--x", 1e-3, "1e-3", True, -5, ""]},
        "arguments",
        ["--x", "0.001", "1e-3", "True", "-5", ""],
    ),
    (
        {"arguments": ["$${job_dir}", "$HOME", "a${job_dir}b"]},
        "arguments",
        ["${job_dir}", "$HOME", "a/home/ann/jobsb"],
    ),
    ({"models": {"m": "/m"}, "arguments": ["${models.m}/x"]}, "arguments", ["/m/x"]),
    ({"side_inputs": {"x-y": "s"}, "arguments": ["${side_inputs.x-y}"]}, "arguments", ["/home/ann/jobs/s"]),
    ({"append_row": {"header": ["a"], "quoting": 0}}, "append_row", {"header": ["a"], "quoting": 0}),
    ({"append_row": {"lineterminator": "\r\n"}}, "append_row", {"lineterminator": "\r\n"}),
]


@pytest.mark.parametrize(("change", "field", "want"), GOOD)
def test_good_values(change: dict[Any, Any], field: str, want: Any) -> None:
    assert getattr(job_of(change), field) == want


WRONG: list[tuple[dict[Any, Any], list[str]]] = [
    # Unknown keys.
    ({"mini_batch_sise": 5}, ["mini_batch_sise is 5", "did you mean mini_batch_size?", "legal keys: name, "]),
    ({"Mini-Batch-Size": 5}, ["did you mean mini_batch_size?"]),
    ({5: "x"}, ['5 is "x": there is no such key']),
    ({"instance_count": 2}, ["here it is node_count"]),
    ({"max_concurrency_per_instance": 2}, ["here it is process_count_per_node"]),
    ({"max_retries": 2}, ["retries + 1: run_max_try: 3"]),
    ({"retry_settings": {"max_retries": 2}}, ["run_max_try", "run_invocation_timeout"]),
    ({"task": V2_TASK}, ["task.code is source_directory", "task.program_arguments is arguments"]),
    ({"gpus": -1}, ["gpus is -1", "share"]),
    ({"gpus": True}, ["gpus is true", "how many devices each worker gets"]),
    ({"gpus": "2"}, ["gpus", "write 2 without quotes"]),
    ({"gpus": "shared"}, ["gpus", "share (", "none ("]),
    ({"cpus": "bound"}, ["cpus", "bind, none"]),
    ({"tensorflow_v1": "yes"}, ["tensorflow_v1", "true or false"]),
    ({"partition": "long"}, ["here it is slurm.partition, like slurm: {partition: long}"]),
    ({"time": 10}, ["here it is slurm.time"]),
    ({"files": "images"}, ["belongs into inputs"]),
    ({"csv": "t"}, ["belongs into inputs", "inputs: [{csv:"]),
    ({"members": "*.png"}, ["belongs into an input"]),
    ({"dtype": "str"}, ["belongs into an input", "{csv: tables/*.csv, dtype:"]),
    ({"header": True}, ["of rows it belongs into append_row", "of tables into an input"]),
    ({"batch_size": 5}, ["here it is mini_batch_size"]),
    ({"output_format": "csv"}, ["here it is append_row_format"]),
    # Names and scripts.
    ({"name": "Digits"}, ['name is "Digits"', "3 to 32 of a-z", "like digits"]),
    ({"name": "ab"}, ["3 to 32"]),
    ({"name": "a" * 33}, ["3 to 32"]),
    ({"name": "abc-"}, ["the last not -", "like abc"]),
    ({"name": "1abc"}, ["the first a letter", "like abc"]),
    ({"name": "abc\n"}, ["3 to 32"]),
    ({"name": 123}, ["name is 123", "in quotes"]),
    ({"name": True}, ["name is true", "yes, no, on, off"]),
    ({"entry_script": None}, ["entry_script is empty"]),
    ({"entry_script": ""}, ["entry_script", "must not be empty"]),
    ({"entry_script": ["a"]}, ['entry_script is ["a"]', "must be text"]),
    ({"entry_script": "a\0b"}, ["NUL"]),
    ({"prepare": "\ud800"}, ["prepare", "half a surrogate pair"]),
    # Numbers.
    ({"mini_batch_size": "5"}, ['mini_batch_size is "5"', "write 5 without quotes"]),
    ({"mini_batch_size": "10MB"}, ["10MB", "for files it is a count"]),
    ({"mini_batch_size": "500 rows"}, ["for files it is a count"]),
    ({"mini_batch_size": 0}, ["mini_batch_size is 0", "from 1 to"]),
    ({"mini_batch_size": True}, ["mini_batch_size is true", "whole number"]),
    ({"mini_batch_size": 2.0}, ["mini_batch_size is 2.0", "whole number"]),
    ({"mini_batch_size": None}, ["mini_batch_size is empty", "whole number"]),
    ({"mini_batch_size": 10**5000}, ["a whole number of 16610 bits"]),
    (
        {"mini_batch_size": 5.5, "inputs": [{"csv": "t"}]},
        ["mini_batch_size is 5.5", "for tables it is bytes"],
    ),
    ({"mini_batch_size": None, "inputs": [{"csv": "t"}]}, ["mini_batch_size is empty", "for tables"]),
    ({"error_threshold": -2}, ["error_threshold is -2", "from -1 to 2147483647", "-1 ignores all"]),
    ({"error_threshold": 2**31}, ["2147483648", "from -1 to 2147483647"]),
    ({"error_threshold": "10%"}, ["write 10 without quotes and without a unit"]),
    ({"mini_batch_error_threshold": 1.5}, ["mini_batch_error_threshold is 1.5"]),
    ({"allowed_failed_count": -2}, ["allowed_failed_count is -2"]),
    (
        {"allowed_failed_count": 1, "mini_batch_error_threshold": 2},
        ["two names of one thing", "allowed_failed_count: 1", "mini_batch_error_threshold: 2"],
    ),
    ({"allowed_failed_percent": 101}, ["allowed_failed_percent is 101", "from 0 to 100"]),
    ({"run_invocation_timeout": 0}, ["run_invocation_timeout is 0", "seconds, above 0"]),
    ({"run_invocation_timeout": "60s"}, ["write 60 without quotes and without a unit"]),
    ({"run_invocation_timeout": float("nan")}, ["run_invocation_timeout is nan"]),
    ({"run_invocation_timeout": float("inf")}, ["run_invocation_timeout is inf"]),
    ({"run_max_try": 0}, ["run_max_try is 0", "from 1"]),
    ({"init_timeout": False}, ["init_timeout is false", "a number of seconds"]),
    ({"shutdown_timeout": 10**400}, ["shutdown_timeout is a whole number of 1329 bits"]),
    ({"term_grace_s": -1}, ["term_grace_s is -1", "from 0"]),
    ({"retry_backoff": 5}, ["retry_backoff is 5", "must be a mapping", "initial: 1"]),
    ({"retry_backoff": {"initial": -1}}, ["retry_backoff.initial is -1", "seconds"]),
    ({"retry_backoff": {"factor": 0.5}}, ["retry_backoff.factor is 0.5", "from 1"]),
    ({"retry_backoff": {"maximum": 5}}, ["retry_backoff.maximum", "did you mean max?"]),
    ({"retry_backoff": {"initial": 90}}, ["retry_backoff.initial is 90", "above max, which is 60"]),
    ({"isolate_failures": "yes"}, ["isolate_failures", "true or false"]),
    ({"progress_update_timeout": 0}, ["progress_update_timeout is 0", "above 0"]),
    ({"heartbeat_timeout": 0.5}, ["heartbeat_timeout is 0.5", "from 1"]),
    ({"max_restarts": -1}, ["max_restarts is -1", "restarts"]),
    ({"process_count_per_node": 0}, ["process_count_per_node is 0"]),
    ({"node_count": "2"}, ['node_count is "2"', "write 2 without quotes"]),
    # Choices.
    ({"logging_level": "info"}, ['logging_level is "info"', "WARNING, INFO, DEBUG", "did you mean INFO?"]),
    ({"output_action": "append_rows"}, ["append_row, summary_only", "did you mean append_row?"]),
    ({"order": "arrival"}, ['order is "arrival"', "input, completion"]),
    ({"order": "completion", "output_action": "summary_only"}, ["order", "summary_only writes none"]),
    ({"allow_reuse": "yes"}, ["allow_reuse", "true or false"]),
    # The output file and folder.
    ({"append_row_file_name": "a/b.txt"}, ["a/b.txt", "without a path"]),
    ({"append_row_file_name": ".."}, ["must be another name"]),
    ({"append_row_file_name": "x" * 201}, ["200 bytes"]),
    *(
        ({"append_row_file_name": name}, [name, "must be another name"])
        for name in ("failed_items.jsonl", "job_result.json", "logs", ".mpibatch")
    ),
    ({"output": "."}, ["output", "a folder of its own"]),
    ({"output": "runs/../.."}, ["output", "a folder of its own"]),
    ({"output": "/"}, ["output", "a folder of its own"]),
    ({"append_row": {"seperator": ","}}, ["append_row.seperator", "legal keys: sep"]),
    ({"append_row": {"delimiter": ","}}, ["did you mean sep?"]),
    ({"append_row": {"sep": "ab"}}, ['append_row.sep is "ab"', "one character"]),
    ({"append_row": {"sep": "\n"}}, ["append_row.sep", "end of a line"]),
    ({"append_row": {"na_rep": "\udcff"}}, ["append_row.na_rep", "must be UTF-8"]),
    ({"append_row": {"header": "yes"}}, ["append_row.header", "true, false or a list"]),
    ({"append_row": {"quoting": 4}}, ["append_row.quoting is 4", "from 0 to 3"]),
    ({"append_row": {"lineterminator": ";"}}, ["append_row.lineterminator"]),
    ({"append_row": ["sep"]}, ["append_row", "must be a mapping"]),
    *(
        ({"append_row": {name: "x"}}, [f"append_row.{name}", "cannot be set"])
        for name in ("path_or_buf", "mode", "compression", "encoding", "chunksize", "storage_options")
    ),
    # Inputs.
    ({"inputs": None}, ["inputs is missing"]),
    ({"inputs": []}, ["inputs is an empty list"]),
    ({"inputs": "images/"}, ['inputs is "images/"', "must be a list"]),
    ({"inputs": {"files": "x"}}, ["put - before it"]),
    ({"inputs": ["images/"]}, ['inputs.0 is "images/"', "{files:"]),
    ({"inputs": [{}]}, ["inputs.0", "must have one of files, list"]),
    ({"inputs": [{"file": "x"}]}, ["inputs.0", "did you mean files?"]),
    ({"inputs": [{"files": "x"}, {"files": "x", "list": "y"}]}, ["inputs.1 has files and list"]),
    ({"inputs": [{"files": 2024}]}, ["inputs.0.files is 2024", "in quotes"]),
    ({"inputs": [{"files": []}]}, ["inputs.0.files is an empty list"]),
    ({"inputs": [{"files": ["a", None]}]}, ["inputs.0.files.1 is empty"]),
    ({"inputs": [{"files": "x", "check": False}]}, ["inputs.0.check", "belongs to list"]),
    ({"inputs": [{"list": ["a", "b"]}]}, ["inputs.0.list", "for a list here use files"]),
    ({"inputs": [{"list": "a", "check": "no"}]}, ["inputs.0.check", "true or false"]),
    ({"inputs": [7]}, ["inputs.0 is 7", "must be a mapping"]),
    # Arguments and environment.
    ({"arguments": "--model x"}, ["arguments", "must be a list, each word an element of its own"]),
    ({"arguments": [None]}, ["arguments.0 is empty"]),
    ({"arguments": [["a"]]}, ['arguments.0 is ["a"]']),
    ({"arguments": ["${jobdir}"]}, ["${jobdir} stands for nothing", "did you mean job_dir?", "$${"]),
    ({"arguments": ["${models.x}"], "models": {"y": "m"}}, ["legal are ${job_dir}, ${models.y}"]),
    ({"arguments": ["${job_dir"]}, ["${ has no closing }"]),
    ({"side_inputs": {"a b": "x"}}, ['side_inputs."a b"', "no legal name"]),
    ({"side_inputs": ["x"]}, ["side_inputs", "must be a mapping"]),
    ({"models": {"m": None}}, ["models.m is empty"]),
    ({"environment_variables": {"A=B": "x"}}, ["environment_variables", "no legal name"]),
    ({"environment_variables": {"A": None}}, ["environment_variables.A is empty", '""']),
    ({"environment_variables": ["A=B"]}, ["must be a mapping"]),
    ({"environment_keep": ["*"]}, ["environment_keep", "OMPI_*"]),
    ({"environment_keep": "A"}, ["environment_keep", "must be a list"]),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=lambda value: shown(value)[:60])
def test_wrong_values_are_named(change: dict[Any, Any], words: list[str]) -> None:
    message = words_of(change)
    assert message.startswith("digits.yaml: ")
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize("key", ["entry_script", "inputs"])
def test_missing_keys_are_named(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} is missing"):
        parse_job({name: value for name, value in SMALL.items() if name != key}, job_file=FILE)


def test_all_that_is_wrong_is_told_at_once() -> None:
    message = words_of({"mini_batch_size": 0, "run_max_try": 0, "names": "x", "inputs": [{"files": 1}]})
    assert message.startswith("digits.yaml: 4 things are wrong\n- ")
    for key in ("mini_batch_size is 0", "run_max_try is 0", "names is", "inputs.0.files is 1"):
        assert key in message


def test_what_came_from_the_command_line_is_told() -> None:
    change = {"run_max_try": 0, "mini_batch_size": 0, "inputs": [{"files": 1}]}
    message = words_of(change, set_keys=["run_max_try", "inputs.0"])
    assert "run_max_try (from --set) is 0" in message
    assert "inputs.0.files (from --set) is 1" in message
    assert "mini_batch_size is 0" in message


@pytest.mark.parametrize("mapping", [[], "x", None, 5])
def test_what_is_no_mapping_is_refused(mapping: Any) -> None:
    with pytest.raises(ConfigError, match="a job file is a mapping"):
        parse_job(mapping, job_file=FILE)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("/j/Digits_Job.yaml", "digits-job"),
        ("/j/01 a.b.c.yml", "a-b-c"),
        ("/j/" + "x" * 40 + ".yaml", "x" * 32),
        ("/j/job", "job"),
        ("/j/ab.yaml", None),
        ("/j/数字.yaml", None),
    ],
)
def test_the_name_is_made_of_the_file_name(file: str, name: str | None) -> None:
    if name is not None:
        job = job_of(job_file=file)
        assert (job.name, job.output) == (name, f"/j/runs/{name}")
        return
    assert "name is missing, and none can be made" in words_of({}, job_file=file)


@pytest.mark.parametrize(
    ("script", "files", "want"),
    [
        ("score.py", (), ("/j/src/score.py", False)),
        ("sub/score", (), ("/j/src/sub/score", False)),
        ("/abs/score.py", (), ("/abs/score.py", False)),
        ("pkg.main", (), ("pkg.main", True)),
        ("pkg.main", ("/j/src/pkg.main",), ("/j/src/pkg.main", False)),
        ("main", (), ("main", True)),
        ("pkg..main", (), ("/j/src/pkg..main", False)),
    ],
)
def test_entry_script_is_a_file_or_a_module(
    script: str, files: tuple[str, ...], want: tuple[str, bool]
) -> None:
    change = {"entry_script": script, "source_directory": "src"}
    job = job_of(change, job_file="/j/abc.yaml", is_file=files.__contains__)
    assert (job.entry_script, job.entry_is_module) == want
    assert job.source_directory == "/j/src"


def test_a_module_without_source_directory_is_looked_for_in_the_jobs_folder() -> None:
    assert job_of({"entry_script": "pkg.main"}).source_directory == "/home/ann/jobs"
    assert job_of({"entry_script": "main.py"}).source_directory is None


def test_output_of_the_caller_wins_and_home_is_expanded() -> None:
    def expand(path: str) -> str:
        return path.replace("~", "/home/ann", 1) if path.startswith("~") else path

    assert job_of({"output": "x"}, output="/elsewhere/y").output == "/elsewhere/y"
    change = {"output": "~/x", "inputs": [{"files": "~/data"}], "models": {"m": "~/m"}}
    job = job_of(change, expand=expand)
    assert (job.output, job.models["m"]) == ("/home/ann/x", "/home/ann/m")
    assert job.inputs == [FilesInput(files=["/home/ann/data"], text="~/data")]


@pytest.mark.parametrize(
    ("files", "want"),
    [
        ("img/*.png", "/j[[]1]/img/*.png"),
        ("img/", "/j[1]/img"),
        ("img/*/", "/j[[]1]/img/*/"),
        ("/d/[ab]/./x?", "/d/[ab]/x?"),
        ("ünder\udcff\n.png", "/j[1]/ünder\udcff\n.png"),
    ],
)
def test_a_glob_takes_the_jobs_folder_literally(files: str, want: str) -> None:
    job = job_of({"inputs": [{"files": files}]}, job_file="/j[1]/abc.yaml")
    assert job.inputs == [FilesInput(files=[want], text=files)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--resource_monitor_interva", "5"], ["nearly the system's --resource_monitor_interval"]),
        (["--mini_batch_sise=5"], ["nearly the system's --mini_batch_size"]),
        (["--append_row_dataframe_headr", "True"], ["nearly the system's --append_row_dataframe_header"]),
        (["--mini_batch_size", 5], ["use the job file's key mini_batch_size"]),
        (["--error_threshold", 5, "--progress_update_timeout=5", "--allowed_failed_percent", "5.5"], []),
        (["--rank_mini_batch_count", 0], []),
        (["--rank-mini-batch-count", 2], ["nearly the system's --rank_mini_batch_count"]),
        (
            [
                "--copy_logs_to_parent",
                "True",
                "--task_overhead_timeout=9",
                "--x",
                "--task_overhead_timeout=1",
            ],
            ["arguments that set nothing here: --copy_logs_to_parent, --task_overhead_timeout"],
        ),
        (["--append_row_dataframe_header", "True"], []),
        (["--model", "x", "--output", "y", "--outputs", "z", "--mini_batch", "mini_batch_size"], []),
        (["--" + "x" * 1000], []),
    ],
)
def test_arguments_that_are_nearly_the_systems_get_a_warning(arguments: list[Any], words: list[str]) -> None:
    warnings = job_warnings(job_of({"arguments": arguments}))
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings))


def test_a_run_folder_inside_an_input_gets_a_warning() -> None:
    assert "inside the input" in job_warnings(job_of({"output": "images/run"}))[0]
    assert job_warnings(job_of({"output": "images2"})) == []


def test_a_run_folder_inside_tables_gets_a_warning_too() -> None:
    assert "inside the input" in job_warnings(job_of({"output": "t/run", "inputs": [{"csv": "t"}]}))[0]


def test_a_table_size_of_few_bytes_gets_a_warning() -> None:
    tables = {"inputs": [{"csv": "t"}]}
    (warning,) = job_warnings(job_of(tables | {"mini_batch_size": 10}))
    assert "mini_batch_size: 10 is 10 bytes" in warning
    assert 'mini_batch_size: "10 rows"' in warning
    assert job_warnings(job_of(tables | {"mini_batch_size": "10 rows"})) == []
    assert job_warnings(job_of(tables)) == []
    assert job_warnings(job_of({"mini_batch_size": 10})) == []


def test_paths_are_joined_as_text() -> None:
    assert joined("/a/b", "./c//d/") == "/a/b/c/d"
    assert joined("/a/b", "/c/../d") == "/c/../d"
    assert joined("/", ".") == "/"
    assert contains("/a/b", "/a/b/c")
    assert contains("/a/b", "/a/x/../b")
    assert not contains("/a/b", "/a/bc")


def test_endless_values_are_shown_shortly() -> None:
    endless: list[Any] = []
    endless += [endless] * 10
    assert shown(endless) == "[[...], [...], [...], [...], ...]"
    assert shown({"a": endless}) == '{"a": [...]}'
    assert len(shown("x" * 10_000)) < 100
    assert shown("a\nb\udcff") == r'"a\nb\udcff"'


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.binary(max_size=3)
    | st.dates()
    | st.sampled_from(["${job_dir}", "$${", "${", "append_row", "input", "x.y", "5 MB", "~", "/", "logs"])
)
INNER_KEYS = st.sampled_from(
    [*KINDS, "check", "members", "as", "sep", "header", "dtype", "names", "columns", "group", "mode", "x"]
) | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(INNER_KEYS | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(st.sampled_from(LEGAL_KEYS) | SCALARS, VALUES, max_size=6)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mapping=MAPPINGS, small=st.booleans(), file=st.text(st.characters(), max_size=12))
def test_any_mapping_becomes_a_job_or_a_config_error(mapping: dict[Any, Any], small: bool, file: str) -> None:
    try:
        job = parse_job((SMALL if small else {}) | mapping, job_file="/j/" + file.replace("/", ""))
    except ConfigError as error:
        assert str(error)
        return
    # What is accepted travels as a message, and its paths can be given to the system.
    msgspec.msgpack.encode(job.append_row)
    msgspec.msgpack.encode([one.options for one in job.inputs if isinstance(one, TableInput)])
    msgspec.msgpack.encode(job.partition_keys)
    assert job.output.startswith("/")
    for path in (job.output, job.entry_script, *job.models.values(), *job.arguments):
        assert b"\0" not in path.encode("utf-8", "surrogateescape")
    job_warnings(job)


BY_KEY = {"inputs": [{"csv": "t/*.csv"}], "partition_keys": ["a"]}


@pytest.mark.parametrize(
    ("change", "isolates"),
    [
        ({}, True),
        ({"output_action": "summary_only"}, False),
        ({"output_action": "summary_only", "isolate_failures": True}, True),
        ({"isolate_failures": None}, True),
        (BY_KEY, False),
        ({**BY_KEY, "isolate_failures": True}, True),
    ],
)
def test_failures_are_isolated_unless_items_belong_together(change: dict[Any, Any], isolates: bool) -> None:
    assert job_of(change).isolate_failures is isolates
