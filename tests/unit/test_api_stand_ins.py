"""`mpibatch.api.install()`: import lines of a notebook for Azure ML give our classes, where the real are missing."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpibatch import api
from mpibatch.api.stand_ins import remove

REAL = importlib.util.find_spec("azureml") is not None


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    if REAL:
        pytest.skip("a package azureml is installed")
    before = len(sys.meta_path)
    api.install()
    api.install()
    assert len(sys.meta_path) == before + 1
    yield
    remove()
    assert not [name for name in sys.modules if name.partition(".")[0] == "azureml"]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("azureml.core", "Workspace"),
        ("azureml.core", "Dataset"),
        ("azureml.core", "Environment"),
        ("azureml.core.dataset", "Dataset"),
        ("azureml.core.datastore", "Datastore"),
        ("azureml.core.model", "Model"),
        ("azureml.core.runconfig", "CondaDependencies"),
        ("azureml.core.runconfig", "DEFAULT_CPU_IMAGE"),
        ("azureml.core.conda_dependencies", "CondaDependencies"),
        ("azureml.data", "OutputFileDatasetConfig"),
        ("azureml.data.datapath", "DataPath"),
        ("azureml.data.dataset_consumption_config", "DatasetConsumptionConfig"),
        ("azureml.data.dataset_factory", "DataType"),
        ("azureml.pipeline.core", "PipelineData"),
    ],
)
def test_names_are_those_of_the_api(module: str, name: str) -> None:
    assert getattr(importlib.import_module(module), name) is getattr(api, name)


def test_all_public_names_load() -> None:
    for name in api.__all__:
        assert getattr(api, name) is getattr(api, name), name
    assert set(api.__all__) <= set(dir(api))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = api.nothing


def test_what_is_missing_is_refused_with_the_way_out() -> None:
    compute = importlib.import_module("azureml.core.compute")
    with pytest.raises(api.NeedsAzureError, match="SlurmCompute"):
        compute.AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2")
    with pytest.raises(ImportError, match="is Workspace meant"):
        exec("from azureml.core import Workspce")


def test_real_packages_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove()
    (tmp_path / "azureml" / "core").mkdir(parents=True)
    (tmp_path / "azureml" / "core" / "__init__.py").write_text("VERSION = 'real'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    api.install()
    assert importlib.import_module("azureml.core").VERSION == "real"
    # What is not installed of the real ones comes from here, beside them but not within.
    assert importlib.import_module("azureml.pipeline.core").PipelineData is api.PipelineData
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("azureml.core.model")
    for name in [name for name in sys.modules if name.partition(".")[0] == "azureml"]:
        del sys.modules[name]
