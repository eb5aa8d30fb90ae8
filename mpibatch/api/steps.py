"""`ParallelRunStep`: a script over partitioned inputs, as one step of a pipeline.

Source: Microsoft's public reference of azureml.pipeline.steps.ParallelRunStep.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from mpibatch.api.data import AbstractDataset, DatasetConsumptionConfig
from mpibatch.api.outputs import OutputFileDatasetConfig, OutputRead, PipelineData
from mpibatch.api.parameters import PipelineParameter
from mpibatch.api.refusals import ApiError, need
from mpibatch.api.run_config import ParallelRunConfig
from mpibatch.api.wiring import InputSource, SidePath
from mpibatch.core.job_name import legal_name
from mpibatch.core.settings import Wrong, shown

Output = PipelineData | OutputFileDatasetConfig

_INPUTS = (
    "a dataset (Dataset.File.from_files(...), Dataset.Tabular.from_delimited_files(...)), one under a name"
    " (.as_named_input), or the output of another step"
)


class ParallelRunStep:
    """`inputs` are cut into mini-batches, `side_inputs` are given whole. `output` is what the step makes: its rows,
    and what its script writes into the folder, if that is among `arguments`."""

    def __init__(
        self,
        name: str,
        parallel_run_config: ParallelRunConfig,
        inputs: Any,
        output: Output | None = None,
        side_inputs: Any = None,
        arguments: Sequence[Any] | None = None,
        allow_reuse: bool = True,
    ) -> None:
        self.name = _step_name(name)
        call = f"ParallelRunStep {name}"
        need(
            call,
            isinstance(parallel_run_config, ParallelRunConfig),
            f"parallel_run_config is {parallel_run_config!r}: must be a ParallelRunConfig",
        )
        need(
            call,
            output is None or isinstance(output, Output),
            f"output is {output!r}: must be a PipelineData or an OutputFileDatasetConfig",
        )
        self.parallel_run_config = parallel_run_config
        self.inputs = _listed(inputs)
        self.side_inputs = _listed(side_inputs)
        self.arguments = [] if arguments is None else list(arguments)
        self.output = output
        self.allow_reuse = allow_reuse
        need(call, bool(self.inputs), f"inputs is empty: give at least one, {_INPUTS}")
        need(
            call,
            not isinstance(arguments, str),
            "arguments is a text: must be a list, like ['--model', 'mnist']",
        )
        for key, elements, wanted in (
            ("inputs", self.inputs, InputSource),
            ("side_inputs", self.side_inputs, SidePath),
        ):
            for one in elements:
                _check_element(call, key, one, wanted)
        for one in self.arguments:
            _check_argument(call, one)

    def reads(self) -> Iterator[tuple[Output, bool]]:
        """Outputs that it takes, of which its own may be one; whether as a path, and not as an input."""
        for one in self.inputs:
            output = output_in(one)
            if output is not None:
                yield output, False
        for one in [*self.side_inputs, *self.arguments]:
            output = output_in(one)
            if output is not None:
                yield output, True

    def parameters(self) -> Iterator[PipelineParameter]:
        yield from self.parallel_run_config.parameters()
        for one in [*self.inputs, *self.side_inputs, *self.arguments]:
            inner = one.dataset if isinstance(one, DatasetConsumptionConfig) else one
            if isinstance(inner, PipelineParameter):
                yield inner

    def __repr__(self) -> str:
        return f"ParallelRunStep({self.name})"


def output_in(element: Any) -> Output | None:
    """The step's output that an input or argument stands for; None where it stands for other data."""
    if isinstance(element, DatasetConsumptionConfig):
        element = element.dataset
    if isinstance(element, OutputRead):
        element = element.output
    return element if isinstance(element, Output) else None


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _step_name(name: object) -> str:
    try:
        return legal_name(name)
    except Wrong as wrong:
        raise ApiError(f"ParallelRunStep: name is {shown(name)}: {wrong}") from None


def _check_element(call: str, key: str, element: Any, wanted: type) -> None:
    inner = element
    if isinstance(inner, DatasetConsumptionConfig):
        inner = inner.dataset
    if isinstance(inner, PipelineParameter):
        inner = inner.default_value
    if isinstance(inner, DatasetConsumptionConfig):
        inner = inner.dataset
    if output_in(inner) is None and not isinstance(inner, wanted):
        why = ", and tables cannot be side inputs" if isinstance(inner, AbstractDataset) else ""
        raise ApiError(f"{call}: {key} has {element!r}, a {type(inner).__name__}: must be {_INPUTS}{why}")


def _check_argument(call: str, argument: Any) -> None:
    inner = argument.default_value if isinstance(argument, PipelineParameter) else argument
    legal = isinstance(inner, str | int | float | os.PathLike | SidePath) or output_in(inner) is not None
    need(
        call,
        legal,
        f"arguments has {argument!r}, a {type(inner).__name__}: must be text, a number, a PipelineParameter, a"
        " dataset of one file or folder, or a step's output",
    )
