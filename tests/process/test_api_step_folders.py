"""Run folders of steps that several submissions share: what goes on in them, and whose output is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import support

from mpibatch.api import (
    Dataset,
    NotFoundError,
    ParallelRunConfig,
    ParallelRunStep,
    Pipeline,
    PipelineData,
    PipelineRun,
    Workspace,
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "data").mkdir()
    (tmp_path / "code").mkdir()
    for number in range(4):
        (tmp_path / "data" / f"{number}.txt").write_text(str(number))
    return Workspace.create("tests", path=tmp_path)


def submitted(workspace: Workspace, script: str, **settings: Any) -> PipelineRun:
    """Run it to its end, whichever that is."""
    folder = Path(workspace.folder)
    (folder / "code" / "script.py").write_text(script)
    config = ParallelRunConfig(
        entry_script="script.py",
        source_directory=folder / "code",
        mini_batch_size=1,
        run_max_try=1,
        **settings,
    )
    data = Dataset.File.from_files(folder / "data")
    step = ParallelRunStep("score", config, [data], PipelineData("rows"))
    run = Pipeline(workspace, [step]).submit("shared")
    run.wait_for_completion(show_output=False, timeout_seconds=60, raise_on_error=False)
    return run


def rows(run: PipelineRun, folder: Path) -> list[str]:
    output = next(run.get_children()).get_output_data("rows")
    output.download(folder)
    return (folder / output.path_on_datastore / "parallel_run_step.txt").read_text().splitlines()


def test_an_older_run_does_not_give_the_rows_of_a_later_one(workspace: Workspace, tmp_path: Path) -> None:
    scripts = [
        f"def run(mini_batch):\n    return ['{word}' for _ in mini_batch]\n" for word in ("one", "two")
    ]
    first = submitted(workspace, scripts[0])
    assert rows(first, tmp_path / "a") == ["one"] * 4
    reused = submitted(workspace, scripts[0])
    assert next(reused.get_children()).is_reused
    assert rows(reused, tmp_path / "b") == rows(first, tmp_path / "c") == ["one"] * 4

    changed = submitted(workspace, scripts[1])
    assert rows(changed, tmp_path / "d") == ["two"] * 4
    for older in (first, reused):
        with pytest.raises(
            NotFoundError, match=r"step score .*has been run again since, .*allow_reuse=False"
        ):
            rows(older, tmp_path / "e")
        with pytest.raises(NotFoundError, match="has been run again since"):
            older.get_metrics()


def test_a_raised_threshold_goes_on_with_what_there_is(workspace: Workspace) -> None:
    script = """
import os

def run(mini_batch):
    open(os.path.join(os.path.dirname(__file__), "calls"), "a").write(os.path.basename(mini_batch[0]) + " ")
    if mini_batch[0].endswith("3.txt"):
        raise ValueError("no such digit")
    return mini_batch
"""
    failed = submitted(workspace, script, error_threshold=0)
    assert failed.get_status() == "Failed"
    run = submitted(workspace, script, error_threshold=1)
    assert run.get_status() == "Finished"
    (step,) = run.get_steps()
    assert support.result(Path(step.folder))["sessions"] == 2
    calls = Path(workspace.folder, "code", "calls").read_text().split()
    assert [calls.count(f"{number}.txt") for number in range(4)] == [1, 1, 1, 2]
