"""`install()`: from then on `from azureml.core import Workspace` and its like give the classes of this API.

For notebooks and scripts that submit jobs, and only where the real packages are missing. Entry scripts need none of
it: in processors `mpibatch.azureml` answers for the same names.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from mpibatch.api.refusals import refusing, tell_once
from mpibatch.azureml.finder import TOP, StandIn
from mpibatch.azureml.names import _MODULES, Names

_MORE = {
    "azureml.core.runconfig": "CondaDependencies DEFAULT_CPU_IMAGE DEFAULT_GPU_IMAGE",
    "azureml.core.environment": "CondaDependencies",
    "azureml.data.datapath": "DataPath",
    "azureml.data.dataset_factory": "DataType",
    "azureml.data.output_dataset_config": "OutputDatasetConfig",
    "azureml.pipeline.core.pipeline_output_dataset": "PipelineOutputFileDataset PipelineOutputTabularDataset",
}
"""Names that only those who submit import, beside those that entry scripts do."""
_BY_ANOTHER_NAME = {
    "FileDatasetFactory": "FileDataset",
    "TabularDatasetFactory": "TabularDataset",
    "PipelineOutputFileDataset": "OutputRead",
    "PipelineOutputTabularDataset": "OutputRead",
}
_NO_CLOUD = (
    "there is no cluster to make: without a compute_target a step runs on this machine, and"
    " compute_target=SlurmCompute(...) of mpibatch.api sends it through Slurm"
)
_COMPUTE = {
    name: refusing(name, _NO_CLOUD)
    for name in ("AmlCompute", "AksCompute", "ComputeInstance", "ComputeTarget")
}


def install() -> None:
    """Idempotent. Tells, in one line, where a real azureml-core is found, whose classes are taken then."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    if _is_real():
        tell_once("azureml-core is installed here, so that its own classes are imported, and not mpibatch's")
    sys.meta_path.append(_Finder())


def remove() -> None:
    """As if it had never been installed; what has been imported stays with those who have it."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    for name, module in list(sys.modules.items()):
        if isinstance(module, StandIn) and isinstance(module._names, _ApiNames):
            del sys.modules[name]


def _is_real() -> bool:
    try:
        return importlib.util.find_spec("azureml.core") is not None
    except ModuleNotFoundError:
        return False


class _ApiNames(Names):
    """What entry scripts find as well, with this API's classes where it has them."""

    def of(self, module: str) -> dict[str, Any]:
        from mpibatch import api

        made = super().of(module)
        own = {name: _BY_ANOTHER_NAME.get(name, name) for name in made}
        return (
            made
            | {name: _COMPUTE[name] for name in made if name in _COMPUTE}
            | {name: getattr(api, mine) for name, mine in own.items() if mine in api.__all__}
        )


class _Finder(importlib.abc.MetaPathFinder):
    """Stands behind all others, so that real packages win, also where only some of them are there."""

    def __init__(self) -> None:
        modules = dict(_MODULES)
        for name, more in _MORE.items():
            modules[name] = " ".join(dict.fromkeys([*modules.get(name, "").split(), *more.split()]))
        self._names = _ApiNames(modules)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != TOP:
            return None
        parent, _, name = fullname.rpartition(".")
        of_ours = isinstance(sys.modules.get(parent), StandIn)
        if parent not in ("", TOP) and not of_ours:
            return None  # A part of a real one that is not there.
        if self._names.has(fullname):
            return importlib.machinery.ModuleSpec(fullname, _Loader(self._names), is_package=True)
        if of_ours and name[:1].isupper():  # `from azureml.core import Foo`
            raise ImportError(self._names.unknown(parent, name), name=parent)
        return None


class _Loader(importlib.abc.Loader):
    def __init__(self, names: Names) -> None:
        self._names = names

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return StandIn(spec.name, f"mpibatch's stand-in for Azure ML's {spec.name}: see mpibatch.api.")

    def exec_module(self, module: ModuleType) -> None:
        assert isinstance(module, StandIn)
        module._names = self._names
        given = self._names.of(module.__name__)
        module.__dict__.update(given)
        module.__dict__["__all__"] = sorted(given)
