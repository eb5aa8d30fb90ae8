"""A pipeline file's mapping: steps in order, references, defaults, and words for what is wrong. And their order."""

from __future__ import annotations

from typing import Any

import pytest

from mpibatch.core.config import parse_job
from mpibatch.core.pipeline import Pipeline, PipelineDraft, Step, as_one_job, check_folders, read_pipeline
from mpibatch.core.references import filled, references, values_of
from mpibatch.core.settings import Problems
from mpibatch.errors import ConfigError

FILE = "/jobs/two-steps.yaml"
SCORE: dict[str, Any] = {"entry_script": "score.py", "inputs": [{"files": "images/"}]}


def draft(
    steps: Any, *, output: str | None = None, set_keys: tuple[str, ...] = (), **keys: Any
) -> PipelineDraft:
    return read_pipeline({"steps": steps, **keys}, file=FILE, output=output, set_keys=set_keys)


def after(*names: str) -> dict[str, Any]:
    return {"entry_script": "x.py", "inputs": [{"csv": f"${{steps.{name}.output}}"} for name in names]}


def refused(steps: Any, **keys: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        draft(steps, **keys)
    return str(caught.value)


def loaded(steps: Any, **keys: Any) -> Pipeline:
    """With jobs, as the loader makes them, but for what is on disk."""
    made = draft(steps, **keys)
    values: dict[str, str] = {}
    found = []
    for step in made.steps:
        problems = Problems("two-steps.yaml")
        mapping = filled(problems, step.mapping, values)
        problems.stop()
        job = parse_job(mapping, job_file=FILE)
        values |= values_of(step.name, job)
        found.append(Step(name=step.name, job=job, needs=step.needs))
    return Pipeline(file=FILE, name=made.name, output=made.output, steps=found)


def test_where_everything_is() -> None:
    made = draft({"score": SCORE, "sums": {**after("score"), "output": "elsewhere"}})

    assert (made.name, made.output) == ("two-steps", "/jobs/runs/two-steps")
    assert [step.mapping["output"] for step in made.steps] == ["/jobs/runs/two-steps/score", "elsewhere"]
    assert draft({"score": SCORE}, output="/else").steps[0].mapping["output"] == "/else/score"


@pytest.mark.parametrize(
    ("steps", "order"),
    [
        ({"b": SCORE, "a": SCORE}, "ba"),
        ({"b": after("a"), "a": SCORE}, "ab"),
        ({"d": after("b", "c"), "c": after("a"), "b": after("a"), "a": SCORE, "e": SCORE}, "acbde"),
        ({"b": {**SCORE, "arguments": ["--x=${steps.a.folder}"]}, "a": SCORE}, "ab"),
        ({"b": {**SCORE, "side_inputs": {"m": "${steps.a.side_outputs.m}/x"}}, "a": SCORE}, "ab"),
    ],
)
def test_steps_run_in_the_order_of_their_data_else_in_that_of_the_file(steps: Any, order: str) -> None:
    assert "".join(step.name for step in draft(steps).steps) == order


def test_a_circle_is_told_whole() -> None:
    told = refused({"z": SCORE, "a": after("z", "c"), "b": after("a"), "c": after("b"), "d": after("c")})

    assert told == (
        "two-steps.yaml: steps.a needs c, which needs b, which needs a: none of them can be the first."
        " Take one of these references out"
    )
    assert "takes its own data" in refused({"a": after("a")})


def test_defaults_of_all_steps_and_what_takes_their_place() -> None:
    steps = {
        "a": {**SCORE, "run_max_try": 1, "gpus": None},
        "b": {**SCORE, "partition_keys": ["x"], "allowed_failed_count": 3},
    }
    made = draft(
        steps, run_max_try=2, gpus="share", mini_batch_size=4, mini_batch_error_threshold=1, name="all-of-it"
    )
    a, b = (step.mapping for step in made.steps)

    assert (a["run_max_try"], a["gpus"], a["mini_batch_size"], a["mini_batch_error_threshold"]) == (
        1,
        None,
        4,
        1,
    )
    assert (b["run_max_try"], b["gpus"]) == (2, "share")
    assert "mini_batch_size" not in b and "mini_batch_error_threshold" not in b
    assert [a["name"], b["name"]] == ["step-a", "step-b"] and made.name == "all-of-it"
    assert draft({"Batch_Score": SCORE}).steps[0].mapping["name"] == "batch-score"


@pytest.mark.parametrize(
    ("steps", "keys", "words"),
    [
        ({}, {}, "steps is empty: there must be at least one step"),
        ([SCORE], {}, r"steps is \[{...}\]: must be a mapping"),
        ({"a b": SCORE}, {}, 'steps."a b" is no legal name of a step'),
        ({"a": None}, {}, "steps.a is empty: must be a mapping"),
        ({"a": SCORE}, {"array": 3}, "array is 3: .*a pipeline is no job array"),
        ({"a": {**SCORE, "array": 3}}, {}, "steps.a.array is 3: a pipeline is no job array"),
        (
            {"a": {**SCORE, "slurm": {"time": "1:00"}}},
            {},
            "steps.a.slurm .* stands at the top of the file only",
        ),
        ({"a": SCORE}, {"slurm": {"tiem": "1:00"}}, "slurm.tiem .* did you mean time"),
        ({"a": SCORE}, {"proces_count_per_node": 1}, "did you mean process_count_per_node"),
        ({"a": SCORE}, {"copy_output_to": "x"}, "each step would write there"),
        ({"a": SCORE}, {"output": ".."}, "output is .*: must be a folder of its own"),
        (
            {"score": SCORE, "b": after("scores")},
            {},
            r"steps.b.inputs.0.csv has .*no step scores; did you mean score",
        ),
    ],
)
def test_words_for_what_is_wrong(steps: Any, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        draft(steps, **keys)


def test_references_are_filled_in() -> None:
    made = loaded(
        {
            "a": {
                **SCORE,
                "side_outputs": {"m": None},
                "append_row_file_name": "a.txt",
                "output": "/o[1]/${x}",
            },
            "b": {
                "entry_script": "x.py",
                "inputs": [{"list": "${steps.a.output}"}, {"files": "${steps.a.side_outputs.m}/"}],
                "side_inputs": {"m": "${steps.a.folder}/logs", "l": "$${steps.a.folder}"},
                "arguments": ["${steps.a.folder}", "${job_dir}/${steps.a.output}", "$${steps.a.folder}"],
            },
        }
    )
    b = made.steps[1].job
    one, two = b.inputs

    assert getattr(one, "list") == "/o[1]/${x}/a.txt"  # noqa: B009
    assert getattr(two, "files") == ["/o[[]1]/${x}/m/"]  # noqa: B009
    assert b.side_inputs == {"m": "/o[1]/${x}/logs", "l": "/jobs/${steps.a.folder}"}
    assert b.arguments == ["/o[1]/${x}", "/jobs//o[1]/${x}/a.txt", "${steps.a.folder}"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${steps.a.outputs}", r"stands for nothing; did you mean a.output.; legal are \${steps.a.output}, "),
        (
            "${steps.s.output}",
            r"as step s writes no rows \(output_action: summary_only\).*legal are \${steps.s.folder}",
        ),
        ("${steps.a.side_outputs.x}", r"did you mean a.side_outputs.m"),
        ("${steps.a.folder", r"has no closing }"),
    ],
)
def test_a_reference_to_nothing(text: str, words: str) -> None:
    steps = {
        "a": {**SCORE, "side_outputs": {"m": None}},
        "s": {**SCORE, "output_action": "summary_only"},
        "b": {**SCORE, "arguments": [text]},
    }
    with pytest.raises(ConfigError, match="yaml: arguments.0 is .*" + words):
        loaded(steps)


def test_endless_values_end() -> None:
    """YAML's anchors can make them."""
    endless: dict[str, Any] = {"x": "${steps.a.folder}"}
    endless["again"] = endless
    wide: Any = "${steps.a.output}"
    for _ in range(40):
        wide = [wide, wide, wide]

    assert set(references(endless, "k")) == {("k.x", "a.folder"), ("k.again.x", "a.folder")}
    assert len(list(references({"inputs": wide}, "k"))) <= 1
    assert filled(Problems("f"), endless, {"a.folder": "/a"})["x"] == "/a"


def test_folders_of_steps_are_their_own() -> None:
    with pytest.raises(ConfigError, match=r"steps.b.output is .*: step a has .*; each has one of its own"):
        check_folders(loaded({"a": {**SCORE, "output": "/o"}, "b": {**SCORE, "output": "/o/b"}}))
    with pytest.raises(ConfigError, match="must not be the pipeline's own folder"):
        check_folders(loaded({"a": {**SCORE, "output": "/o"}}, output="/o"))
    check_folders(loaded({"a": SCORE, "b": SCORE}))


def test_what_the_largest_steps_ask_for() -> None:
    made = loaded(
        {
            "a": {**SCORE, "process_count_per_node": 2, "node_count": 3, "max_restarts": 1},
            "b": {**SCORE, "process_count_per_node": 4, "heartbeat_timeout": 90, "drain_margin": 300},
        },
        slurm={"time": "1:00:00"},
    )
    job = as_one_job(made)

    assert (job.process_count_per_node, job.node_count, job.max_restarts) == (4, 3, 3)
    assert (job.heartbeat_timeout, job.drain_margin, job.slurm.time) == (90, 300, "1:00:00")
    assert (job.name, job.output) == ("two-steps", "/jobs/runs/two-steps")
    assert as_one_job(loaded({"a": SCORE})).process_count_per_node is None


def test_what_came_from_the_command_line_is_told_of() -> None:
    made = draft(
        {"a": SCORE}, set_keys=("steps.a.run_max_try", "run_invocation_timeout"), run_invocation_timeout=1
    )

    assert made.steps[0].set_keys == ["run_max_try", "run_invocation_timeout"]
