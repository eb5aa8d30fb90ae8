"""core.slurm_keys: what the key `slurm` takes, what it refuses and in which words, and quoting for #SBATCH lines."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpibatch.core.config import Job, apply_sets, parse_job
from mpibatch.core.sets import is_verbatim, takes_list, takes_text
from mpibatch.core.shell_lines import Container
from mpibatch.core.slurm_keys import (
    LEGAL_SLURM_KEYS,
    SlurmKeys,
    for_sbatch,
    seconds_of,
    wall_time_warnings,
)
from mpibatch.errors import ConfigError
from mpibatch.runtime.job_yaml import read_job_text, read_set

SMALL: dict[Any, Any] = {"entry_script": "a.py", "inputs": [{"files": "x"}]}


def job_of(slurm: Any) -> Job:
    return parse_job(SMALL | {"slurm": slurm}, job_file="/j/job.yaml")


def words_of(slurm: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        job_of(slurm)
    return str(caught.value)


RIGHT: dict[str, tuple[Any, dict[str, Any]]] = {
    "partition": ("long,short", {}),
    "account": ("physics", {}),
    "qos": ("high", {}),
    "time": ("1:30:00", {}),
    "mem": ("16G", {}),
    "gpus_per_node": ("a100:2", {}),
    "gpus_per_task": ("1", {}),
    "cpus_per_task": ("4", {"cpus_per_task": 4}),
    "constraint": ("[rack1|rack2] & fast", {}),
    "modules": (["gcc/12", "openmpi"], {}),
    "setup": (["a=1", "if true; then\n  b=2\r\nfi\n"], {"setup": "a=1\nif true; then\n  b=2\nfi"}),
    "container": (
        {"image": "x y.sif", "options": ["--bind", "/data"], "command": "singularity"},
        {"container": Container(image="x y.sif", command="singularity", options=["--bind", "/data"])},
    ),
    "mpi": ("pmix_v4", {}),
    "signal": ("B:SIGUSR1@90", {"signal": "USR1", "signal_s": 90}),
    "max_requeues": ("0", {"max_requeues": 0}),
    "extra": ({"mail_type": "END", "exclusive": "true", "comment": 'a "b"'}, {"extra": None}),
}


def test_each_key_arrives() -> None:
    assert set(RIGHT) == set(LEGAL_SLURM_KEYS)
    for name, (given_value, want) in RIGHT.items():
        keys = job_of({name: given_value}).slurm
        if name == "extra":
            assert keys.extra == ["--mail-type=END", "--exclusive", r'--comment="a \"b\""']
        else:
            assert keys == SlurmKeys(**(want or {name: given_value}))


@pytest.mark.parametrize("slurm", [{}, {"partition": None, "extra": None}])
def test_what_is_empty_is_the_default(slurm: Any) -> None:
    assert job_of(slurm).slurm == SlurmKeys() == parse_job(SMALL, job_file="/j/job.yaml").slurm


@pytest.mark.parametrize("time", ["90", "90:30", "1:30:00", "2-12", "2-12:30", "2-12:30:00", "UNLIMITED", 90])
def test_times_of_sbatch(time: Any) -> None:
    assert job_of({"time": time}).slurm.time == str(time)


@pytest.mark.parametrize("extra", [["#SBATCH --exclusive", "-x n1"], {"exclusive": None, "exclude": "n1"}])
def test_extra_options_in_each_form(extra: Any) -> None:
    assert len(job_of({"extra": extra}).slurm.extra) == 2


WRONG: list[tuple[Any, list[str]]] = [
    ("long", ["slurm is", "must be a mapping", "partition: long"]),
    ({"partiton": "long"}, ["slurm.partiton", "did you mean partition?", "legal keys"]),
    ({"nodes": "2"}, ["slurm.nodes", "here it is node_count, beside slurm"]),
    ({"gres": "gpu:1"}, ["slurm.gres", "gpus_per_node"]),
    ({"partition": "two words"}, ["slurm.partition", "several with commas"]),
    ({"partition": ""}, ["slurm.partition", "must not be empty"]),
    ({"account": "a\n#SBATCH --x"}, ["slurm.account", "must be one line"]),
    ({"constraint": "a\rb"}, ["slurm.constraint", "must be one line"]),
    ({"constraint": ["a"]}, ["slurm.constraint", "must be text"]),
    ({"time": "1h"}, ["slurm.time", "days-hours:minutes"]),
    ({"time": "1:2:3:4"}, ["slurm.time", "days-hours:minutes"]),
    ({"time": "0:00"}, ["slurm.time", "longer than nothing"]),
    ({"time": "٣"}, ["slurm.time", "days-hours"]),
    ({"mem": "16 GB"}, ["slurm.mem", "like 16G"]),
    ({"mem": "1.5G"}, ["slurm.mem", "like 16G"]),
    ({"gpus_per_node": "0"}, ["slurm.gpus_per_node", "kind:number"]),
    ({"gpus_per_node": "two"}, ["slurm.gpus_per_node", "kind:number"]),
    ({"gpus_per_node": "2", "gpus_per_task": "1"}, ["slurm.gpus_per_node", "leave one out"]),
    ({"cpus_per_task": "0"}, ["slurm.cpus_per_task", "from 1 to"]),
    ({"cpus_per_task": True}, ["slurm.cpus_per_task", "must be text"]),
    ({"modules": ["a b"]}, ["slurm.modules", "module names"]),
    ({"modules": {"gcc": 1}}, ["slurm.modules", "must be a list"]),
    ({"setup": ["a\rb"]}, ["slurm.setup", "carriage return"]),
    ({"container": {"picture": "x"}}, ["slurm.container", "must be an image"]),
    ({"mpi": "a b"}, ["slurm.mpi", "srun --mpi=list"]),
    ({"signal": "KILL"}, ["slurm.signal", "USR2, USR1"]),
    ({"signal": "USR2@soon"}, ["slurm.signal", "seconds before the end"]),
    ({"max_requeues": "-1"}, ["slurm.max_requeues", "from 0 to"]),
    ({"extra": ["reservation=x"]}, ["slurm.extra", "no option of sbatch"]),
    ({"extra": ["--nodes=3"]}, ["slurm.extra", "--nodes is the key node_count: say it there"]),
    ({"extra": {"signal": "x"}}, ["slurm.extra", "--signal is slurm.signal"]),
    ({"extra": {"a\nb": "x"}}, ["slurm.extra", "one line"]),
    ({"extra": "--x"}, ["slurm.extra", "as a mapping or a list, like {mail_type: END"]),
]


@pytest.mark.parametrize(("slurm", "words"), WRONG, ids=str)
def test_what_is_wrong_is_told_with_its_key(slurm: Any, words: list[str]) -> None:
    told = words_of(slurm)
    assert [one for one in words if one not in told] == []


def test_numbers_stay_as_they_are_written() -> None:
    text = "slurm: {time: 1:30:00, account: 0123, constraint: yes, cpus_per_task: 4, modules: [gcc, 12]}"
    keys = job_of(read_job_text(text, "job.yaml")["slurm"]).slurm
    assert keys == SlurmKeys(
        time="1:30:00", account="0123", constraint="yes", cpus_per_task=4, modules=["gcc", "12"]
    )


def test_set_takes_each_key_of_it() -> None:
    sets = [read_set(one) for one in ("slurm.time=1:30:00", "slurm.modules=[gcc, 12]", "slurm.modules.2=a#b")]
    assert job_of(apply_sets({}, sets)["slurm"]).slurm == SlurmKeys(
        time="1:30:00", modules=["gcc", "12", "a#b"]
    )
    assert takes_text("slurm.time") and is_verbatim("slurm.x.y") and not takes_list("slurm.time")


def test_set_takes_a_mapping_where_one_is_legal() -> None:
    sets = [read_set("slurm.extra={mail_type: END, nice: 0100}"), read_set("slurm.container={image: x.sif}")]
    keys = job_of(apply_sets({}, sets)["slurm"]).slurm
    assert keys.extra == ["--mail-type=END", "--nice=0100"]
    assert keys.container is not None and keys.container.image == "x.sif"
    assert read_set("slurm.setup={ echo x; }") == ("slurm.setup", "{ echo x; }")


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("90", 5400), ("90:30", 5430), ("1:30:00", 5400), ("2-12", 216_000), ("2-12:30", 217_800),
        ("2-12:30:05", 217_805), ("UNLIMITED", None),
    ],
)  # fmt: skip
def test_a_time_in_seconds(time: str, seconds: int | None) -> None:
    assert seconds_of(time) == seconds


@pytest.mark.parametrize(
    ("slurm", "key"),
    [
        ({"time": "1"}, "drain_margin"),
        ({"time": "2"}, "drain_margin"),
        ({"time": "2:01"}, None),
        ({"time": "1:00", "signal": "USR1@59"}, None),
        ({"time": "30", "signal": "USR1@3600"}, "slurm.signal"),
        ({"time": "UNLIMITED"}, None),
        ({}, None),
    ],
)
def test_a_wall_time_that_has_no_room_is_told(slurm: Any, key: str | None) -> None:
    told = wall_time_warnings(job_of(slurm).slurm, 120.0)
    assert [f"or {key} shorter" in one for one in told] == ([True] if key else [])


def as_slurm_reads(line: str) -> list[str]:
    """The words of a #SBATCH line, by the rules that Slurm's own parser has (get_argument of sbatch)."""
    words: list[str] = []
    position = 0
    while position < len(line):
        if line[position].isspace():
            position += 1
            continue
        word, quote = "", ""
        while position < len(line) and (quote or not line[position].isspace()):
            character = line[position]
            position += 1
            if character == "\\":
                word += line[position : position + 1]
                position += 1
            elif quote:
                word, quote = (word, "") if character == quote else (word + character, quote)
            elif character in "\"'":
                quote = character
            elif character == "#":
                assert not word.strip(), "a comment within a word"
                return words
            else:
                word += character
        assert not quote, "a quote that is not closed"
        words.append(word)
    return words


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1))
@example("# no comment")
@example('it\'s "one" \\ word')
@example("\\")
@example("HetJob packjob")
def test_slurm_reads_the_very_value(value: str) -> None:
    line = f"--comment={for_sbatch(value)}"
    assert as_slurm_reads(line) == [f"--comment={value}"]
    assert "hetjob" not in line.lower() and "packjob" not in line.lower()
