"""A `ParallelRunConfig` as a YAML file, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpibatch.api.compute import SlurmCompute
from mpibatch.api.environments import Environment
from mpibatch.api.parameters import PipelineParameter
from mpibatch.api.refusals import ApiError
from mpibatch.core.settings import did_you_mean

if TYPE_CHECKING:
    from mpibatch.api.run_config import ParallelRunConfig
    from mpibatch.api.workspace import Workspace

_PARAMETER = "pipeline_parameter"
_JOB_KEYS = "job_keys"


def saved(config: ParallelRunConfig) -> dict[str, Any]:
    """What stands in the file."""
    from mpibatch.api.run_config import SETTINGS

    values = {name: getattr(config, name) for name in SETTINGS}
    told = {name: _saved(name, value) for name, value in values.items() if value is not None}
    if config.job_keys:
        told[_JOB_KEYS] = {name: _saved(name, value) for name, value in config.job_keys.items()}
    return told


def _saved(name: str, value: Any) -> Any:
    match value:
        case PipelineParameter():
            return {_PARAMETER: {"name": value.name, "default_value": _saved(name, value.default_value)}}
        case SlurmCompute():
            return {"slurm": value.job_keys()}
        case Environment():
            return {"name": value.name, "version": value.version, **value.job_keys()}
        case Mapping():
            return {str(key): _saved(name, one) for key, one in value.items()}
        case list() | tuple():
            return [_saved(name, one) for one in value]
        case None | str() | int() | float():
            return value
        case _:
            if hasattr(value, "__fspath__"):
                return str(value)
            raise ApiError(
                f"save_to_yaml: {name} is {value!r}, a {type(value).__name__}, which no YAML file can hold"
            )


def loaded(workspace: Workspace | None, path: Path) -> dict[str, Any]:
    """The arguments of a `ParallelRunConfig`. Raises an MpibatchError that names the file."""
    from mpibatch.api.run_config import SETTINGS
    from mpibatch.runtime.jobfile import read_mapping

    given = dict(read_mapping(str(path)))
    more = given.pop(_JOB_KEYS, None) or {}
    for name in given:
        if name not in SETTINGS:
            near = did_you_mean(str(name), SETTINGS)
            raise ApiError(f"{path}: {name} is no setting of a ParallelRunConfig{near}")
    values = {name: _loaded(workspace, name, value) for name, value in given.items()}
    return values | {name: _loaded(workspace, name, value) for name, value in more.items()}


def _loaded(workspace: Workspace | None, name: str, value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) == {_PARAMETER}:
        inner = value[_PARAMETER]
        return PipelineParameter(inner["name"], _loaded(workspace, name, inner["default_value"]))
    if name == "compute_target" and isinstance(value, Mapping):
        return SlurmCompute(**value["slurm"])
    if name == "environment" and isinstance(value, Mapping):
        return _environment(workspace, value)
    return value


def _environment(workspace: Workspace | None, given: Mapping[str, Any]) -> Environment:
    """That of the workspace, where it is registered; else of what the file says."""
    if given.get("version") is not None and workspace is not None:
        return Environment.get(workspace, given["name"], given["version"])
    made = Environment(given["name"], python=given.get("python"), environment=given.get("environment"))
    made.environment_variables = dict(given.get("environment_variables") or {})
    return made
