"""The Python API. Its names are loaded when they are asked for: `mpibatch.api.run`, or `mpibatch.run`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpibatch.api.compute import SlurmCompute as SlurmCompute
    from mpibatch.api.data import DatasetConsumptionConfig as DatasetConsumptionConfig
    from mpibatch.api.data import FileDataset as FileDataset
    from mpibatch.api.datastores import DataPath as DataPath
    from mpibatch.api.datastores import Datastore as Datastore
    from mpibatch.api.details import RunDetails as RunDetails
    from mpibatch.api.environments import DEFAULT_CPU_IMAGE as DEFAULT_CPU_IMAGE
    from mpibatch.api.environments import DEFAULT_GPU_IMAGE as DEFAULT_GPU_IMAGE
    from mpibatch.api.environments import CondaDependencies as CondaDependencies
    from mpibatch.api.environments import Environment as Environment
    from mpibatch.api.experiment import Experiment as Experiment
    from mpibatch.api.models import Model as Model
    from mpibatch.api.outputs import OutputDatasetConfig as OutputDatasetConfig
    from mpibatch.api.outputs import OutputFileDatasetConfig as OutputFileDatasetConfig
    from mpibatch.api.outputs import OutputRead as OutputRead
    from mpibatch.api.outputs import PipelineData as PipelineData
    from mpibatch.api.parameters import PipelineParameter as PipelineParameter
    from mpibatch.api.pipeline import Pipeline as Pipeline
    from mpibatch.api.plain import RunFailed as RunFailed
    from mpibatch.api.plain import run as run
    from mpibatch.api.refusals import ApiError as ApiError
    from mpibatch.api.refusals import ExistsError as ExistsError
    from mpibatch.api.refusals import NeedsAzureError as NeedsAzureError
    from mpibatch.api.refusals import NotFoundError as NotFoundError
    from mpibatch.api.registered import Dataset as Dataset
    from mpibatch.api.run_config import ParallelRunConfig as ParallelRunConfig
    from mpibatch.api.runs import PipelineRun as PipelineRun
    from mpibatch.api.stand_ins import install as install
    from mpibatch.api.step_outputs import StepRunOutput as StepRunOutput
    from mpibatch.api.step_runs import StepRun as StepRun
    from mpibatch.api.steps import ParallelRunStep as ParallelRunStep
    from mpibatch.api.tabular import DataType as DataType
    from mpibatch.api.tabular import TabularDataset as TabularDataset
    from mpibatch.api.workspace import Workspace as Workspace

_WHERE = {
    "run": "plain",
    "RunFailed": "plain",
    **dict.fromkeys(("DatasetConsumptionConfig", "FileDataset"), "data"),
    **dict.fromkeys(("DataType", "TabularDataset"), "tabular"),
    "Dataset": "registered",
    **dict.fromkeys(("DataPath", "Datastore"), "datastores"),
    **dict.fromkeys(
        ("OutputDatasetConfig", "OutputFileDatasetConfig", "OutputRead", "PipelineData"), "outputs"
    ),
    "Workspace": "workspace",
    "Model": "models",
    **dict.fromkeys(
        ("CondaDependencies", "DEFAULT_CPU_IMAGE", "DEFAULT_GPU_IMAGE", "Environment"), "environments"
    ),
    "PipelineParameter": "parameters",
    "ParallelRunConfig": "run_config",
    "ParallelRunStep": "steps",
    "Pipeline": "pipeline",
    "Experiment": "experiment",
    "PipelineRun": "runs",
    "StepRun": "step_runs",
    "StepRunOutput": "step_outputs",
    "RunDetails": "details",
    "SlurmCompute": "compute",
    "install": "stand_ins",
    **dict.fromkeys(("ApiError", "ExistsError", "NeedsAzureError", "NotFoundError"), "refusals"),
}
"""Each public name, and the module below this package that has it."""

__all__ = sorted(_WHERE)  # noqa: PLE0605  (the names are those of _WHERE)


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
