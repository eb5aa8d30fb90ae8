"""What the classes of the Python API want of each other: small Protocols, so that data knows nothing of runs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class InputSource(Protocol):
    """What can be partitioned: a dataset, or one consumed under a name."""

    def job_input(self, partition_keys: Collection[str] = ()) -> dict[str, Any]:
        """An element of a job file's `inputs`, its paths absolute, for a job with these `partition_keys`."""
        ...


@runtime_checkable
class SidePath(Protocol):
    """What can be a side input, or stand in arguments: one file or folder."""

    def side_path(self) -> str:
        """Absolute. Raises an MpibatchError where it is not one path."""
        ...


@runtime_checkable
class Named(Protocol):
    """What has a name under which a script finds it: `side_inputs`, `Run.get_context().input_datasets`."""

    @property
    def name(self) -> str: ...


@runtime_checkable
class StepOutput(Protocol):
    """What one step makes and others read: `PipelineData`, `OutputFileDatasetConfig`."""

    @property
    def name(self) -> str: ...


@runtime_checkable
class WorkspaceFolder(Protocol):
    """The folder in which runs, data and models of a workspace lie."""

    @property
    def folder(self) -> str:
        """Absolute."""
        ...

    def job_models(self) -> dict[str, str]:
        """A job file's `models`: all that are registered, by name, and by name/version."""
        ...


@runtime_checkable
class JobEnvironment(Protocol):
    """What scripts run in."""

    def job_keys(self) -> dict[str, Any]:
        """`python`, `environment` and `environment_variables` of a job file; empty for this interpreter."""
        ...
