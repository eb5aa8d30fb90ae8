"""runtime.azure_files and runtime.conversion: files of Azure ML become jobs; what convert prints is the same job."""

from __future__ import annotations

import textwrap
from pathlib import Path

import msgspec
import pytest
import yaml

from mpibatch.core.config import Job, job_warnings
from mpibatch.core.job_inputs import FilesInput
from mpibatch.core.pipeline import Pipeline
from mpibatch.core.tables import CsvOptions, TableInput
from mpibatch.errors import ConfigError
from mpibatch.runtime.azure_files import translated
from mpibatch.runtime.conversion import converted
from mpibatch.runtime.jobfile import load_job, read_mapping
from mpibatch.runtime.pipeline_file import load_any

JOB = """\
$schema: https://azuremlschemas.azureedge.net/latest/parallelJob.schema.json
type: parallel
compute: azureml:cpu
inputs:
  data: {type: uri_folder, path: images}
  model: {type: custom_model, path: model}
  level: 0.5
outputs: {rows: {type: uri_file, path: out/rows.txt}, plots: {type: uri_folder}}
input_data: ${{inputs.data}}
mini_batch_size: "2"
environment_variables: {LEVEL: 0x10}
task:
  type: run_function
  code: src
  entry_script: score.py
  program_arguments: --model ${{inputs.model}}/m.bin --level "${{inputs.level}} ${x}" --plots ${{outputs.plots}}
  append_row_to: ${{outputs.rows}}
  environment: {image: an-image, conda_file: conda.yml}
"""
TABLE = """\
paths: [{folder: ./}]
transformations:
  - read_delimited: {delimiter: ";", header: from_first_file}
  - keep_columns: [a, b]
metadata: {x: y}
"""
OF_TABLE = JOB.replace("{type: uri_folder, path: images}", "{type: mltable, path: tables}").replace(
    '"2"', "10kb"
)
COMPONENT = """\
$schema: https://azuremlschemas.azureedge.net/latest/parallelComponent.schema.json
type: parallel
name: batch_score
version: 1
inputs:
  data: {type: uri_folder, description: what is scored}
  label: {type: string, default: cat}
  extra: {type: uri_file, optional: true}
outputs: {rows: {type: uri_file}}
input_data: ${{inputs.data}}
task:
  type: run_function
  code: .
  entry_script: score.py
  program_arguments: --label ${{inputs.label}} $[[--extra ${{inputs.extra}}]]
  append_row_to: ${{outputs.rows}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("src", "images", "model", "tables"):
        (tmp_path / name).mkdir()
    (tmp_path / "src" / "score.py").write_text("def run(mini_batch):\n    return mini_batch\n")
    (tmp_path / "tables" / "MLTable").write_text(TABLE)
    (tmp_path / "tables" / "a.csv").write_text("a;b\n1;2\n")
    return tmp_path


def load(folder: Path, text: str, *sets: str, name: str = "azure.yml") -> Job:
    file = folder / name
    file.write_text(text)
    return load_job(file, sets=sets)


def words(folder: Path, text: str, *sets: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *sets)
    return str(caught.value)


def test_a_job(folder: Path) -> None:
    job = load(folder, JOB)
    assert job.inputs == [FilesInput(files=[f"{folder}/images"], text="images")]
    assert job.entry_script == f"{folder}/src/score.py"
    assert job.arguments == [
        *("--model", f"{folder}/model/m.bin"),
        *("--level", "0.5 ${x}"),
        *("--plots", f"{folder}/runs/azure/plots"),
    ]
    assert job.copy_output_to == f"{folder}/out/rows.txt"
    assert job.mini_batch_size == 2
    assert job.environment_variables == {"LEVEL": "0x10"}
    assert job_warnings(job) == [
        "left out, as they mean nothing here: task.environment (image, conda_file), compute; what scripts import has"
        " to be installed here, or named by --set environment.conda=NAME"
    ]


@pytest.mark.parametrize(
    ("file", "name"), [("a.yml", "azure-a"), ("1.yml", "azure-1"), ("score.yml", "score")]
)
def test_any_name_of_a_file_makes_a_name(folder: Path, file: str, name: str) -> None:
    assert load(folder, JOB, name=file).name == name
    assert load_job(folder / file, sets=["name=own"]).name == "own"
    assert yaml.safe_load(converted(folder / file))["name"] == name


def test_a_table(folder: Path) -> None:
    job = load(folder, OF_TABLE)
    options = CsvOptions(sep=";", header="first", columns=["a", "b"], multiline=False)
    files = [f"{folder}/tables/**/*.*"]
    assert job.inputs == [TableInput(kind="csv", files=files, text="tables/**/*.*", options=options)]
    assert "inputs.data: MLTable: metadata" in job_warnings(job)[0]
    # The file may be named as well as its folder.
    assert load(folder, OF_TABLE.replace("path: tables", "path: tables/MLTable")).inputs == job.inputs


@pytest.mark.parametrize(
    ("read", "content", "names"),
    [
        ("read_delimited: {header: no_header}", b'1,"x, y",3\n4,5,6\n', ["Column1", "Column2", "Column3"]),
        (
            "read_delimited: {header: no_header, encoding: utf16}",
            "1,2\n".encode("utf-16"),
            ["Column1", "Column2"],
        ),
        ("read_delimited: {header: no_header}", b"\xff,2\n", None),
        ("read_delimited: {header: no_header}", b"", None),
        ("read_delimited: {header: no_header}", b"1," * 40_000, None),
    ],
)
def test_columns_without_a_header(folder: Path, read: str, content: bytes, names: list[str] | None) -> None:
    (folder / "tables" / "MLTable").write_text(f"paths: [{{pattern: ./*.csv}}]\ntransformations: [{read}]\n")
    (folder / "tables" / "a.csv").write_bytes(content)
    (folder / "tables" / "0.csv").touch()
    job = load(folder, OF_TABLE)
    assert isinstance(job.inputs[0], TableInput)
    assert isinstance(job.inputs[0].options, CsvOptions)
    assert job.inputs[0].options.names == names
    assert any("numbered from 0" in line for line in job.remarks) == (names is None)


def test_columns_dropped_from_what_the_files_have(folder: Path) -> None:
    steps = "transformations: [{read_delimited: {delimiter: ;}}, {drop_columns: [a]}]\n"
    (folder / "tables" / "MLTable").write_text("paths: [{file: ./a.csv}]\n" + steps)
    job = load(folder, OF_TABLE)
    assert isinstance(job.inputs[0], TableInput)
    assert job.inputs[0].options == CsvOptions(sep=";", columns=["b"], multiline=False)
    (folder / "tables" / "a.csv").unlink()
    assert "which columns remain is not known" in words(folder, OF_TABLE)


def test_a_component(folder: Path) -> None:
    (folder / "src" / "component.yml").write_text(COMPONENT)
    with pytest.raises(ConfigError, match=r"inputs\.data .* has no path: .*--set inputs\.data\.path=PATH"):
        load_job(folder / "src" / "component.yml")
    sets = ["inputs.data.path=../images", "inputs.label=dog"]
    job = load_job(folder / "src" / "component.yml", sets=sets)
    assert job.arguments == ["--label", "dog"]
    assert job.inputs == [FilesInput(files=[f"{folder}/src/../images"], text="../images")]
    assert job.name == "batch-score"


def test_set_changes_their_keys_and_ours(folder: Path) -> None:
    job = load(
        folder, JOB, "inputs.data.path=other/*.png", "mini_batch_size=7", "process_count_per_node=3", "output=o",
        "retry_settings.timeout=5", "run_invocation_timeout=9", "outputs.rows.path=null", "inputs.level=1e-3",
    )  # fmt: skip
    assert job.inputs == [FilesInput(files=[f"{folder}/other/*.png"], text="other/*.png")]
    assert (job.mini_batch_size, job.process_count_per_node, job.output) == (7, 3, f"{folder}/o")
    assert job.run_invocation_timeout == 9
    assert (job.copy_output_to, job.append_row_file_name) == (None, "rows.txt")


def test_a_misspelled_input_of_set(folder: Path) -> None:
    said = words(folder, JOB, "inputs.levle=1")
    assert (
        "--set inputs.levle: the file has no input levle; it has data, model, level; did you mean level?"
        in said
    )
    assert "the file has no input 0" in words(folder, JOB, "inputs.0.files=images")
    added = load(folder, JOB, "inputs.levle=1", "task.program_arguments=--x ${{inputs.levle}}")
    assert added.arguments == ["--x", "1"]


def test_a_path_needs_no_quotes(folder: Path) -> None:
    assert load(folder, JOB, "inputs.data.path=007").inputs == [
        FilesInput(files=[f"{folder}/007"], text="007")
    ]


def test_errors_name_the_file_and_set(folder: Path) -> None:
    assert words(folder, JOB, "inputs.data.path=azureml:x:1").startswith(
        "azure.yml: inputs.data (from --set) is "
    )
    said = words(folder, OF_TABLE, "inputs.data.path=images")
    assert "there is no file MLTable in images" in said
    assert "--set inputs.data.type=uri_folder" in said
    assert "which cannot be read: No such file" in words(folder, OF_TABLE, "inputs.data.path=nowhere")
    (folder / "tables" / "MLTable").write_text("- a\n")
    assert "an MLTable file is a mapping" in words(folder, OF_TABLE)
    (folder / "tables" / "MLTable").write_text("paths: [\n")
    assert "MLTable: not YAML: line 2" in words(folder, OF_TABLE)
    (folder / "tables" / "MLTable").write_bytes(b"\xff")
    assert "is not UTF-8" in words(folder, OF_TABLE)
    (folder / "tables" / "MLTable").write_text("paths: [{file: a.csv}]\ntransformations: [{take: 3}]\n")
    assert "tables/MLTable: transformations.0 is 3: take cannot be done here" in words(folder, OF_TABLE)


def test_our_own_files_pass_through(folder: Path) -> None:
    own = {"entry_script": "a.py", "inputs": [{"files": "x"}]}
    given = translated("/jobs/a.yaml", own, [("inputs.0.files", "y")])
    assert given.mapping is own
    assert (given.pairs, given.remarks, given.form) == ([("inputs.0.files", "y")], [], None)


@pytest.mark.parametrize("text", [JOB, OF_TABLE, OF_TABLE.replace("10kb", "10kb\npartition_keys: [a]")])
def test_what_convert_prints_is_the_same_job(folder: Path, text: str) -> None:
    sets = ("inputs.level=2", "process_count_per_node=2", "slurm.partition=long")
    job = load(folder, text, *sets)
    printed = converted(folder / "azure.yml", sets=sets)
    same = load(folder, printed, name="own.yaml")
    changed = {"job_file": job.job_file, "remarks": job.remarks}
    assert msgspec.structs.replace(same, **changed) == job
    assert printed.startswith("# The job of azure.yml. Paths are relative to the folder of this file")
    assert "# left out, as they mean nothing here: " in printed
    assert same.remarks == []


def test_what_convert_prints_of_a_pipeline(folder: Path) -> None:
    (folder / "src" / "component.yml").write_text(COMPONENT)
    (folder / "azure.yml").write_text(
        "type: pipeline\njobs:\n  score: {component: src/component.yml, inputs: {data: {path: images}}}\n"
    )
    printed = converted(folder / "azure.yml", sets=["jobs.score.process_count_per_node=2"])
    assert printed.startswith("# The pipeline of azure.yml.")
    assert yaml.safe_load(printed) == {
        "name": "azure",
        "steps": {
            "score": {
                "entry_script": "score.py",
                "source_directory": "src",
                "arguments": ["--label", "cat"],
                "inputs": [{"files": "images"}],
                "append_row_file_name": "rows.txt",
                "process_count_per_node": 2,
            }
        },
    }
    assert read_mapping(str(folder / "azure.yml"))["type"] == "pipeline"


def test_set_below_a_step_is_read_as_below_a_job(folder: Path) -> None:
    (folder / "azure.yml").write_text(
        f"type: pipeline\njobs:\n  score:\n{textwrap.indent(JOB.split('type: parallel')[1], '    ')}"
    )
    sets = [
        "jobs.score.inputs.data.path=007", "jobs.score.environment_variables.LEVEL=0x11",
        "jobs.score.slurm.time=10:00", "jobs.score.concurrency=1", "environment.conda=e",
    ]  # fmt: skip
    made = yaml.safe_load(converted(folder / "azure.yml", sets=sets))
    score = made["steps"]["score"]
    assert score["inputs"] == [{"files": "007"}]
    assert score["environment_variables"] == {"LEVEL": "0x11"}
    assert score["slurm"] == {"time": "10:00"}
    assert score["concurrency"] == 1
    assert made["environment"] == {"conda": "e"}


def test_a_job_s_key_set_for_a_pipeline_is_so_for_each_step(folder: Path) -> None:
    (folder / "src" / "component.yml").write_text(COMPONENT + "resources: {instance_count: 2}\n")
    (folder / "azure.yml").write_text(
        "type: pipeline\njobs:\n  score: {component: src/component.yml, inputs: {data: {path: images}}}\n"
    )
    loaded = load_any(folder / "azure.yml", sets=["node_count=1", "run_max_try=7"])
    assert isinstance(loaded, Pipeline)
    assert [(step.job.node_count, step.job.run_max_try) for step in loaded.steps] == [(1, 7)]


def test_convert_takes_files_of_theirs_only(folder: Path) -> None:
    (folder / "own.yaml").write_text("entry_script: score.py\ninputs: [{files: x}]\n")
    with pytest.raises(ConfigError, match=r"own\.yaml: is a file of mpibatch's own already"):
        converted(folder / "own.yaml")
