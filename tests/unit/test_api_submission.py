"""What a submission makes of values that are given for it, before anything runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mpibatch.api import (
    ApiError,
    Dataset,
    DatasetConsumptionConfig,
    Experiment,
    ParallelRunConfig,
    ParallelRunStep,
    Pipeline,
    PipelineData,
    PipelineParameter,
    Workspace,
)
from mpibatch.api.run_home import RunHome, StepPlace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("1")
    (tmp_path / "data" / "b.csv").write_text("n\n1\n")
    (tmp_path / "score.py").write_text("def run(mini_batch):\n    return mini_batch\n")
    return Workspace.create("tests", path=tmp_path)


def step(workspace: Workspace, inputs: Any, name: str = "score", **settings: Any) -> ParallelRunStep:
    output = settings.pop("output", None)
    config = ParallelRunConfig(entry_script="score.py", source_directory=workspace.folder, **settings)
    return ParallelRunStep(name, config, inputs, output)


def written(
    workspace: Workspace, steps: list[ParallelRunStep], given: dict[str, Any] | None = None
) -> tuple[dict[str, Any], list[StepPlace]]:
    """The steps of the pipeline file, and where they lie."""
    file = Path(workspace.folder, "run", "pipeline.yaml")
    file.parent.mkdir(exist_ok=True)
    places = Pipeline(workspace, steps).write(file, given, file.parent.with_name("steps"), anew=False)
    mapping: dict[str, Any] = json.loads(file.read_text())["steps"]
    return mapping, places


def data(workspace: Workspace) -> Any:
    return Dataset.File.from_files(os.path.join(workspace.folder, "data"))


def test_a_parameter_among_inputs_takes_a_path(workspace: Workspace) -> None:
    which = PipelineParameter("which", data(workspace))
    one = os.path.join(workspace.folder, "data", "a.txt")
    for given in (
        which,
        DatasetConsumptionConfig("named", which),
        DatasetConsumptionConfig("n", which).as_mount(),
    ):
        for path in (one, Path(one), workspace.get_default_datastore().path("a.txt")):
            steps, _ = written(workspace, [step(workspace, [given])], {"which": path})
            assert steps["score"]["inputs"] == [{"files": os.fspath(path)}]


def test_a_parameter_among_inputs_takes_no_other_sort(workspace: Workspace) -> None:
    files = PipelineParameter("which", data(workspace))
    with pytest.raises(ApiError, match="which is 5, a int: must be a dataset, or the path of files"):
        written(workspace, [step(workspace, [files])], {"which": 5})
    table = Dataset.Tabular.from_delimited_files(os.path.join(workspace.folder, "data/b.csv"))
    rows = PipelineParameter("rows", table)
    for given in (rows, DatasetConsumptionConfig("named", rows)):
        with pytest.raises(
            ApiError, match=r"rows is .*: a path does not say how a table is read: give a Tabular"
        ):
            written(workspace, [step(workspace, [given])], {"rows": "data/b.csv"})


def test_a_steps_output_can_be_downloaded_to_scratch(workspace: Workspace) -> None:
    made = PipelineData("made")
    first = step(workspace, [data(workspace)], "first", output=made)
    steps, _ = written(
        workspace, [first, step(workspace, [DatasetConsumptionConfig("m", made).as_download()])]
    )
    assert steps["score"]["inputs"] == [{"files": "${steps.first.output}", "mode": "download"}]


def test_which_settings_give_a_step_another_folder(workspace: Workspace) -> None:
    def folder(**settings: Any) -> str:
        (place,) = written(workspace, [step(workspace, [data(workspace)], **settings)])[1]
        return place.folder

    plain = folder()
    # What succeeded is kept where only these change, so that a failed run goes on.
    for name, value in {
        "error_threshold": 5,
        "allowed_failed_count": 2,
        "allowed_failed_percent": 3,
        "run_invocation_timeout": 600,
        "run_max_try": 9,
        "init_timeout": 900,
        "process_count_per_node": 2,
        "logging_level": "DEBUG",
    }.items():
        assert folder(**{name: value}) == plain, name
    for name, other in {"mini_batch_size": 1, "append_row_file_name": "rows.txt"}.items():
        assert folder(**{name: other}) != plain, name


def test_an_interrupt_while_it_is_started_leaves_what_runs_alone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(home: RunHome, *, slurm: bool) -> None:
        if begun:
            home.log.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("mpibatch.api.experiment.start", start)
    experiment = Experiment(workspace, "digits")
    for begun in (False, True):
        with pytest.raises(KeyboardInterrupt):
            experiment.submit(Pipeline(workspace, [step(workspace, [data(workspace)])]))
        assert len(list(experiment.get_runs())) == begun
