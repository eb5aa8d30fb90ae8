"""Pipeline files as they are read: what is written stays, `--set` reaches the keys of steps, all mistakes at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pipelines import make_pipeline

from mpibatch.core.config import Job
from mpibatch.core.pipeline import Pipeline
from mpibatch.errors import ConfigError
from mpibatch.runtime.pipeline_file import load_any, missing_words


def load(file: Path, *sets: str) -> Pipeline:
    loaded = load_any(file, sets=sets)
    assert isinstance(loaded, Pipeline)
    return loaded


def arguments(file: Path, *sets: str) -> list[str]:
    (first,) = (step for step in load(file, *sets).steps if step.name == "first")
    return first.job.arguments


def test_what_stands_in_arguments_of_a_step_is_text(tmp_path: Path) -> None:
    file = make_pipeline(tmp_path)
    text = file.read_text().replace("  first:\n", "  first:\n    arguments: [0.10, yes, 1e-3, 2024-01-01]\n")
    file.write_text(text)

    assert arguments(file) == ["0.10", "yes", "1e-3", "2024-01-01"]
    assert arguments(file, "steps.first.arguments.1=0.50") == ["0.10", "0.50", "1e-3", "2024-01-01"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("steps.frist.run_max_try=1", "--set steps.frist.run_max_try: must be .*did you mean first"),
        ("steps.first=1", "--set steps.first: must be steps.NAME.key=value"),
        ("steps=1", "--set steps: must be steps.NAME.key=value"),
        ("steps.first.run_max_try=0", r"step first: pipeline.yaml: run_max_try \(from --set\) is 0"),
        ("run_max_try=0", r"run_max_try \(from --set\) is 0"),
        ("steps.first.inputs.0.files.5=x", "inputs.0.files"),
    ],
)
def test_a_set_that_leads_nowhere(option: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        load(make_pipeline(tmp_path), option)


def test_mistakes_of_all_steps_are_told_at_once(tmp_path: Path) -> None:
    third = {"entry_script": "nothing.py", "inputs": [{"files": "data/"}]}
    file = make_pipeline(tmp_path, steps={"first": {"run_max_try": 0}, "third": third})

    with pytest.raises(ConfigError, match=r"(?s)step first: .*run_max_try.*\nstep third: .*nothing.py"):
        load(file)


def test_a_job_is_a_job(tmp_path: Path) -> None:
    file = make_pipeline(tmp_path)
    step = {**yaml.safe_load(file.read_text())["steps"]["first"], "name": "just-a-job"}
    file.write_text(yaml.safe_dump(step))

    assert isinstance(load_any(file), Job)


def test_only_what_no_step_makes_is_looked_for(tmp_path: Path) -> None:
    third = {
        "entry_script": "script.py",
        "inputs": [{"files": "data/"}],
        "side_inputs": {"rows": "${steps.first.output}", "models": "${steps.first.side_outputs.models}"},
    }
    file = make_pipeline(tmp_path, steps={"first": {"side_outputs": {"models": None}}, "third": third})

    assert missing_words(load(file)) == []
    (words,) = missing_words(load(file, "steps.third.side_inputs.labels=labels.txt"))
    assert words.startswith("warning: step third: ") and "labels" in words
