"""core.site_profile and runtime.site_file: a site's defaults, where they are found, and who wins."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import make_job

from mpibatch.core.site_profile import SITE_NAME, SiteProfile, with_profile
from mpibatch.core.slurm_keys import SlurmKeys
from mpibatch.dry_run import dry_run
from mpibatch.errors import ConfigError
from mpibatch.runtime.jobfile import load_job
from mpibatch.runtime.site_file import find_profile
from mpibatch.slurm.script import batch_script

SITE = "slurm: {partition: long, time: 1:30:00, gpus_per_node: 2}\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's configuration, empty at first."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "mpibatch"


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SITE_NAME).write_text(text)
    return folder / SITE_NAME


def job_in(folder: Path, **slurm: str) -> Path:
    return make_job(folder, "def run(mini_batch):\n    return mini_batch\n", slurm=slurm)


def test_without_a_profile_nothing_changes(tmp_path: Path) -> None:
    job = load_job(job_in(tmp_path / "job", mem="1G"))
    assert (job.site, job.site_keys, job.slurm) == (None, [], SlurmKeys(mem="1G"))


def test_the_job_wins_key_by_key(tmp_path: Path) -> None:
    file = write(tmp_path / "job", SITE)
    job = load_job(job_in(tmp_path / "job", partition="short", mem="1G"))
    assert job.slurm == SlurmKeys(partition="short", mem="1G", time="1:30:00", gpus_per_node="2")
    assert (job.site, job.site_keys) == (str(file), ["slurm.time", "slurm.gpus_per_node"])
    sources = batch_script(job, command=["mpibatch"], run_folder="o").sources
    assert sources["--time"] == f"slurm.time (from the site profile {file})"
    assert sources["--partition"] == "slurm.partition"


def test_a_dry_run_names_it(tmp_path: Path) -> None:
    file = write(tmp_path / "job", SITE)
    told = dry_run(str(job_in(tmp_path / "job", time="5")), sets=[], output=None)
    assert f"site profile {file}: slurm.partition, slurm.gpus_per_node\n" in told


def test_set_wins_over_the_profile(tmp_path: Path) -> None:
    write(tmp_path / "job", SITE)
    job = load_job(job_in(tmp_path / "job"), sets=["slurm.time=5", "slurm.partition=x"])
    assert (job.slurm.time, job.slurm.partition, job.site_keys) == ("5", "x", ["slurm.gpus_per_node"])


def test_one_way_to_say_a_thing_replaces_the_other(tmp_path: Path) -> None:
    write(tmp_path / "job", SITE)
    job = load_job(job_in(tmp_path / "job", gpus_per_task="1"))
    assert (job.slurm.gpus_per_task, job.slurm.gpus_per_node) == ("1", None)


def test_an_empty_key_takes_the_default_away() -> None:
    profile = SiteProfile(file="/s.yaml", mapping={"slurm": {"partition": "long", "mem": "1G"}})
    assert with_profile({"slurm": {"mem": None}}, profile) == (
        {"slurm": {"partition": "long", "mem": None}},
        ["slurm.partition"],
    )
    assert with_profile({"slurm": None}, profile) == ({"slurm": None}, [])
    assert with_profile({"slurm": 5}, profile) == ({"slurm": 5}, [])


def test_a_profile_may_say_how_processors_get_their_environment() -> None:
    profile = SiteProfile(file="/s.yaml", mapping={"environment": {"modules": ["gcc"], "setup": "a"}})
    merged, taken = with_profile({"environment": {"setup": "b"}}, profile)
    assert merged == {"environment": {"modules": ["gcc"], "setup": "b"}}
    assert taken == ["environment.modules"]


def test_the_nearest_profile_counts_alone(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    assert find_profile(str(folder)) is None
    for place in (home, tmp_path / "a", folder):
        file = write(place, "slurm: {mem: 1G}\n")
        assert find_profile(str(folder)) == SiteProfile(file=str(file), mapping={"slurm": {"mem": "1G"}})
    write(folder, "")
    found = find_profile(str(folder))
    assert found is not None and found.mapping == {}


def test_the_home_directory_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / ".config" / "mpibatch", "slurm: {}\n")
    (tmp_path / "job").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    found = find_profile(str(tmp_path / "job"), {})
    assert found is not None and found.file == str(file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slurm: {partition: a b}\n", ["slurm.partition", "several with commas"]),
        ("slurm: {partiton: a}\n", ["slurm.partiton", "did you mean partition?"]),
        ("slurm: long\n", ["slurm is", "must be a mapping"]),
        ("node_count: 3\n", ["node_count is 3", "defaults for slurm and environment only"]),
        ("environment: base\n", ["environment is", "must be a mapping"]),
        ("- slurm\n", ["a site profile is a mapping"]),
        ("slurm: {a\n", ["not YAML", "line 2"]),
    ],
)
def test_what_is_wrong_in_it_is_told_with_its_file(text: str, words: list[str], tmp_path: Path) -> None:
    file = write(tmp_path / "job", text)
    with pytest.raises(ConfigError) as caught:
        load_job(job_in(tmp_path / "job"))
    told = str(caught.value)
    assert str(file)[-30:] in told and [one for one in words if one not in told] == []


def test_a_profile_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / SITE_NAME).write_bytes(b"slurm: \xff\n")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        find_profile(str(tmp_path))
