"""core.partition_keys: keys instead of sizes, for path formats and for tables."""

from __future__ import annotations

from typing import Any

import pytest

from mpibatch.core.config import FilesInput, Job, parse_job
from mpibatch.core.path_format import parse
from mpibatch.core.settings import shown
from mpibatch.errors import ConfigError

PATH = "data/{user}/{season}/{genre}.wav"
CSV = [{"csv": "t/*.csv"}]


def job_of(change: dict[str, Any], job_file: str = "/j/keys.yaml") -> Job:
    return parse_job({"entry_script": "score.py", "inputs": [{"files": PATH}]} | change, job_file=job_file)


@pytest.mark.parametrize(
    ("change", "keys", "shuffle"),
    [
        ({"partition_keys": ["user"]}, ["user"], False),
        ({"partition_keys": "user"}, ["user"], False),
        ({"partition_keys": ["genre", "user"]}, ["genre", "user"], False),
        ({"partition_keys": ["user"], "shuffle": False}, ["user"], False),
        ({"partition_keys": None}, [], False),
        ({"shuffle": False}, [], False),
        ({"partition_keys": ["a"], "inputs": CSV}, ["a"], False),
        ({"partition_keys": ["a"], "shuffle": True, "inputs": CSV}, ["a"], True),
        ({"partition_keys": None, "mini_batch_size": 5}, [], False),
    ],
)
def test_good_keys(change: dict[str, Any], keys: list[str], shuffle: bool) -> None:
    job = job_of(change)
    assert (job.partition_keys, job.shuffle) == (keys, shuffle)


def test_a_path_format_becomes_absolute_and_keeps_its_fields() -> None:
    (one,) = job_of({"partition_keys": ["user"]}).inputs
    assert one == FilesInput(files=["/j/data/{user}/{season}/{genre}.wav"], text=PATH)
    several = {"inputs": [{"files": ["a/{user}.wav", "/b/{user}/"]}], "partition_keys": ["user"]}
    (one,) = job_of(several).inputs
    assert one == FilesInput(files=["/j/a/{user}.wav", "/b/{user}/"], text="a/{user}.wav, /b/{user}/")


def test_the_jobs_folder_is_taken_literally() -> None:
    (one,) = job_of({"partition_keys": ["user"]}, job_file="/j{x}/*[1]/keys.yaml").inputs
    assert isinstance(one, FilesInput)
    found = parse(one.files[0])
    assert found.fields == ("user", "season", "genre")
    assert found.pattern == "/j{x}/[*][[]1]/data/*/*/*.wav"
    assert found.match(b"/j{x}/*[1]/data/ann/w/jazz.wav") == {"user": "ann", "season": "w", "genre": "jazz"}
    assert found.match(b"/jx/*[1]/data/ann/w/jazz.wav") is None


def test_braces_without_keys_are_ordinary_characters() -> None:
    (one,) = job_of({"inputs": [{"files": "a/{user}/{{x"}]}).inputs
    assert one == FilesInput(files=["/j/a/{user}/{{x"], text="a/{user}/{{x")


WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"partition_keys": ["user"], "mini_batch_size": "x"}, ['mini_batch_size is "x"', "leave one"]),
    ({"partition_keys": []}, ["partition_keys is []", "at least one", "leave it out"]),
    ({"partition_keys": ["user", "user"]}, ['"user" stands twice']),
    ({"partition_keys": [5]}, ["5 in it must be text"]),
    ({"partition_keys": {"user": 1}}, ["partition_keys is {", "must be text"]),
    ({"partition_keys": ["\udcff"]}, ["must be UTF-8"]),
    (
        {"partition_keys": ["user"], "mini_batch_size": 5},
        ["mini_batch_size is 5", "partition_keys", "leave one"],
    ),
    (
        {"partition_keys": ["a"], "mini_batch_size": "1MB", "inputs": CSV},
        ['mini_batch_size is "1MB"', "leave one"],
    ),
    (
        {"partition_keys": ["usr"]},
        ["inputs.0.files is", "no field {usr}", "did you mean user?", "{season}, {genre}"],
    ),
    ({"partition_keys": ["x"]}, ["no field {x}", "it has {user}"]),
    (
        {"partition_keys": ["user"], "inputs": [{"files": ["a/{user}", "b/{person}"]}]},
        ["inputs.0.files.1 is", "no field {user}", "it has {person}"],
    ),
    (
        {"partition_keys": ["user"], "inputs": [{"files": PATH}, {"files": "images/"}]},
        ["inputs.1.files is", "a path with a field for each", "{user}"],
    ),
    ({"partition_keys": ["user"], "inputs": [{"files": "a/{user"}]}, ["has no closing }", "write {{"]),
    ({"partition_keys": ["user"], "inputs": [{"files": "a/user}"}]}, ["has no opening {", "write }}"]),
    ({"partition_keys": ["user"], "inputs": [{"files": "{user}/{}"}]}, ["{} in", "is no field"]),
    ({"partition_keys": ["user"], "inputs": [{"files": "{user}/{d:yyyy}"}]}, ["{d:yyyy} in", "is no field"]),
    (
        {"partition_keys": ["user"], "inputs": [{"files": "{user}{x}"}]},
        ["{x} follows a field", "stand between"],
    ),
    ({"partition_keys": ["user"], "inputs": [{"files": 5}]}, ["inputs.0.files is 5"]),
    ({"partition_keys": ["user"], "inputs": [{"files": []}]}, ["inputs.0.files is an empty list"]),
    ({"partition_keys": ["user"], "inputs": [{"list": "l.txt"}]}, ["inputs.0.list", "not for this"]),
    (
        {"partition_keys": ["user"], "inputs": [{"files": "{user}.tar", "members": "*"}]},
        ["inputs.0.members", "not for this"],
    ),
    ({"shuffle": True}, ["shuffle is true", "there are none"]),
    ({"shuffle": True, "inputs": CSV}, ["shuffle is true", "there are none"]),
    ({"shuffle": True, "partition_keys": ["user"]}, ["shuffle is true", "it is for tables"]),
    ({"shuffle": "yes", "partition_keys": ["a"], "inputs": CSV}, ["shuffle", "true or false"]),
    ({"shuffle": None, "partition_keys": ["a"], "inputs": CSV}, ["shuffle is empty", "true or false"]),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=lambda value: shown(value)[:60])
def test_wrong_keys_are_named(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        job_of(change)
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert "things are wrong" not in message, message
