"""A step, with the values of its parameters, becomes what a pipeline file of our own says of it.

An output NAME of step S is its rows file, `${steps.S.output}`. Where its script gets the folder among its arguments,
where another step wants it as a path, or where it has a destination, it is a folder of its own, a side output, and
the rows are copied into that: so it is what Azure's scripts find, a folder with `parallel_run_step.txt` in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from mpibatch.api.data import DatasetConsumptionConfig, FileDataset
from mpibatch.api.outputs import OutputFileDatasetConfig, OutputRead
from mpibatch.api.parameters import PipelineParameter, value_of
from mpibatch.api.refusals import ApiError
from mpibatch.api.run_config import ROWS_FILE
from mpibatch.api.steps import Output, ParallelRunStep, output_in
from mpibatch.api.tabular import TabularDataset
from mpibatch.api.wiring import InputSource, SidePath


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """An output, and how it is made."""

    step: str
    output: str
    rows_file: str | None
    """The rows' name; None where the step writes none."""
    is_folder: bool
    """It is a side output."""
    for_script: bool
    """The step's script knows of the folder."""
    destination: str | None = None
    registered_as: str | None = None

    @property
    def side_output(self) -> str:
        return f"${{steps.{self.step}.side_outputs.{self.output}}}"

    def as_input(self, *, of_table: bool) -> str:
        """What stands in an element of `inputs`. Raises ApiError where there is nothing to be read."""
        if self.rows_file is not None and (of_table or not self.for_script):
            return f"${{steps.{self.step}.output}}"
        if not self.for_script:
            raise ApiError(
                f"the output {self.output} of step {self.step} is read by another step, and nothing is in it: with"
                " output_action='summary_only' its script writes the files, and has to be told where: put the"
                " PipelineData among the step's arguments"
            )
        return f"{self.side_output}/"


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for all steps of one submission."""

    made: Mapping[str, Made]
    """By the output's name."""
    given: Mapping[str, Any]
    """Values of parameters, by name."""
    models: Mapping[str, str]


def step_mapping(step: ParallelRunStep, around: Surroundings) -> dict[str, Any]:
    """Keys of the step in a pipeline file, but for its `output`. Raises an MpibatchError that names the step."""
    keys = step.parallel_run_config.mapping(around.given)
    partition_keys = keys.get("partition_keys") or []
    side_inputs = _side_inputs(step, around)
    keys |= {
        "name": step.name,
        "inputs": [_input(one, partition_keys, around) for one in step.inputs],
        "arguments": [_argument(one, step, side_inputs, around) for one in step.arguments],
        "allow_reuse": step.allow_reuse,
    }
    if side_inputs:
        keys["side_inputs"] = {name: path for name, (_, path) in side_inputs.items()}
    if around.models:
        keys["models"] = dict(around.models)
    own = [one for one in around.made.values() if one.step == step.name and one.is_folder]
    if own:
        keys["side_outputs"] = {one.output: one.destination for one in own}
    return keys


def _input(element: Any, partition_keys: list[str], around: Surroundings) -> dict[str, Any]:
    element = _dataset(element, around)
    output = output_in(element)
    if output is None:
        source: dict[str, Any] = element.job_input(partition_keys)
        return source
    read = element.dataset if isinstance(element, DatasetConsumptionConfig) else element
    reader = read if isinstance(read, OutputRead) else output
    kind = next(iter(reader.element("")))
    made = reader.element(around.made[output.name].as_input(of_table=kind != "files"))
    return element.with_mode(made) if isinstance(element, DatasetConsumptionConfig) else made


def _side_inputs(step: ParallelRunStep, around: Surroundings) -> dict[str, tuple[Any, str]]:
    """By name: what was given, and its path."""
    found: dict[str, tuple[Any, str]] = {}
    for number, one in enumerate(step.side_inputs):
        value = _dataset(one, around)
        name = getattr(value, "name", None) or f"side_input_{number}"
        if name in found:
            raise ApiError(
                f"step {step.name}: two of its side_inputs are named {name}: .as_named_input(...) names one"
            )
        found[name] = one, _path(value, around)
    return found


def _argument(
    argument: Any, step: ParallelRunStep, side_inputs: Mapping[str, tuple[Any, str]], around: Surroundings
) -> str:
    for name, (given, _) in side_inputs.items():
        if given is argument:
            return f"${{side_inputs.{name}}}"
    value = _valued(argument, around)
    output = output_in(value)
    if output is not None:
        made = around.made[output.name]
        return f"${{side_outputs.{made.output}}}" if made.step == step.name else made.side_output
    if isinstance(value, os.PathLike | SidePath):
        path = value.side_path() if isinstance(value, SidePath) else os.fspath(value)
        return path.replace("${", "$${")
    return str(value)


def _path(value: Any, around: Surroundings) -> str:
    output = output_in(value)
    if output is not None:
        return around.made[output.name].side_output
    if not isinstance(value, SidePath):
        raise ApiError(f"{value!r} cannot be a side input: that is one file or folder; a table is an input")
    return value.side_path()


def _dataset(element: Any, around: Surroundings) -> Any:
    """What is read: where a parameter for files was given a path, the dataset of that. Raises ApiError."""
    value = _valued(element, around)
    config = value if isinstance(value, DatasetConsumptionConfig) else None
    inner = config.dataset if config is not None else value
    if output_in(inner) is not None or isinstance(inner, InputSource | SidePath):
        return value
    parameter = element.dataset if isinstance(element, DatasetConsumptionConfig) else element
    told = f"parameter {parameter.name} is {inner!r}"
    if not isinstance(inner, str | os.PathLike):
        raise ApiError(f"{told}, a {type(inner).__name__}: must be a dataset, or the path of files")
    if isinstance(parameter.default_value, TabularDataset):
        raise ApiError(f"{told}: a path does not say how a table is read: give a TabularDataset of it")
    files = FileDataset.from_files(inner)
    return config.of(files) if config is not None else files


def _valued(element: Any, around: Surroundings) -> Any:
    """With the value of its parameter, where there is one."""
    if isinstance(element, DatasetConsumptionConfig) and isinstance(element.dataset, PipelineParameter):
        return element.of(value_of(element.dataset, around.given))
    return value_of(element, around.given)


def made_by(
    step: ParallelRunStep, output: Output, given: Mapping[str, Any], *, as_path: bool, run_id: str
) -> Made:
    """How the step makes the output. `as_path`: another step wants its folder."""
    config = step.parallel_run_config
    keys = config.mapping(given)
    with_rows = keys.get("output_action", "append_row") == "append_row" and output is step.output
    for_script = any(output_in(value_of(one, given)) is output for one in step.arguments)
    destination = registered_as = None
    if isinstance(output, OutputFileDatasetConfig):
        registered_as = output.registered_as
        destination = _destination(output, run_id)
    return Made(
        step=step.name,
        output=output.name,
        rows_file=(keys.get("append_row_file_name") or ROWS_FILE) if with_rows else None,
        # A dataset is a folder, too.
        is_folder=not with_rows or as_path or for_script or bool(destination or registered_as),
        for_script=for_script,
        destination=destination,
        registered_as=registered_as,
    )


def _destination(output: OutputFileDatasetConfig, run_id: str) -> str | None:
    if output.destination is None:
        return None
    return output.destination.replace("{run-id}", run_id).replace("{output-name}", output.name).rstrip("/")
