"""What scripts find as azureml: names to import, words for what needs Azure, and real packages that win."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mpibatch.azureml import finder
from mpibatch.azureml.names import _MODULES
from mpibatch.azureml.refusal import NeedsAzure
from mpibatch.entry import EntryScript


@pytest.fixture(autouse=True)
def shim() -> Iterator[None]:
    finder.install()
    yield
    finder.remove()
    for name in [name for name in sys.modules if name.partition(".")[0] == "azureml"]:
        del sys.modules[name]


def load(name: str) -> Any:
    return importlib.import_module(name)


def run_lines(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(text, names)
    return names


def test_it_stands_behind_all_other_finders_and_once() -> None:
    finder.install()
    assert [type(one).__name__ for one in sys.meta_path].count("_Finder") == 1
    assert isinstance(sys.meta_path[-1], finder._Finder)


@pytest.mark.parametrize("module", _MODULES)
def test_each_name_can_be_imported_and_is_the_same_everywhere(module: str) -> None:
    found = load(module)
    assert isinstance(load(module), finder.StandIn)
    assert {*_MODULES[module].split()} <= set(dir(found)) & set(found.__all__)
    for elsewhere in ("azureml.core", "azureml.pipeline.core", "azureml.data"):
        both = set(found.__all__) & set(load(elsewhere).__all__)
        assert all(getattr(found, name) is getattr(load(elsewhere), name) for name in both)


def test_what_scripts_import_and_do_not_use() -> None:
    run_lines(
        """
import azureml.core
from azureml.core import Dataset, Workspace
from azureml.core.authentication import ServicePrincipalAuthentication
from azureml.exceptions import WebserviceException
from azureml.core.model import Dataset as SameDataset
from azureml.data import FileDataset, LinkTabularOutputDatasetConfig
from azureml.core.dataset import TabularDataset
from azureml.pipeline.steps import ParallelRunStep

def f(ws: Workspace | None, ds: list[Dataset]) -> Dataset: ...

class Own(FileDataset):
    pass

try:
    assert not isinstance(1, Dataset)
except WebserviceException:
    pass
assert azureml.core.VERSION.startswith("mpibatch ") and azureml.core.run.Run is azureml.core.Run
assert not hasattr(Dataset, "get_by_name") and issubclass(WebserviceException, Exception)
"""
    )


REFUSED = {
    "Workspace.from_config()": "Workspace.from_config needs Azure",
    "Workspace(1, 'a')": "Workspace() needs Azure",
    "Dataset.get_by_name(1, 'x')": "name the data under inputs or side_inputs in the job file",
    "Dataset.File.from_files('x')": "Dataset.File needs Azure, and mpibatch stands in",
    "Experiment(None, 'x')": "runs are started from outside",
    "Environment('x')": "given by python or environment in the job file",
    "Run.get_context().experiment.workspace.get_default_keyvault()": "Workspace.get_default_keyvault needs Azure",
    "Run.get_context().get_secret('x')": "environment_variables",
    "Run.get_context().fail('x')": "raise an error in run()",
    "Run.get_context().anything()": "Run.anything needs Azure",
    "Model.register(1)": "a folder of side_outputs",
}


@pytest.mark.parametrize("call", REFUSED)
def test_what_needs_azure_says_so_and_the_way_out(call: str) -> None:
    with pytest.raises(NeedsAzure) as raised:
        run_lines(f"from azureml.core import *\n{call}")
    assert REFUSED[call] in str(raised.value)
    assert str(raised.value).endswith("is used instead")
    assert isinstance(raised.value, NotImplementedError)


def test_unknown_names() -> None:
    with pytest.raises(ImportError) as raised:
        run_lines("from azureml.core import Modell")
    assert "azureml.core has no Modell (is Model meant?): mpibatch stands in for azureml-core" in str(
        raised.value
    )
    assert "Dataset, Datastore" in str(raised.value) and "below it authentication" in str(raised.value)
    with pytest.raises(AttributeError, match=r"azureml.core has no Modell \(is Model meant"):
        run_lines("import azureml.core\nazureml.core.Modell")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'azureml\.train'"):
        run_lines("import azureml.train.dnn")
    assert importlib.util.find_spec("azureml.opendatasets") is None


def write(folder: Path, name: str, text: str = "") -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_a_real_package_wins_and_nothing_is_added_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "azureml/core/__init__.py", "class Run: real = True")
    write(tmp_path, "azureml/core/model.py", "class Model: real = True")
    monkeypatch.syspath_prepend(tmp_path)
    names = run_lines("from azureml.core import Run\nfrom azureml.core.model import Model")
    assert names["Run"].real and names["Model"].real
    with pytest.raises(ImportError, match=r"cannot import name 'Dataset' from 'azureml\.core'"):
        run_lines("from azureml.core import Dataset")
    with pytest.raises(ModuleNotFoundError):
        run_lines("import azureml.core.run")
    assert hasattr(load("azureml.pipeline.core"), "PipelineData"), "of a package that is not installed"


def test_where_a_real_package_is_there_in_part_the_rest_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "azureml/dataprep/__init__.py", "real = True")
    monkeypatch.syspath_prepend(tmp_path)
    names = run_lines("import azureml.dataprep\nfrom azureml.core import Model, Run")
    assert names["azureml"].dataprep.real
    assert names["Run"].__module__ == "mpibatch.azureml.run"


def test_azureml_user_is_the_same_entry_script_and_a_real_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: ModuleType = load("azureml_user.parallel_run")
    assert module.EntryScript is EntryScript
    finder.remove()
    finder.install()
    write(tmp_path, "azureml_user/__init__.py")
    write(tmp_path, "azureml_user/parallel_run.py", "EntryScript = 1")
    monkeypatch.syspath_prepend(tmp_path)
    assert load("azureml_user.parallel_run").EntryScript == 1
