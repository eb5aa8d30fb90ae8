"""`PipelineParameter`: a value that is given anew with each submission of a pipeline.

Source: Microsoft's public reference of azureml.pipeline.core.PipelineParameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mpibatch.api.refusals import ApiError, need
from mpibatch.api.registry import check_name
from mpibatch.core.settings import did_you_mean, shown


class PipelineParameter:
    """Stands for a setting of a `ParallelRunConfig`, an argument, or a dataset; its default, if no other is given."""

    def __init__(self, name: str, default_value: Any) -> None:
        self.name = check_name("parameter", name)
        need(f"PipelineParameter {name}", default_value is not None, "default_value is None: give it a value")
        self.default_value = default_value

    def __repr__(self) -> str:
        return f"PipelineParameter({self.name}, {self.default_value!r})"


def value_of(value: Any, given: Mapping[str, Any]) -> Any:
    """What a setting is, where it may be a parameter: `given` are the submission's values by name."""
    if isinstance(value, PipelineParameter):
        return given.get(value.name, value.default_value)
    return value


def check_parameters(
    parameters: Iterable[PipelineParameter], given: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The values that a submission gives. Raises ApiError where one is for no parameter of the pipeline's, or where
    two parameters of one name have different defaults."""
    known: dict[str, PipelineParameter] = {}
    for one in parameters:
        other = known.setdefault(one.name, one)
        if other is not one and other.default_value != one.default_value:
            raise ApiError(
                f"there are two parameters {one.name} in the pipeline, with the defaults {shown(other.default_value)}"
                f" and {shown(one.default_value)}: take one PipelineParameter at both places, or two names"
            )
    for name in given or {}:
        if name not in known:
            there = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise ApiError(
                f"pipeline_parameters: the pipeline has no parameter {shown(name)}{did_you_mean(name, known)};"
                f" {there}"
            )
    return dict(given or {})
