from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mpibatch.core.config import FilesInput, Job
from mpibatch.runtime.identity import describe_changes, input_stats, job_fingerprint
from mpibatch.runtime.jobfile import SETTINGS_FILE
from mpibatch.runtime.planner import Plan, make_plan

PARTS = ["plan", "script", "arguments", "side_inputs", "output", "settings", "inputs"]


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    write(tmp_path, "src/score.py", "src/lib/model.py", "src/notes.txt", "data/a", "data/b", "labels.txt")
    write(tmp_path, "model/weights", "model/vars/part", f"src/{SETTINGS_FILE}", "runs/one/.mpibatch/x")
    return Job(
        job_file=str(tmp_path / "job.yaml"),
        job_dir=str(tmp_path),
        name="job",
        entry_script=str(tmp_path / "src/score.py"),
        source_directory=str(tmp_path / "src"),
        arguments=["--labels", str(tmp_path / "labels.txt"), f"--model={tmp_path}/model", "--rate", "0.1"],
        inputs=[FilesInput(files=[str(tmp_path / "data")], text="data")],
        side_inputs={"labels": str(tmp_path / "labels.txt")},
        models={"digits": str(tmp_path / "model")},
        output=str(tmp_path / "runs/one"),
    )


@pytest.fixture
def plan(job: Job, tmp_path: Path) -> Iterator[Plan]:
    with make_plan(job, tmp_path / "runs/one/.mpibatch") as plan:
        yield plan


def changed(job: Job, plan: Plan, change: Callable[[Path], object] | dict[str, Any]) -> list[str]:
    """The parts that differ after a change to the files, or to the job."""
    before = job_fingerprint(job, plan)
    if callable(change):
        change(Path(job.job_dir))
        after = job_fingerprint(job, plan)
    else:
        after = job_fingerprint(msgspec.structs.replace(job, **change), plan)
    return [part for part in before if before[part] != after[part]]


def touched(name: str) -> Callable[[Path], object]:
    return lambda folder: os.utime(folder / name, ns=(1, 1))


def written(name: str) -> Callable[[Path], object]:
    """The file made, or given another content of another size."""

    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with open(folder / name, "a") as file:
            file.write("more")

    return write


def test_the_parts(job: Job, plan: Plan) -> None:
    parts = job_fingerprint(job, plan)
    assert list(parts) == PARTS
    assert parts["plan"] == plan.fingerprint
    assert parts["inputs"] == input_stats(plan)
    assert all(bytes.fromhex(value) for value in parts.values())
    assert len(set(parts.values())) == len(parts)
    assert job_fingerprint(job, plan) == parts
    assert job_fingerprint(job, plan, inputs=False) == {part: parts[part] for part in PARTS[:-1]}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (written("src/score.py"), ["script"]),
        (touched("src/score.py"), []),  # What counts is the content.
        (written("src/lib/model.py"), ["script"]),
        (written("src/lib/deep/new.py"), ["script"]),
        (lambda folder: os.rename(folder / "src/lib/model.py", folder / "src/lib/other.py"), ["script"]),
        (lambda folder: os.unlink(folder / "src/score.py"), ["script"]),
        (written(f"src/{SETTINGS_FILE}"), ["script"]),
        (written("src/notes.txt"), []),
        (written("src/.hidden.py"), []),
        (written("src/.git/hook.py"), []),
        (written("src/lib/__pycache__/model.py"), []),
        (lambda folder: write(folder, "src/env/pyvenv.cfg", "src/env/lib/x.py"), []),
        (lambda folder: write(folder, "src/runs/2/.mpibatch/plan", "src/runs/2/x.py"), []),
        (written("labels.txt"), ["arguments", "side_inputs"]),
        (touched("labels.txt"), ["arguments", "side_inputs"]),
        (lambda folder: os.unlink(folder / "labels.txt"), ["arguments", "side_inputs"]),
        (written("model/weights"), ["arguments", "side_inputs"]),
        (touched("model/weights"), ["arguments", "side_inputs"]),
        (written("model/new"), ["arguments", "side_inputs"]),
        (written("model/folder/new"), ["arguments", "side_inputs"]),
        (written("model/vars/part"), []),  # Only what is directly in the folder.
        (written("model/__pycache__/x"), []),
        (written("model/.nfs000"), []),
        (written("data/a"), ["inputs"]),
        (touched("data/b"), ["inputs"]),
        (lambda folder: os.unlink(folder / "data/a"), ["inputs"]),
        (lambda folder: os.utime(folder / "data/a", ns=(0, -1)), ["inputs"]),  # Before 1970.
        (written("data/new"), []),  # The plan is trusted; a new plan says it.
        (written("runs/one/logs/x.py"), []),
        (written("unrelated"), []),
        ({"arguments": ["--rate", "0.2"]}, ["arguments"]),
        ({"arguments": []}, ["arguments"]),
        ({"side_inputs": {}}, ["side_inputs"]),
        ({"side_inputs": {}, "models": {}}, ["side_inputs"]),
        ({"output_action": "summary_only"}, ["output"]),
        ({"append_row_file_name": "other.txt"}, ["output"]),
        ({"append_row": {"sep": ","}}, ["output"]),
        ({"order": "completion"}, ["output"]),
        ({"copy_output_to": "/data/all.txt"}, ["output"]),
        ({"environment_variables": {"OMP_NUM_THREADS": "1"}}, ["settings"]),
        ({"python": "/usr/bin/python3"}, ["settings"]),
        ({"run_max_try": 5, "error_threshold": 3, "logging_level": "DEBUG", "node_count": 2}, []),
        ({"name": "renamed", "job_file": "/other.yaml"}, []),
    ],
)
def test_what_changes_which_part(
    job: Job, plan: Plan, change: Callable[[Path], object] | dict[str, Any], parts: list[str]
) -> None:
    assert changed(job, plan, change) == parts


def test_an_argument_that_holds_the_run_folder(job: Job, plan: Plan, tmp_path: Path) -> None:
    arguments = [str(tmp_path), str(tmp_path / "runs"), job.output, f"--to={job.output}/logs", "a\0b"]
    job = msgspec.structs.replace(job, arguments=arguments)
    assert changed(job, plan, written("runs/one/rows.txt")) == []
    assert changed(job, plan, written("runs/one/logs/x")) == []
    assert changed(job, plan, written("runs/other")) == ["arguments"]
    job = msgspec.structs.replace(job, output=str(tmp_path / "new/one"))
    assert changed(job, plan, written("new/one/rows.txt")) == []


def test_without_a_source_folder_what_lies_beside_the_script_counts(job: Job, plan: Plan) -> None:
    job = msgspec.structs.replace(job, source_directory=None)
    assert changed(job, plan, written("src/helper.py")) == ["script"]
    assert changed(job, plan, written("src/lib/model.py")) == []
    assert changed(job, plan, written("src/lib/__init__.py")) == ["script"]
    assert changed(job, plan, written("src/lib/model.py")) == ["script"]
    assert changed(job, plan, written(f"src/{SETTINGS_FILE}")) == ["script"]


def test_a_dotted_module(job: Job, plan: Plan, tmp_path: Path) -> None:
    write(tmp_path, "src/pkg/main.py", "src/pkg/__init__.py")
    job = msgspec.structs.replace(job, entry_script="pkg.main", entry_is_module=True)
    assert changed(job, plan, written("src/pkg/main.py")) == ["script"]
    assert changed(job, plan, written(f"src/pkg/{SETTINGS_FILE}")) == ["script"]
    package = msgspec.structs.replace(job, entry_script="pkg")
    assert changed(package, plan, written(f"src/pkg/{SETTINGS_FILE}")) == ["script"]


def test_names_that_are_not_utf8(job: Job, plan: Plan, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.py")
    (tmp_path / "src" / name).write_text("x")
    job = msgspec.structs.replace(job, arguments=[str(tmp_path / "src"), name], append_row={"sep": "\udcff"})
    assert changed(job, plan, written(f"src/{name}")) == ["script", "arguments"]


def test_changes_in_words() -> None:
    old = dict.fromkeys(PARTS, "00")
    assert describe_changes(old, old) == []
    assert describe_changes(old, old | {"script": "11", "output": "11"}) == [
        f"the entry script, a Python file of its source folder, or {SETTINGS_FILE}",
        "output_action, append_row_file_name, append_row, append_row_format, add_input_key, order or copy_output_to",
    ]
    assert describe_changes(old, {"script": "00"}) == []
    (text,) = describe_changes({}, {"inputs": "11"})
    assert text == "the size or time of an input file (not noted by the earlier run)"
    assert describe_changes(old | {"later": "0"}, old | {"later": "1"}) == ["later"]


def test_every_part_has_words(job: Job, plan: Plan) -> None:
    new = dict.fromkeys(job_fingerprint(job, plan), "changed")
    assert not set(describe_changes(dict.fromkeys(new, ""), new)) & set(PARTS)
