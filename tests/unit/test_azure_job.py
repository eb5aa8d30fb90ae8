"""core.azure_job and its rooms: a parallel job of Azure ML's YAML as the mapping of a job file of our own."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from mpibatch.core.azure_inputs import Data, Scope, Value, read_inputs
from mpibatch.core.azure_job import job_mapping, outputs_of
from mpibatch.core.azure_keys import JOB_KEYS, Notes, form_of
from mpibatch.core.azure_part import Part
from mpibatch.core.azure_sets import apply_azure_sets, split_sets
from mpibatch.core.config import parse_job
from mpibatch.core.mltable import Table
from mpibatch.core.settings import Problems
from mpibatch.errors import ConfigError

BASE: dict[str, Any] = {
    "type": "parallel",
    "inputs": {"images": {"type": "uri_folder", "path": "./images"}},
    "outputs": {"rows": {"type": "uri_file"}},
    "input_data": "${{inputs.images}}",
    "task": {
        "type": "run_function",
        "code": "./src",
        "entry_script": "score.py",
        "append_row_to": "${{outputs.rows}}",
    },
}
MADE = {
    "entry_script": "score.py",
    "source_directory": "src",
    "inputs": [{"files": "./images"}],
    "append_row_file_name": "rows.txt",
}
CSV = Table(inputs=[{"csv": "t/a.csv"}], of_rows=True, left_out=["traits"])
FILES = Table(inputs=[{"files": "t/x/"}], of_rows=False)


def with_keys(**keys: Any) -> dict[str, Any]:
    """`BASE` with these instead; `task__x` is below task, None takes a key out."""
    made: dict[str, Any] = {**BASE, "task": dict(BASE["task"])}
    for key, value in keys.items():
        upper, _, lower = key.partition("__")
        place, name = (made[upper], lower) if lower else (made, upper)
        place[name] = value
        if value is None:
            del place[name]
    return made


def translate(mapping: dict[str, Any], table: Table = CSV) -> tuple[dict[str, Any], list[str]]:
    """The mapping, and what was left out. Also that a job can be made of it."""
    notes = Notes(Problems("azure.yml"))
    part = Part(prefix="", keys=mapping, legal=JOB_KEYS)
    made = job_mapping(notes, part, outputs_of(notes, part), Scope(), lambda folder, key, keys: table)
    notes.problems.stop()
    parse_job(made, job_file="/jobs/azure.yml")
    return made, notes.left_out


def words(mapping: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        translate(mapping)
    assert str(caught.value).startswith("azure.yml: ")
    return str(caught.value)


def test_a_small_job() -> None:
    assert translate(BASE) == (MADE, [])


KEYS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"mini_batch_size": "5"}, {"mini_batch_size": 5}),
    ({"mini_batch_size": 5}, {"mini_batch_size": 5}),
    ({"resources": {"instance_count": 2}}, {"node_count": 2}),
    ({"max_concurrency_per_instance": 3}, {"process_count_per_node": 3}),
    ({"error_threshold": 10}, {"error_threshold": 10}),
    ({"mini_batch_error_threshold": "5"}, {"mini_batch_error_threshold": 5}),
    ({"retry_settings": {"max_retries": 2, "timeout": 60}}, {"run_max_try": 3, "run_invocation_timeout": 60}),
    ({"retry_settings": {"max_retries": "0"}}, {"run_max_try": 1}),
    ({"logging_level": "WARN"}, {"logging_level": "WARNING"}),
    ({"logging_level": "debug"}, {"logging_level": "DEBUG"}),
    ({"is_deterministic": False}, {"allow_reuse": False}),
    ({"environment_variables": {"A": 5, "B": "x"}}, {"environment_variables": {"A": 5, "B": "x"}}),
    ({"name": "batch_score"}, {"name": "batch-score"}),
    ({"display_name": "Score it"}, {"name": "score-it"}),
    ({"inputs": {"images": {"path": "a", "mode": "download"}}}, {"inputs": [{"files": "a", "mode": "download"}]}),
    ({"inputs": {"images": {"type": "uri_file", "path": "file:///a/b.png"}}}, {"inputs": [{"files": "/a/b.png"}]}),
    ({"task__code": None}, {"source_directory": None}),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "want"), KEYS)
def test_keys(keys: dict[str, Any], want: dict[str, Any]) -> None:
    made, left_out = translate(with_keys(**keys))
    assert made == {key: value for key, value in {**MADE, **want}.items() if value is not None}
    assert left_out == []


def test_an_empty_key_is_not_given() -> None:
    assert translate({**BASE, "mini_batch_size": None, "compute": None, "resources": None}) == (MADE, [])


def test_a_declared_input_may_be_bound_to_a_path_alone() -> None:
    spec = {"type": "uri_file", "default": "x", "optional": True}
    scope = Scope()
    notes = Notes(Problems("a.yml"))
    assert read_inputs(notes.problems, "", {"x": "y/z"}, {"x": spec}, scope) == {
        "x": Data(type="uri_file", path="y/z")
    }
    assert read_inputs(notes.problems, "", {}, {"x": spec}, scope) == {"x": Data(type="uri_file", path="x")}
    assert notes.problems.lines == []


LITERALS: list[tuple[Any, dict[str, Any], str | None]] = [
    (5, {"type": "integer", "min": 5, "max": "5"}, None),
    ("5", {"type": "Integer", "enum": [5]}, None),
    ("x", {"type": "integer"}, 'its type is integer, and "x" is no whole number'),
    (2.5, {"type": "integer"}, "2.5 is no whole number"),
    (True, {"type": "number"}, "true is no number"),
    ("9.5", {"type": "number", "max": 9}, "9.5 is more than its max, 9"),
    (0, {"type": "integer", "min": "1"}, '0 is less than its min, "1"'),
    ("TRUE", {"type": "boolean"}, None),
    ("yes", {"type": "boolean"}, '"yes" is neither true nor false'),
    (
        "ctas",
        {"type": "string", "enum": ["cats", "dogs"]},
        "is none of its enum: cats, dogs; did you mean cats?",
    ),
    (5, {"type": "uri_folder"}, "its type is uri_folder, and 5 is no data"),
]


@pytest.mark.parametrize(("value", "spec", "said"), LITERALS)
def test_literals_are_as_declared(value: Any, spec: dict[str, Any], said: str | None) -> None:
    notes = Notes(Problems("a.yml"))
    read = read_inputs(notes.problems, "", {"n": value}, {"n": spec}, Scope())
    if said is None:
        assert (notes.problems.lines, read) == ([], {"n": Value(value)})
    else:
        assert said in notes.problems.lines[0]


def test_tables() -> None:
    inputs = {"images": {"type": "mltable", "path": "t", "mode": "direct"}}
    made, left_out = translate(with_keys(inputs=inputs, mini_batch_size="10kb"))
    assert (made["inputs"], made["mini_batch_size"]) == ([{"csv": "t/a.csv"}], "10kb")
    assert left_out == ["inputs.images: MLTable: traits"]


def test_partition_keys_win() -> None:
    inputs = {"images": {"type": "mltable", "path": "t"}}
    made, left_out = translate(with_keys(inputs=inputs, mini_batch_size="10kb", partition_keys=["a"]))
    assert made["partition_keys"] == ["a"]
    assert made["shuffle"] is True
    assert made["isolate_failures"] is False
    assert "mini_batch_size" not in made
    assert "mini_batch_size (partition_keys win)" in left_out
    hive = Table(inputs=[{"parquet": "t/x/"}], of_rows=True, keys_in_path=["a"])
    assert "shuffle" not in translate(with_keys(inputs=inputs, partition_keys=["a"]), hive)[0]
    formats = Table(inputs=[{"files": "t/{a}.wav"}], of_rows=False)
    assert "shuffle" not in translate(with_keys(inputs=inputs, partition_keys=["a"]), formats)[0]
    assert "must be an mltable" in words(with_keys(partition_keys=["a"]))


def test_an_mltable_of_files_may_be_downloaded() -> None:
    inputs = {"images": {"type": "mltable", "path": "t", "mode": "eval_download"}}
    made, left_out = translate(with_keys(inputs=inputs, mini_batch_size="2"), FILES)
    assert made["inputs"] == [{"files": "t/x/", "mode": "download"}]
    assert made["mini_batch_size"] == 2
    assert left_out == []
    assert translate(with_keys(inputs=inputs), CSV)[1] == [
        "inputs.images.mode", "inputs.images: MLTable: traits",
    ]  # fmt: skip


ARGUMENTS = [
    ("--model ${{inputs.model}}", ["--model", "${side_inputs.model}"]),
    ("--model=${{inputs.model}}/m.bin", ["--model=${side_inputs.model}/m.bin"]),
    ("--n ${{inputs.n}} --flag ${{inputs.flag}}", ["--n", "0.5", "--flag", "True"]),
    ("--text ${{inputs.text}}", ["--text", "a b $${x}"]),
    ("'--one ${{inputs.n}}' $${y} ${z}", ["--one 0.5", "$$${y}", "$${z}"]),
    ("${{outputs.models}} ${{outputs.log}}", ["${side_outputs.models}", "${side_outputs.log}/log"]),
    ("--a 1 $[[--b ${{inputs.none}}]] $[[--c ${{inputs.n}}]]", ["--a", "1", "--c", "0.5"]),
]  # fmt: skip
MORE = {
    "inputs": {
        "images": {"path": "images"},
        "model": {"type": "mlflow_model", "path": "./model"},
        "n": 0.5,
        "flag": True,
        "text": "a b ${x}",
        "none": {"type": "string", "optional": True},
        "nothing": {"type": "uri_folder", "optional": True},
    },
    "outputs": {"rows": None, "models": None, "log": {"type": "uri_file"}},
}


@pytest.mark.parametrize(("text", "want"), ARGUMENTS)
def test_arguments(text: str, want: list[str]) -> None:
    made, left_out = translate(with_keys(**MORE, task__program_arguments=text))
    assert made["arguments"] == want
    assert made["side_inputs"] == {"model": "./model"}
    assert left_out == []


def test_an_argument_means_what_was_written() -> None:
    made, _ = translate(with_keys(**MORE, task__program_arguments="'$${y}' ${{inputs.text}} ${z}"))
    assert parse_job(made, job_file="/jobs/azure.yml").arguments == ["$${y}", "a b ${x}", "${z}"]


def test_the_input_that_is_cut_is_a_side_input_only_where_it_is_named() -> None:
    made, _ = translate(with_keys(task__program_arguments="--all ${{inputs.images}}"))
    assert made["side_inputs"] == {"images": "./images"}


ROWS = {"append_row_file_name": "rows.txt"}
IN_FOLDER = "parallel_run_step.txt"
OUTPUTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"rows": None}, ROWS),
    (
        {"rows": {"path": "o/a.csv", "type": "uri_file"}},
        {"append_row_file_name": "a.csv", "copy_output_to": "o/a.csv"},
    ),
    ({"rows": {"path": "o/a.csv"}}, {"append_row_file_name": "a.csv", "copy_output_to": "o/a.csv"}),
    (
        {"rows": {"type": "uri_folder", "path": "out/"}},
        {"append_row_file_name": IN_FOLDER, "copy_output_to": f"out/{IN_FOLDER}"},
    ),
    ({"rows": {"type": "mltable"}}, {"append_row_file_name": IN_FOLDER}),
    ({"rows": {}, "m": {"path": "./m", "mode": "rw_mount"}}, {**ROWS, "side_outputs": {"m": "./m"}}),
    ({"rows": {}, "m": {"type": "uri_file", "path": "x/m.json"}}, {**ROWS, "side_outputs": {"m": "x"}}),
]


@pytest.mark.parametrize(("outputs", "want"), OUTPUTS)
def test_outputs(outputs: dict[str, Any], want: dict[str, Any]) -> None:
    made, _ = translate(with_keys(outputs=outputs))
    keys = ("append_row_file_name", "copy_output_to", "side_outputs", "output_action")
    assert {key: made[key] for key in keys if key in made} == want


def test_without_append_row_to_there_are_no_rows() -> None:
    made, _ = translate(with_keys(outputs={"m": None}, task__append_row_to=None))
    assert made["output_action"] == "summary_only"
    assert made["side_outputs"] == {"m": None}


def test_mini_batches_without_data() -> None:
    keys = {"inputs": None, "input_data": None, "task__program_arguments": "--rank_mini_batch_count 3"}
    made, _ = translate(with_keys(**keys))
    assert "inputs" not in made
    assert len(parse_job(made, job_file="/jobs/azure.yml").inputs) == 1


def test_what_means_nothing_is_listed() -> None:
    made, left_out = translate(
        {
            **BASE,
            "compute": "azureml:cpu",
            "tags": {"a": "b"},
            "display_name": "score",
            "name": "score-me",
            "version": 3,
            "resources": {"instance_count": 1, "instance_type": "D2"},
            "inputs": {**BASE["inputs"], "model": {"path": "m", "mode": "download", "datastore": "x"}},
            "task": {**BASE["task"], "environment": {"image": "x", "conda_file": "c.yml"}},
        }
    )
    assert made["name"] == "score-me"
    assert sorted(left_out) == sorted(
        ["compute", "tags", "display_name", "version", "resources.instance_type", "inputs.model.mode",
         "inputs.model.datastore", "task.environment (image, conda_file)"]
    )  # fmt: skip


def test_it_is_one_sentence_with_a_way_out() -> None:
    notes = Notes(Problems("a.yml"))
    assert notes.remark() == []
    notes.left_out = ["compute", "compute", "tags"]
    assert notes.remark() == ["left out, as they mean nothing here: compute, tags"]
    notes.of_environment = True
    assert "--set environment.conda=NAME" in notes.remark()[0]


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"mini_batch_sise": 5}, "mini_batch_sise", "did you mean mini_batch_size?"),
    ({"process_count_per_node": 5}, "process_count_per_node", "--set process_count_per_node=..."),
    ({"entry_script": "a.py"}, "entry_script", "it is task.entry_script"),
    ({"inputs": {"images": {"path": "azureml:mnist:1"}}}, "inputs.images", "--set inputs.images.path=PATH"),
    ({"inputs": {"images": "https://a.net/x"}}, "inputs.images", "--set inputs.images.path=PATH"),
    ({"inputs": {"images": {"type": "uri_folder"}}}, "has no path", "--set inputs.images.path=PATH"),
    ({"inputs": {"images": {"type": "integer"}}}, "has no value", "--set inputs.images=VALUE"),
    ({"inputs": {"images": {"type": "uri_foldr", "path": "a"}}}, "must be one of", "did you mean uri_folder?"),
    ({"inputs": {"images": {"path": "a", "mode": "copy"}}}, "must be one of", "ro_mount"),
    ({"inputs": {"images": {"pat": "a"}}}, 'no key "pat"', "did you mean path?"),
    ({"inputs": {"images": ["a"]}}, "must be a literal or data", "uri_folder"),
    ({"inputs": {"images": "a"}}, "inputs.images", "--set inputs.images.path=PATH"),
    ({"inputs": True}, "inputs is true", "must be a mapping"),
    ({"inputs": {"images": {"path": ".\\data"}}}, "inputs.images", "here it is /"),
    ({"component": "a.yml"}, "component", "the component's own file"),
    ({"inputs": {"images": "${{parent.inputs.x}}"}}, "cannot stand here", "the value itself"),
    ({"inputs": {"images": {"optional": True}}}, "has no value", "--set inputs.images.path=PATH"),
    ({"outputs": {"rows": {"path": "azureml://datastores/x"}}}, "outputs.rows", "--set outputs.rows.path=null"),
    ({"outputs": {"rows": {"mode": "ro_mount"}}}, "must be one of", "rw_mount"),
    ({"outputs": {"row": None}}, "names the output rows", "did you mean row?"),
    ({"input_data": None}, "input_data is missing", "${{inputs.data}}"),
    ({"input_data": "images"}, "must name an input", "${{inputs.data}}"),
    ({"input_data": "${{inputs.image}}"}, "no input image", "did you mean images?"),
    ({"task__append_row_to": "rows.txt"}, "task.append_row_to", "${{outputs.rows}}"),
    ({"task__entry_script": None}, "task.entry_script is missing", "run(mini_batch)"),
    ({"task__type": "model"}, "task.type", "write an entry script"),
    ({"task__code": "azureml:code:1"}, "task.code", "--set task.code=PATH"),
    ({"task__program_arguments": ["--a"]}, "task.program_arguments", "must be one text"),
    ({"task__program_arguments": "--a ${{inputs.imags}}"}, "no input imags", "did you mean images?"),
    ({"task__program_arguments": "--a ${{outputs.model}}"}, "no output model", "task.program_arguments"),
    ({"task__program_arguments": "--a ${{outputs.rows}}"}, "mpibatch writes it", "another output"),
    ({"task__program_arguments": "--a ${{parent.inputs.x}}"}, "bind an input", "${{inputs.x}}"),
    ({"task__program_arguments": "--a 'b"}, "task.program_arguments", "not closed"),
    ({"task__entry_scrip": "a.py"}, "task.entry_scrip", "did you mean entry_script?"),
    ({"resources": {"instance_cout": 2}}, "resources.instance_cout", "did you mean instance_count?"),
    ({"resources": {"instance_count": 0}}, "resources.instance_count is 0", "from 1"),
    ({"retry_settings": {"max_retries": -2}}, "retry_settings.max_retries is -2", "from 0"),
    ({"retry_settings": {"timeout": "1 minute"}}, "retry_settings.timeout", "seconds"),
    ({"max_concurrency_per_instance": "x"}, "max_concurrency_per_instance", "whole number"),
    ({"logging_level": "LOUD"}, "logging_level", "DEBUG"),
    ({"task": None}, "task is empty", "must be a mapping"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "what", "way"), WRONG)
def test_what_is_wrong_is_told_with_its_key(keys: dict[str, Any], what: str, way: str) -> None:
    said = words(with_keys(**keys) if "task" not in keys else {k: v for k, v in BASE.items() if k != "task"})
    assert what in said
    assert way in said


def test_all_that_is_wrong_is_told_at_once() -> None:
    said = words(with_keys(logging_level="LOUD", input_data="x", outputs={"rows": 5}))
    assert "3 things are wrong" in said


FORMS = [
    ("type: parallel", "job"),
    ("task: {}\ninput_data: x", "job"),
    ("type: pipeline\njobs: {}", "pipeline"),
    ("$schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json\njobs: {}", "pipeline"),
    ("entry_script: a.py\ninputs: [{files: a}]", None),
    ("steps: {}", None),
    ("type: file", None),
    ("task: {}", None),
]


@pytest.mark.parametrize(("text", "form"), FORMS)
def test_their_files_are_told_from_ours(text: str, form: str | None) -> None:
    assert form_of(yaml.safe_load(text), "a.yml") == form


def test_other_kinds_of_theirs_are_refused() -> None:
    for text in (
        "type: command",
        "$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json",
    ):
        with pytest.raises(
            ConfigError, match=r"a\.yml: is a file of Azure ML .* mpibatch runs type: parallel"
        ):
            form_of(yaml.safe_load(text), "a.yml")


def test_sets_go_to_the_file_or_to_the_job() -> None:
    own_keys = ["slurm.partition", "process_count_per_node", "environment.conda"]
    their_keys = ["inputs.a.path", "mini_batch_size", "nonsense", "task.code", "jobs.a.slurm"]
    pairs: list[tuple[str, Any]] = [(key, 1) for key in (*own_keys, *their_keys)]
    theirs, own = split_sets(pairs, "job")
    assert [key for key, _ in own] == own_keys
    assert [key for key, _ in theirs] == their_keys


def test_sets_go_to_the_pipeline_or_its_steps() -> None:
    pairs: list[tuple[str, Any]] = [
        ("jobs.a.inputs.x.path", "x"),
        ("jobs.a.process_count_per_node", 2),
        ("jobs.a", None),
        ("steps.a.cpus", "none"),
        ("output", "o"),
        ("settings.force_rerun", True),
        ("mini_batch_size", 3),
    ]
    theirs, own = split_sets(pairs, "pipeline")
    assert own == [
        ("steps.a.process_count_per_node", 2),
        ("steps.a.cpus", "none"),
        ("output", "o"),
        ("mini_batch_size", 3),
    ]
    assert theirs == [pairs[0], pairs[2], pairs[5]]


def test_a_path_takes_the_place_of_an_expression() -> None:
    file = {
        "inputs": {"a": "${{parent.inputs.x}}", "b": {"path": "${{parent.inputs.y}}", "type": "uri_file"}}
    }
    changed = apply_azure_sets(file, [("inputs.a.path", "d"), ("inputs.b.path", "e")])
    assert changed == {"inputs": {"a": {"path": "d"}, "b": {"path": "e", "type": "uri_file"}}}
    typed = apply_azure_sets(file, [("inputs.a.type", "uri_file")])
    assert typed["inputs"]["a"] == {"path": "${{parent.inputs.x}}", "type": "uri_file"}
