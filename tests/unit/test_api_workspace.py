"""Workspaces, models and environments of the Python API, on real folders."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mpibatch.api import (
    ApiError,
    CondaDependencies,
    Environment,
    ExistsError,
    Model,
    NeedsAzureError,
    NotFoundError,
    Workspace,
)
from mpibatch.api.wiring import JobEnvironment, WorkspaceFolder
from mpibatch.core.config import parse_job


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create("lab", path=tmp_path / "lab", subscription_id="abc")


def test_a_workspace_is_made_once_and_found_from_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError, match=r"Workspace\.create"):
        Workspace.from_config()
    made = Workspace.create("lab", path="lab", subscription_id="abc", location="westeurope")
    assert isinstance(made, WorkspaceFolder)
    below = tmp_path / "lab" / "notebooks" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    found = Workspace.from_config()
    assert (found.name, found.subscription_id, found.resource_group) == ("lab", "abc", "")
    assert found.folder == found.location == str(tmp_path / "lab")
    assert Workspace.from_config(tmp_path / "lab" / "config.json").folder == found.folder
    with pytest.raises(ExistsError, match="exist_ok"):
        Workspace.create("lab", path=tmp_path / "lab")
    assert Workspace.create("other", path=tmp_path / "lab", exist_ok=True).name == "lab"


def test_a_config_of_azure_will_do_and_another_folder_can_point_to_it(tmp_path: Path) -> None:
    home = tmp_path / "project"
    (home / ".azureml").mkdir(parents=True)
    azure = {"subscription_id": "1", "resource_group": "group", "workspace_name": "Azures own"}
    (home / ".azureml" / "config.json").write_text(json.dumps(azure))
    workspace = Workspace.from_config(home)
    assert (workspace.name, workspace.folder) == ("Azures own", str(home))
    workspace.write_config(tmp_path / "other")
    assert Workspace.from_config(tmp_path / "other").folder == str(home)
    (home / ".azureml" / "config.json").write_text("{}")
    with pytest.raises(ApiError, match="workspace_name"):
        Workspace(home)


def test_what_names_a_workspace_of_azure_is_told_the_way() -> None:
    with pytest.raises(NeedsAzureError, match="from_config"):
        Workspace("subscription", "group", "name")
    with pytest.raises(NeedsAzureError, match="from_config"):
        Workspace(subscription_id="1", resource_group="2", workspace_name="3")
    with pytest.raises(NeedsAzureError, match="from_config"):
        Workspace.get("lab")


def test_models_are_copied_and_counted(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "weights").write_text("one")
    first = Model.register(workspace, tmp_path / "models/", "mnist", tags={"pretrained": "mnist"})
    (tmp_path / "models" / "weights").write_text("two")
    second = Model.register(
        workspace=workspace,
        model_path=str(tmp_path / "models/weights"),
        model_name="mnist",
        description="file",
    )
    assert (first.id, second.id) == ("mnist:1", "mnist:2")
    assert Path(first.path, "weights").read_text() == "one"
    assert Path(second.path).read_text() == "two"
    assert Model.get_model_path("mnist", _workspace=workspace) == second.path
    assert Model.get_model_path("mnist", version=1, _workspace=workspace) == first.path
    assert Model(workspace, id="mnist:1").tags == {"pretrained": "mnist"}
    assert [model.version for model in Model.list(workspace)] == [2, 1]
    assert [model.version for model in Model.list(workspace, latest=True)] == [2]
    assert [model.version for model in Model.list(workspace, tags=["pretrained"])] == [1]
    models = workspace.job_models()
    assert models == {"mnist": second.path, "mnist/1": first.path, "mnist/2": second.path}
    job = {"name": "job", "entry_script": "a.py", "inputs": [{"count": 1}], "output": "/o", "models": models}
    assert parse_job(job, job_file="/j/job.yaml").models == models


def test_a_model_is_changed_fetched_and_deleted(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("x")
    model = Model.register(workspace, tmp_path / "weights", "mnist")
    model.add_tags({"a": "b"})
    model.update(description="better")
    again = workspace.models["mnist"]
    assert (again.tags, again.description) == ({"a": "b"}, "better")
    copy = model.download(str(tmp_path / "copy"))
    assert Path(copy).read_text() == "x"
    with pytest.raises(ExistsError, match="exist_ok"):
        model.download(str(tmp_path / "copy"))
    model.delete()
    assert not os.path.exists(model.path)
    with pytest.raises(NotFoundError, match="no model is registered"):
        Model(workspace, "mnist")
    with pytest.raises(ApiError, match="does not exist"):
        Model.register(workspace, tmp_path / "nothing", "mnist")


def test_who_register_at_once_get_a_version_each(workspace: Workspace, tmp_path: Path) -> None:
    versions: list[int] = []

    def register(number: int) -> None:
        (tmp_path / f"file{number}").write_text(str(number))
        model = Model.register(workspace, tmp_path / f"file{number}", "mnist")
        assert Path(model.path).read_text() == str(number)
        versions.append(model.version)

    at_once(register)
    assert sorted(versions) == list(range(1, 9))
    versions.clear()
    at_once(lambda number: versions.append(int(Environment("same").register(workspace).version or 0)))
    assert sorted(versions) == list(range(1, 9))


def at_once(call: Callable[[int], object]) -> None:
    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_an_environment_becomes_keys_of_a_job(workspace: Workspace, tmp_path: Path) -> None:
    here = Environment("here")
    assert isinstance(here, JobEnvironment)
    assert here.job_keys() == {}
    other = Environment("other", python=sys.executable)
    other.environment_variables = {"DEPTH": "3"}
    assert other.job_keys() == {"python": sys.executable, "environment_variables": {"DEPTH": "3"}}
    conda = Environment.from_existing_conda_environment("conda", "my-env")
    assert conda.job_keys() == {"environment": {"conda": "my-env"}}
    box = Environment.from_container("box", tmp_path / "image.sif")
    assert box.job_keys() == {"environment": {"container": str(tmp_path / "image.sif")}}
    for made in (here, other, conda, box):
        job = {"name": "job", "entry_script": "a.py", "inputs": [{"count": 1}], "output": "/o"}
        assert parse_job(job | made.job_keys(), job_file="/j/job.yaml")
        made.register(workspace)
        assert Environment.get(workspace, made.name).job_keys() == made.job_keys()
    assert sorted(workspace.environments) == ["box", "conda", "here", "other"]


def test_packages_that_are_missing_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    environment = Environment("batch-a")
    environment.python.conda_dependencies = CondaDependencies.create(
        python_version="3.8",
        conda_packages=["pip==20.2.4", "conda-forge::no-such-thing"],
        pip_packages=["pandas==1.4.4", "no-such-package[more]>=2", "azureml-dataset-runtime[fuse]"],
    )
    environment.python.conda_dependencies.add_pip_package("neither-this")
    environment.docker.base_image = "image"
    environment.spark.precache_packages = False
    for _ in range(2):
        assert environment.job_keys() == {}
    (line,) = capsys.readouterr().err.splitlines()
    assert "no-such-package, neither-this, no-such-thing;" in line
    assert 'Environment(name, python="' in line
    assert Environment("batch-b", python="/some/python").missing_packages() == []


def test_an_environment_is_read_of_files(tmp_path: Path) -> None:
    (tmp_path / "conda.yml").write_text(
        "channels: [conda-forge]\ndependencies: [python=3.11, numpy, {pip: [no-such-package]}]\n"
    )
    made = Environment.from_conda_specification("made", tmp_path / "conda.yml")
    assert made.missing_packages() == ["no-such-package"]
    (tmp_path / "requirements.txt").write_text("# ours\nnumpy\n\n-r other.txt\nno-such-package==1\n")
    assert Environment.from_pip_requirements("made", tmp_path / "requirements.txt").missing_packages() == [
        "no-such-package"
    ]
    with pytest.raises(NeedsAzureError, match="apptainer build"):
        Environment.from_docker_image("made", "python:3.12")
    with pytest.raises(ApiError, match="no interpreter"):
        Environment.from_existing_conda_environment("made", "/nowhere/env")
