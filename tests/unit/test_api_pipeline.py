"""Steps become a pipeline file of our own: what stands in it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mpibatch.api import (
    ApiError,
    Dataset,
    OutputFileDatasetConfig,
    ParallelRunConfig,
    ParallelRunStep,
    Pipeline,
    PipelineData,
    PipelineParameter,
    SlurmCompute,
    Workspace,
)
from mpibatch.errors import ConfigError, MpibatchError
from mpibatch.runtime.pipeline_file import load_any


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "score.py").write_text("def run(mini_batch):\n    return mini_batch\n")
    (tmp_path / "a.txt").touch()
    (tmp_path / "t.csv").write_text("x\n1\n")
    return Workspace.create("tests", path=tmp_path)


def step(workspace: Workspace, name: str, inputs: Any = None, **keys: Any) -> ParallelRunStep:
    settings = keys.pop("settings", {})
    config = ParallelRunConfig(entry_script="score.py", source_directory=workspace.folder, **settings)
    if inputs is None:
        inputs = Dataset.File.from_files(f"{workspace.folder}/a.txt")
    return ParallelRunStep(name, config, inputs, **keys)


def written(
    pipeline: Pipeline, parameters: dict[str, Any] | None = None, *, anew: bool = True
) -> dict[str, Any]:
    """The pipeline file's steps. It is one that can be loaded."""
    folder = Path(pipeline.workspace.folder) / "run-1"
    folder.mkdir(exist_ok=True)
    pipeline.write(folder / "pipeline.yaml", parameters, Path("/shared"), anew=anew)
    steps: dict[str, Any] = json.loads((folder / "pipeline.yaml").read_text())["steps"]
    return steps


def test_rows_of_a_step_are_read_by_the_next_one(workspace: Workspace) -> None:
    rows = PipelineData("rows")
    first = step(workspace, "first", output=rows)
    steps = written(Pipeline(workspace, [step(workspace, "second", rows), [first]]))
    assert list(steps) == ["first", "second"]
    assert steps["second"]["inputs"] == [{"files": "${steps.first.output}"}]
    assert "side_outputs" not in steps["first"]


def test_rows_are_read_as_a_table(workspace: Workspace) -> None:
    rows = OutputFileDatasetConfig("rows")
    first = step(workspace, "first", output=rows, arguments=["--to", rows])
    second = step(workspace, "second", rows.read_delimited_files(separator=" "))
    (element,) = written(Pipeline(workspace, [first, second]))["second"]["inputs"]
    assert (element["csv"], element["sep"]) == ("${steps.first.output}", " ")


def test_what_is_wanted_as_a_path_is_a_folder_with_the_rows_in_it(workspace: Workspace) -> None:
    rows = PipelineData("rows")
    first = step(workspace, "first", output=rows)
    second = step(workspace, "second", side_inputs=[rows.as_input("of_first")], arguments=["--rows", rows])
    steps = written(Pipeline(workspace, [first, second]))
    assert steps["first"]["side_outputs"] == {"rows": None}
    folder = steps["first"]["output"]
    assert steps["first"]["copy_output_to"] == f"{folder}/rows/parallel_run_step.txt"
    assert steps["second"]["side_inputs"] == {"of_first": "${steps.first.side_outputs.rows}"}
    assert steps["second"]["arguments"] == ["--rows", "${steps.first.side_outputs.rows}"]


def test_a_script_gets_its_own_outputs_folder(workspace: Workspace) -> None:
    made, more = (
        PipelineData("made"),
        OutputFileDatasetConfig("more", destination="/tmp/{run-id}/{output-name}"),
    )
    only = step(workspace, "only", output=made, arguments=["--made", made, more],
                settings={"output_action": "summary_only"})  # fmt: skip
    second = step(workspace, "second", made)
    steps = written(Pipeline(workspace, [only, second]))
    assert steps["only"]["side_outputs"] == {"made": None, "more": "/tmp/run-1/more"}
    assert steps["only"]["arguments"] == ["--made", "${side_outputs.made}", "${side_outputs.more}"]
    assert steps["second"]["inputs"] == [{"files": "${steps.only.side_outputs.made}/"}]


def test_a_side_input_is_named_in_the_arguments(workspace: Workspace) -> None:
    labels = Dataset.File.from_files(f"{workspace.folder}/a.txt").as_named_input("labels").as_mount()
    steps = written(
        Pipeline(workspace, [step(workspace, "one-step", side_inputs=labels, arguments=["-l", labels, 3])])
    )
    assert steps["one-step"]["side_inputs"] == {"labels": f"{workspace.folder}/a.txt"}
    assert steps["one-step"]["arguments"] == ["-l", "${side_inputs.labels}", "3"]


def test_parameters_are_filled_in_everywhere(workspace: Workspace) -> None:
    files = Dataset.File.from_files(f"{workspace.folder}/a.txt")
    other = Dataset.File.from_files(f"{workspace.folder}/t.csv")
    data, word, size = (
        PipelineParameter("data", files),
        PipelineParameter("word", "w"),
        PipelineParameter("size", 2),
    )
    made = step(workspace, "one-step", [data], arguments=["-w", word], settings={"mini_batch_size": size})
    pipeline = Pipeline(workspace, [made])
    default = written(pipeline)["one-step"]
    assert (default["inputs"], default["arguments"], default["mini_batch_size"]) == (
        [files.job_input()], ["-w", "w"], 2,
    )  # fmt: skip
    given = written(pipeline, {"data": other, "word": 5, "size": "1"})["one-step"]
    assert (given["inputs"], given["arguments"], given["mini_batch_size"]) == (
        [other.job_input()],
        ["-w", "5"],
        1,
    )
    with pytest.raises(ApiError, match='has no parameter "sice"; did you mean size'):
        written(pipeline, {"sice": 1})


def test_a_step_that_may_be_reused_has_a_folder_by_what_it_does(workspace: Workspace) -> None:
    rows = PipelineData("rows")

    def folders(size: int, processes: int, *, reuse: bool = True) -> list[str]:
        settings = {"mini_batch_size": size, "process_count_per_node": processes}
        first = step(workspace, "first", output=rows, settings=settings, allow_reuse=reuse)
        steps = written(Pipeline(workspace, [first, step(workspace, "second", rows)]), anew=False)
        return [steps[name]["output"] for name in ("first", "second")]

    assert folders(1, 1) == folders(1, 2)
    assert all(folder.startswith("/shared/") for folder in folders(1, 1))
    # What takes its data is another, too.
    assert not set(folders(1, 1)) & set(folders(2, 1))
    assert folders(1, 1, reuse=False)[0] == f"{workspace.folder}/run-1/pipeline/first"


def test_slurm_is_for_the_whole_pipeline(workspace: Workspace) -> None:
    target = SlurmCompute(partition="long", time=30)
    on_slurm = step(workspace, "one-step", settings={"compute_target": target, "node_count": 2})
    pipeline = Pipeline(workspace, [on_slurm])
    assert written(pipeline)["one-step"]["node_count"] == 2
    loaded = load_any(Path(workspace.folder) / "run-1" / "pipeline.yaml")
    assert loaded.steps[0].job.slurm.partition == "long"  # type: ignore[union-attr]
    with pytest.raises(
        ApiError, match=r"step one-step has compute_target SlurmCompute.*, and step here local"
    ):
        Pipeline(workspace, [on_slurm, step(workspace, "here")])


def test_on_this_machine_there_is_one_node(workspace: Workspace) -> None:
    assert (
        "node_count"
        not in written(Pipeline(workspace, [step(workspace, "one-step", settings={"node_count": 4})]))[
            "one-step"
        ]
    )


def refused(workspace: Workspace, what: str) -> None:
    rows, other = PipelineData("rows"), PipelineData("other")
    match what:
        case "name":
            step(workspace, "Bad Name")
        case "no inputs":
            step(workspace, "one-step", [])
        case "inputs":
            step(workspace, "one-step", ["a.txt"])
        case "table":
            table = Dataset.Tabular.from_delimited_files(f"{workspace.folder}/t.csv")
            step(workspace, "one-step", side_inputs=[table])
        case "arguments":
            step(workspace, "one-step", arguments=[{"a": 1}])
        case "output":
            step(workspace, "one-step", output="rows")
        case "twice":
            Pipeline(workspace, [step(workspace, "one-step"), step(workspace, "one-step")])
        case "nobody":
            Pipeline(workspace, [step(workspace, "one-step", other)])
        case "both":
            Pipeline(workspace, [step(workspace, "one", output=rows), step(workspace, "two", output=rows)])
        case "same name":
            again = PipelineData("rows")
            Pipeline(workspace, [step(workspace, "one", output=rows), step(workspace, "two", output=again)])
        case "own":
            Pipeline(workspace, [step(workspace, "one", rows, output=rows)])
        case "circle":
            first = step(workspace, "one", rows, output=other)
            written(Pipeline(workspace, [first, step(workspace, "two", other, output=rows)]))
        case "empty":
            only = step(workspace, "one", output=rows, settings={"output_action": "summary_only"})
            written(Pipeline(workspace, [only, step(workspace, "two", rows)]))
        case "steps":
            Pipeline(workspace, ["score.py"])


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("name", 'name is "Bad Name": must be 3 to 32 of a-z, 0-9 and -'),
        ("no inputs", "inputs is empty"),
        ("inputs", "inputs has 'a.txt', a str: must be a dataset"),
        ("table", "and tables cannot be side inputs"),
        ("arguments", "arguments has {'a': 1}, a dict: must be text"),
        ("output", "output is 'rows': must be a PipelineData"),
        ("twice", "two steps are named one-step"),
        ("nobody", "takes PipelineData(other), which no step of the pipeline makes"),
        ("both", "steps one and two both make an output rows"),
        ("same name", "steps one and two both make an output rows"),
        ("own", "has its own output rows among its inputs"),
        ("circle", "the steps one, two wait for each other's data"),
        ("empty", "put the PipelineData among the step's arguments"),
        ("steps", "steps has 'score.py', a str: must be ParallelRunSteps"),
    ],
)
def test_what_cannot_be_is_refused_in_words(workspace: Workspace, what: str, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        refused(workspace, what)
    assert words in str(caught.value)


def test_validate_tells_what_is_wrong(workspace: Workspace) -> None:
    pipeline = Pipeline(workspace, [step(workspace, "one-step")])
    assert pipeline.validate() == []
    pipeline.steps[0].parallel_run_config.entry_script = "scores.py"
    (told,) = pipeline.validate()
    assert "step one-step: " in told and "did you mean score.py?" in told
    with pytest.raises(ConfigError, match=r"did you mean score.py"):
        pipeline.submit("wrong")
    assert not list((Path(workspace.folder) / "runs").glob("wrong/*")), "nothing was submitted"
    assert issubclass(ConfigError, MpibatchError)
