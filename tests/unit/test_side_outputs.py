"""`side_outputs`: where they are, what is refused, and that they are there and change no fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import support

from mpibatch.core.config import Job, parse_job
from mpibatch.errors import ConfigError, StorageError
from mpibatch.runtime.identity import job_fingerprint
from mpibatch.runtime.jobfile import load_job
from mpibatch.runtime.planner import make_plan
from mpibatch.runtime.side_outputs import make_side_outputs

SMALL: dict[Any, Any] = {"entry_script": "score.py", "inputs": [{"files": "images/"}], "name": "night"}


def job_of(side_outputs: Any, inputs: list[Any] | None = None, **keys: Any) -> Job:
    mapping = SMALL | ({"inputs": inputs} if inputs else {}) | keys | {"side_outputs": side_outputs}
    return parse_job(mapping, job_file="/jobs/night.yaml", output=keys.get("output"))


def test_where_they_are() -> None:
    job = job_of(
        {"models": None, "plots": "a/plots", "x-1": "/scratch/x/"},
        arguments=["--to=${side_outputs.models}", "${side_outputs.x-1}"],
    )
    assert job.side_outputs == {
        "models": "/jobs/runs/night/models", "plots": "/jobs/a/plots", "x-1": "/scratch/x",
    }  # fmt: skip
    assert job.arguments == ["--to=/jobs/runs/night/models", "/scratch/x"]
    assert job_of({"models": None}, output="/elsewhere/y").side_outputs == {"models": "/elsewhere/y/models"}
    assert job_of(None).side_outputs == {}


@pytest.mark.parametrize(
    ("side_outputs", "words"),
    [
        (["models"], 'side_outputs is ["models"]: must be a mapping, like {models: , plots: runs/plots}'),
        ({"a b": None}, 'side_outputs."a b" is empty: no legal name'),
        ({"models": 5}, "side_outputs.models is 5: must be text"),
        ({"logs": None}, 'side_outputs.logs is empty: "/jobs/runs/night/logs" must be another folder than what the'),
        ({"shares": None}, "than what the run folder has as shares"),
        ({"rows": None}, "than what the run folder has as rows"),
        ({"x": "runs/night/.mpibatch/x"}, "than what the run folder has as .mpibatch"),
        ({"x": "runs/night"}, "must be a folder of its own, not the run folder or above it"),
        ({"x": "."}, "must be a folder of its own"),
        ({"x": "${job_dir}/x"}, "must be a path as it is: ${...} is filled in in arguments only"),
    ],
)  # fmt: skip
def test_what_is_refused(side_outputs: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        job_of(side_outputs, append_row_file_name="rows")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("files", "folder", "refused"),
    [
        ("d", "d/x", True),
        ("d", "d", True),
        ("d", "d2", False),
        ("d/x", "d", False),
        ("d/*.csv", "d/models", False),
        ("d/*.csv", "d/x.csv", False),  # A glob takes no folders.
        ("d/*.csv", "d", True),
        ("d/*.csv", ".", False),
        ("d/*/", "d/x", True),
        ("d/*/*.csv", "d/x", True),
        ("d/*/*.csv", "d/x/y", False),
        ("d/**/*.csv", "d/x/y", True),
        ("d/**", "d", True),
        ("d/*/**/*.csv", "d", True),
        ("d/*/e/*.csv", "d", False),
        ("d/a.csv", "d", False),
        ("/jobs/d", "d/x", True),
    ],
)
def test_inside_an_input_it_is_refused(files: str, folder: str, refused: bool) -> None:
    tables = files.endswith(".csv")
    inputs = [{"files": "other"}, {"files": files}] if not tables else [{"csv": files}]
    try:
        job_of({"x": folder}, inputs, output="/runs/night")
    except ConfigError as error:
        assert refused
        assert "is inside the input" in str(error)
    else:
        assert not refused


def test_a_path_format_s_fields_are_any_text() -> None:
    inputs = [{"files": "d/{user}/{season}.wav"}]
    with pytest.raises(ConfigError, match="is inside the input"):
        job_of({"x": "d/ann"}, inputs, partition_keys=["user"])
    assert job_of({"x": "e/ann"}, inputs, partition_keys=["user"]).side_outputs == {"x": "/jobs/e/ann"}


def test_the_run_folder_s_are_no_items_even_inside_an_input() -> None:
    assert job_of({"x": None}, [{"files": "/jobs"}]).side_outputs == {"x": "/jobs/runs/night/x"}


def test_they_are_made_and_what_is_in_them_changes_no_fingerprint(tmp_path: Path) -> None:
    keys: dict[str, Any] = {
        "side_outputs": {"models": None, "plots": "p/q"},
        "arguments": ["${side_outputs.plots}", "--to=${side_outputs.plots}", "${job_dir}/p"],
    }
    job_file = support.make_job(tmp_path, "def run(b): return b", **keys)
    job = load_job(job_file)
    make_side_outputs(job)
    make_side_outputs(job)
    assert (tmp_path / "output" / "models").is_dir()
    with make_plan(job, tmp_path) as plan:
        before = job_fingerprint(job, plan)
        (tmp_path / "p" / "q" / "new").touch()
        assert job_fingerprint(job, plan) == before
        (tmp_path / "p" / "other").touch()
        assert job_fingerprint(job, plan)["arguments"] != before["arguments"]
        (tmp_path / "p" / "other").unlink()
        other = load_job(job_file, sets=["side_outputs.models=m"])
        changed = job_fingerprint(other, plan)
        assert [part for part in before if before[part] != changed[part]] == ["arguments"]


def test_something_else_than_a_folder_is_there(tmp_path: Path) -> None:
    job_file = support.make_job(tmp_path, "def run(b): return b", side_outputs={"models": "m"})
    job = load_job(job_file)
    (tmp_path / "m").touch()
    with pytest.raises(ConfigError, match=r"side_outputs\.models is .*there is something else than a folder"):
        load_job(job_file)
    with pytest.raises(StorageError, match=r"the folder .*/m \(side_outputs\.models\) cannot be written"):
        make_side_outputs(job)
