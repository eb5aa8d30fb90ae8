"""The job file's key `environment`."""

from __future__ import annotations

from typing import Any

import pytest

from mpibatch.core.config import Job, parse_job
from mpibatch.core.environment_keys import Environment
from mpibatch.core.shell_lines import Container
from mpibatch.errors import ConfigError

SMALL = {"entry_script": "s.py", "inputs": [{"files": "data/"}]}


def job_of(environment: Any, **more: Any) -> Job:
    mapping = {**SMALL, "environment": environment, **more}
    return parse_job(mapping, job_file="/jobs/job.yaml", expand=lambda path: path.replace("~", "/home/ann"))


def refused(environment: Any, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        job_of(environment, **more)
    return str(caught.value)


TAKEN = [
    (None, Environment()),
    ({}, Environment()),
    ({"modules": None, "setup": None}, Environment()),
    ({"modules": ["gcc/12", "mpi"]}, Environment(modules=["gcc/12", "mpi"])),
    ({"modules": "gcc/12 mpi"}, Environment(modules=["gcc/12", "mpi"])),
    ({"setup": "a\r\nb\n"}, Environment(setup="a\nb")),
    ({"setup": ["a", "if b; then\n  c\nfi\n"]}, Environment(setup="a\nif b; then\n  c\nfi")),
    ({"conda": "my-env"}, Environment(conda="my-env")),
    ({"conda": "./env"}, Environment(conda="/jobs/env")),
    ({"conda": "~/env"}, Environment(conda="/home/ann/env")),
    ({"container": "tools.sif"}, Environment(container=Container(image="/jobs/tools.sif"))),
    ({"container": "docker://python:3.12"}, Environment(container=Container(image="docker://python:3.12"))),
    (
        {"container": {"image": "/i.sif", "command": "singularity", "options": ["--nv"]}},
        Environment(container=Container(image="/i.sif", command="singularity", options=["--nv"])),
    ),
    ({"python": "python3.12"}, Environment(python="python3.12")),
]


@pytest.mark.parametrize(("given", "want"), TAKEN)
def test_what_is_taken(given: Any, want: Environment) -> None:
    job = job_of(given)
    assert job.environment == want
    assert job.python is None
    assert want.by_shell == (want != Environment())


def test_an_interpreter_s_path_alone_needs_no_shell() -> None:
    job = job_of({"python": "env/bin/python"})
    assert job.python == job.environment.python == "/jobs/env/bin/python"
    assert not job.environment.by_shell


def test_the_python_of_a_container_is_in_it() -> None:
    job = job_of({"python": "/usr/bin/python3", "container": "t.sif"})
    assert (job.python, job.environment.python) == (None, "/usr/bin/python3")
    assert "a name or an absolute path" in refused({"python": "bin/python3", "container": "t.sif"})


def test_python_beside_it() -> None:
    assert job_of({"python": "env/bin/python"}, python="env/bin/python").python == "/jobs/env/bin/python"
    assert job_of({"setup": "true"}, python="env/bin/python").python == "/jobs/env/bin/python"
    other = refused({"python": "python3"}, python="env/bin/python")
    assert (
        'environment.python is "python3", but python is "/jobs/env/bin/python": leave one of them out'
        in other
    )
    assert "name the one in it as environment.python" in refused(
        {"container": "t.sif"}, python="env/bin/python"
    )


REFUSED = [
    ("azureml:my-env@latest", ["environment is", "must be a mapping", "{conda: NAME}"]),
    ([1], ["environment is [1]: must be a mapping"]),
    ({"docker": {"image": "x"}}, ["environment.docker", "container", "legal keys: python, conda, modules"]),
    ({"conda_file": "c.yml"}, ["here it is conda", "conda env create"]),
    ({"image": "x"}, ["here it is container"]),
    ({"modul": []}, ["environment.modul ", "did you mean modules?"]),
    ({"python": 3.12}, ["environment.python", "in quotes"]),
    ({"python": "-m"}, ["none begins with -"]),
    ({"conda": "env.yml"}, ["environment.conda", "conda env create -f env.yml"]),
    ({"conda": "a b"}, ["environment.conda", "name, or its folder"]),
    ({"modules": {"gcc": 12}}, ["environment.modules", "must be a list"]),
    ({"modules": ["gcc mpi"]}, ["must be one module"]),
    ({"modules": ["-f"]}, ["none begins with -"]),
    ({"modules": ["gcc\nrm"]}, ["one line"]),
    ({"setup": 5}, ["environment.setup", "must be text"]),
    ({"setup": "a\rb"}, ["carriage return"]),
    ({"setup": "x" * 1_000_001}, ["not be longer than"]),
    ({"container": {"options": []}}, ["environment.container", "must be an image, or a mapping like"]),
    ({"container": {"image": "x", "option": []}}, ['"option"', "did you mean options?"]),
    ({"container": {"image": "x", "command": "/usr/bin/docker"}}, ["docker does not hand open files on"]),
    ({"container": {"image": "x", "options": "--nv"}}, ["must be a list"]),
    ({"container": "--nv"}, ["none begins with -"]),
]


@pytest.mark.parametrize(("given", "words"), REFUSED)
def test_what_is_refused(given: Any, words: list[str]) -> None:
    message = refused(given)
    assert all(word in message for word in words), message


@pytest.mark.parametrize("key", ["conda", "modules", "setup", "container", "image"])
def test_its_keys_at_the_top_are_told_where_they_belong(key: str) -> None:
    with pytest.raises(ConfigError, match="here it is environment, like"):
        parse_job({**SMALL, key: "x"}, job_file="/jobs/job.yaml")
