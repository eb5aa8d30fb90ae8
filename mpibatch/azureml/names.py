"""Which modules and names of Azure ML's packages scripts find here. Most can be imported, and do nothing else."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import mpibatch
from mpibatch.azureml.refusal import INSTALL, SHIM, error_class, refusing

_WORKING = {
    "Model": "mpibatch.azureml.model",
    "Run": "mpibatch.azureml.run",
    "_OfflineRun": "mpibatch.azureml.run",
    "Workspace": "mpibatch.azureml.refusal",
}
"""Where the classes are that do something."""

_STEPS = "CommandStep ParallelRunConfig ParallelRunStep PythonScriptStep MpiStep"
_MODULES: dict[str, str] = {
    "azureml": "",
    "azureml.core": (
        "ComputeTarget ContainerRegistry Dataset Datastore Environment Experiment Image Keyvault Model Run"
        " RunConfiguration ScriptRun ScriptRunConfig Webservice Workspace"
    ),
    "azureml.core.authentication": (
        "AzureCliAuthentication InteractiveLoginAuthentication MsiAuthentication ServicePrincipalAuthentication"
        " TokenAuthentication"
    ),
    "azureml.core.compute": "AksCompute AmlCompute ComputeInstance ComputeTarget",
    "azureml.core.compute_target": "ComputeTargetException",
    "azureml.core.conda_dependencies": "CondaDependencies",
    "azureml.core.container_registry": "ContainerRegistry",
    "azureml.core.dataset": "Dataset FileDataset TabularDataset",
    "azureml.core.datastore": "Datastore",
    "azureml.core.environment": "Environment",
    "azureml.core.experiment": "Experiment",
    "azureml.core.keyvault": "Keyvault",
    "azureml.core.model": "Dataset InferenceConfig Model",
    "azureml.core.resource_configuration": "ResourceConfiguration",
    "azureml.core.run": "Run _OfflineRun",
    "azureml.core.runconfig": "DockerConfiguration MpiConfiguration RunConfiguration",
    "azureml.core.script_run_config": "ScriptRunConfig",
    "azureml.core.webservice": "AciWebservice AksWebservice LocalWebservice Webservice",
    "azureml.core.workspace": "Workspace",
    "azureml.data": (
        "DataType FileDataset LinkFileOutputDatasetConfig LinkTabularOutputDatasetConfig OutputFileDatasetConfig"
        " TabularDataset"
    ),
    "azureml.data.abstract_dataset": "AbstractDataset",
    "azureml.data.azure_storage_datastore": "AzureBlobDatastore AzureFileDatastore",
    "azureml.data.data_reference": "DataReference",
    "azureml.data.datapath": "DataPath DataPathComputeBinding",
    "azureml.data.dataset_consumption_config": "DatasetConsumptionConfig",
    "azureml.data.dataset_error_handling": "DatasetExecutionError DatasetValidationError",
    "azureml.data.dataset_factory": "DataType FileDatasetFactory TabularDatasetFactory",
    "azureml.data.file_dataset": "FileDataset",
    "azureml.data.output_dataset_config": (
        "LinkFileOutputDatasetConfig LinkTabularOutputDatasetConfig OutputFileDatasetConfig"
        " OutputTabularDatasetConfig"
    ),
    "azureml.data.tabular_dataset": "TabularDataset",
    "azureml.exceptions": (
        "ActivityFailedException AuthenticationException AzureMLException ComputeTargetException"
        " ExperimentExecutionException ModelNotFoundException ModelPathNotFoundException ParallelRunException"
        " RunConfigurationException RunEnvironmentException ServiceException TrainingException UserErrorException"
        " WebserviceException WorkspaceException"
    ),
    "azureml.contrib": "",
    "azureml.contrib.pipeline": "",
    "azureml.contrib.pipeline.steps": _STEPS,
    "azureml.pipeline": "",
    "azureml.pipeline.core": (
        "InputPortBinding OutputPortBinding Pipeline PipelineData PipelineDataset PipelineEndpoint PipelineParameter"
        " PipelineRun PipelineStep PublishedPipeline Schedule ScheduleRecurrence StepRun StepSequence TrainingOutput"
    ),
    "azureml.pipeline.core.graph": "PipelineParameter",
    "azureml.pipeline.core.run": "PipelineRun StepRun",
    "azureml.pipeline.steps": _STEPS,
    "azureml.widgets": "RunDetails",
}


class Names:
    """What there is, by module."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = {module: text.split() for module, text in modules.items()}

    def has(self, module: str) -> bool:
        return module in self._modules

    def of(self, module: str) -> dict[str, Any]:
        """The names of a module, and what they stand for."""
        made = {name: _made(name) for name in self._modules[module]}
        if module == "azureml.core":
            made |= dict.fromkeys(("VERSION", "__version__"), f"mpibatch {mpibatch.__version__}")
        return made

    def unknown(self, module: str, name: str) -> str:
        """Words for a name that a module has not got."""
        given = [one for one in self._modules[module] if not one.startswith("_")]
        below = [one.rpartition(".")[2] for one in self._modules if one.rpartition(".")[0] == module]
        near = difflib.get_close_matches(name, [*given, *below], 1)
        meant = f" (is {near[0]} meant?)" if near else ""
        what = f"{', '.join(given) or 'no names'}{'; below it ' + ', '.join(below) if below else ''}"
        return f"{module} has no {name}{meant}: {SHIM}, and gives {what}; {INSTALL}"


def _made(name: str) -> Any:
    if name in _WORKING:
        return getattr(importlib.import_module(_WORKING[name]), name)
    return error_class(name) if name.endswith(("Exception", "Error")) else refusing(name)


NAMES = Names(_MODULES)
