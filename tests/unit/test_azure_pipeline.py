"""core.azure_pipeline: a pipeline of Azure ML's YAML as the mapping of a pipeline file of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from mpibatch.core.azure_keys import Notes
from mpibatch.core.azure_pipeline import Readers, pipeline_mapping
from mpibatch.core.mltable import Table
from mpibatch.core.pipeline import read_pipeline
from mpibatch.core.settings import Problems
from mpibatch.errors import ConfigError

TWO = """
type: pipeline
display_name: Two steps
settings: {default_compute: "azureml:cpu"}
inputs:
  images: {type: uri_folder, path: ./images}
  size: 4
  label: cat
outputs:
  sums: {type: uri_file, path: out/sums.txt}
jobs:
  score:
    type: parallel
    compute: azureml:cpu
    inputs: {data: "${{parent.inputs.images}}", label: "a ${{parent.inputs.label}}"}
    outputs: {rows: {type: uri_file}, models: }
    input_data: ${{inputs.data}}
    mini_batch_size: ${{parent.inputs.size}}
    environment_variables: {LABEL: "${{parent.inputs.label}}s"}
    task:
      type: run_function
      code: src
      entry_script: score.py
      program_arguments: --label ${{inputs.label}} --models ${{outputs.models}}
      append_row_to: ${{outputs.rows}}
  add:
    type: parallel
    inputs:
      rows: {type: uri_file, path: "${{parent.jobs.score.outputs.rows}}", mode: download}
      models: ${{parent.jobs.score.outputs.models}}
    outputs: {sums: "${{parent.outputs.sums}}"}
    input_data: ${{inputs.rows}}
    task: {type: run_function, entry_script: add.py, program_arguments: "${{inputs.models}}",
           append_row_to: "${{outputs.sums}}"}
"""
COMPONENT = """
type: parallel
name: score
version: 2
inputs:
  data: {type: uri_folder}
  label: {type: string, default: dog}
  size: {type: integer, optional: true}
outputs: {rows: {type: uri_file}}
input_data: ${{inputs.data}}
max_concurrency_per_instance: 2
retry_settings: {max_retries: 1, timeout: 5}
resources: {instance_count: 2}
task:
  type: run_function
  code: ./src
  entry_script: score.py
  program_arguments: --label ${{inputs.label}} $[[--size ${{inputs.size}}]]
  append_row_to: ${{outputs.rows}}
"""
BY_FILE = """
type: pipeline
jobs:
  score:
    component: ./parts/score.yml
    inputs: {data: {path: ./images}}
    retry_settings: {timeout: 7}
"""


def translate(text: str, component: str = COMPONENT) -> tuple[dict[str, Any], Notes]:
    """Also that our own reader takes what comes out."""
    notes = Notes(Problems("azure.yml"))

    def read(path: str, key: str) -> Mapping[Any, Any]:
        assert (path, key) == ("./parts/score.yml", "jobs.score.component")
        found: Mapping[Any, Any] = yaml.safe_load(component)
        return found

    def table(folder: str, key: str, partition_keys: list[str]) -> Table:
        return Table(inputs=[{"csv": f"{folder}/a.csv"}], of_rows=True)

    made = pipeline_mapping(notes, yaml.safe_load(text), Readers(component=read, mltable=table))
    notes.problems.stop()
    read_pipeline(made, file="/jobs/azure.yml")
    return made, notes


def words(text: str, component: str = COMPONENT) -> str:
    with pytest.raises(ConfigError) as caught:
        translate(text, component)
    return str(caught.value)


def test_two_steps() -> None:
    made, notes = translate(TWO)
    assert made == {
        "name": "two-steps",
        "steps": {
            "score": {
                "entry_script": "score.py",
                "source_directory": "src",
                "arguments": ["--label", "a cat", "--models", "${side_outputs.models}"],
                "inputs": [{"files": "./images"}],
                "mini_batch_size": 4,
                "append_row_file_name": "rows.txt",
                "side_outputs": {"models": None},
                "environment_variables": {"LABEL": "cats"},
            },
            "add": {
                "entry_script": "add.py",
                "arguments": ["${side_inputs.models}"],
                "inputs": [{"files": "${steps.score.output}", "mode": "download"}],
                "side_inputs": {"models": "${steps.score.side_outputs.models}"},
                "append_row_file_name": "sums.txt",
                "copy_output_to": "out/sums.txt",
            },
        },
    }
    assert notes.left_out == ["settings.default_compute", "jobs.score.compute"]


def test_a_step_by_a_component_file() -> None:
    made, notes = translate(BY_FILE)
    assert made["steps"]["score"] == {
        "entry_script": "score.py",
        "source_directory": "parts/src",
        "arguments": ["--label", "dog"],
        "inputs": [{"files": "./images"}],
        "append_row_file_name": "rows.txt",
        "process_count_per_node": 2,
        "node_count": 2,
        "run_max_try": 2,
        "run_invocation_timeout": 7,
    }
    assert notes.left_out == []


def test_a_component_says_what_its_inputs_are() -> None:
    made, _ = translate(BY_FILE, COMPONENT.replace("{type: uri_folder}", "{type: mltable}"))
    assert made["steps"]["score"]["inputs"] == [{"csv": "./images/a.csv"}]
    given = BY_FILE.replace("{data: {path: ./images}}", "{data: ./images, size: 3}")
    made, _ = translate(given)
    assert made["steps"]["score"]["inputs"] == [{"files": "./images"}]
    assert made["steps"]["score"]["arguments"] == ["--label", "dog", "--size", "3"]


def test_a_component_within_the_file() -> None:
    step = {"component": yaml.safe_load(COMPONENT), "inputs": {"data": {"path": "x"}, "size": 3}}
    made, _ = translate(yaml.safe_dump({"type": "pipeline", "jobs": {"score": step}}))
    assert made["steps"]["score"]["arguments"] == ["--label", "dog", "--size", "3"]
    assert made["steps"]["score"]["source_directory"] == "src"


def test_a_file_among_the_outputs() -> None:
    text = TWO.replace("models: }", "models: {type: uri_file, path: m/a.bin}}")
    made, _ = translate(text)
    assert made["steps"]["score"]["side_outputs"] == {"models": "m"}
    assert made["steps"]["score"]["arguments"][-1] == "${side_outputs.models}/a.bin"
    assert made["steps"]["add"]["side_inputs"] == {"models": "${steps.score.side_outputs.models}/a.bin"}


def test_force_rerun() -> None:
    made, _ = translate(TWO.replace("settings: {", "settings: {force_rerun: true, "))
    assert [step["allow_reuse"] for step in made["steps"].values()] == [False, False]


def test_steps_may_be_left_out() -> None:
    text = TWO.replace("  add:", "  more: null\n  add:")
    made, notes = translate(text)
    assert list(made["steps"]) == ["score", "add"]
    assert "jobs.more" in notes.left_out
    said = words(TWO.replace("jobs.score.", "jobs.more.").replace("  add:", "  more: null\n  add:"))
    assert "step more is left out: say where what it makes is by --set jobs.add.inputs.rows.path=PATH" in said


OTHER = TWO.replace("  score:\n    type: parallel", "  score:\n    type: command")


def test_other_steps_are_refused_with_what_to_do() -> None:
    said = words(OTHER)
    assert said.startswith('azure.yml: jobs.score is {"type": "command"')
    assert "mpibatch runs parallel steps only" in said
    assert "--set jobs.score=null" in said
    assert "--set jobs.add.inputs.rows.path=PATH --set jobs.add.inputs.models.path=PATH" in said


WRONG = [
    (TWO.replace("score.outputs.rows", "scor.outputs.rows"), "no step scor", "did you mean score?"),
    (TWO.replace("score.outputs.rows", "score.outputs.row"), "no output row", "it has rows, models; did you"),
    (TWO.replace("parent.inputs.images", "parent.inputs.image"), "no input image", "did you mean images?"),
    (TWO.replace("parent.inputs.size", "parent.inputs.images"), "jobs.score.mini_batch_size", "names data"),
    (TWO.replace("parent.outputs.sums", "parent.outputs.sum"), "no output sum", "did you mean sums?"),
    (TWO.replace("path: ./images", "path: azureml:images:1"), "inputs.images is", "--set inputs.images.path=PATH"),
    (TWO.replace("{type: uri_file, path: \"${{parent", "{type: mltable, path: \"${{parent"),
     "is not known before", "--set jobs.add.inputs.rows.type=uri_folder"),
    (TWO.replace("compute: azureml:", "comput: azureml:"), "jobs.score.comput", "did you mean compute?"),
    (TWO.replace("jobs:", "job:"), "job is", "did you mean jobs?"),
    (TWO.replace("settings: {", "settings: {force_rerum: true, "), "settings.force_rerum", "mean force_rerun?"),
    ("type: pipeline\njobs: {}", "jobs has no step", "type: parallel"),
    ("type: pipeline\njobs: {a: 5}", "jobs.a is 5", "must be a mapping"),
    (BY_FILE.replace("{data: {path: ./images}}", "{dat: {path: x}}"), "no such input", "did you mean data?"),
    (BY_FILE.replace("./parts/score.yml", "azureml:score:1"), "jobs.score", "--set jobs.score.component=PATH"),
    (BY_FILE.replace("score:\n", "score:\n    outputs: {row: }\n"), "the component has no such output", "rows?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "what", "way"), WRONG)
def test_what_is_wrong_is_told_with_its_key(text: str, what: str, way: str) -> None:
    said = words(text)
    assert what in said
    assert way in said


def test_a_component_of_another_kind() -> None:
    assert 'a step of type "command"' in words(BY_FILE, COMPONENT.replace("type: parallel", "type: command"))


def test_errors_of_all_steps_are_told_at_once() -> None:
    said = words(
        TWO.replace("entry_script: add.py", "entry_scrip: add.py").replace("--label ${{", "--label ${{in")
    )
    assert "jobs.score.task.program_arguments" in said
    assert "jobs.add.task.entry_scrip" in said
