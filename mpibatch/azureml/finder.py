"""Answers for `azureml...` and `azureml_user...` where nothing else does: it stands behind all other finders.

Where only a part of the real packages is installed, the rest comes from here: `azureml.pipeline` beside a real
`azureml.core`, or all of it beside a folder that happens to be called azureml. Within a real module nothing is added.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpibatch.azureml.names import Names

TOP = "azureml"
USER = "azureml_user"
_TOPS = (TOP, USER)


def install() -> None:
    """From now on scripts find the stand-ins. To be called before the script is loaded; nothing is loaded by it."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def remove() -> None:
    """For tests: as if it had never been there."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    for name, module in list(sys.modules.items()):
        if isinstance(module, StandIn) or name.partition(".")[0] == USER:
            del sys.modules[name]


class StandIn(ModuleType):
    """A module that is made here."""

    _names: Names

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if self._names.has(below := f"{self.__name__}.{name}"):  # As the real ones load what is below them.
            return importlib.import_module(below)
        raise AttributeError(self._names.unknown(self.__name__, name))


class _Finder:
    """Its names are looked up when one of them is asked for."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        top = fullname.partition(".")[0]
        if top not in _TOPS:
            return None
        if top == USER:
            return _installable(fullname)
        parent, _, name = fullname.rpartition(".")
        if parent not in ("", TOP) and not isinstance(sys.modules.get(parent), StandIn):
            return None  # A part of a real one that is not there.
        names = importlib.import_module("mpibatch.azureml.names").NAMES
        if names.has(fullname):
            loader: Any = _Loader(names)  # Without the base class, which is slow to load.
            return importlib.machinery.ModuleSpec(fullname, loader, is_package=True)
        # `from azureml.core import Foo` asks for it as for a module, once the module has no such name. No
        # ModuleNotFoundError, to which others would add that something of this name is to be installed.
        if isinstance(sys.modules.get(parent), StandIn) and name[:1].isupper():
            raise ImportError(names.unknown(parent, name), name=parent)
        return None


def _installable(fullname: str) -> importlib.machinery.ModuleSpec | None:
    """Of the package that is installed with mpibatch, where mpibatch itself is not installed but only found."""
    if fullname != USER:
        return None
    folder = os.path.join(os.path.dirname(__file__), USER)
    return importlib.util.spec_from_file_location(
        USER, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )


class _Loader:
    def __init__(self, names: Names) -> None:
        self._names = names

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return StandIn(spec.name, f"mpibatch's stand-in for Azure ML's {spec.name}: see mpibatch.azureml.")

    def exec_module(self, module: ModuleType) -> None:
        assert isinstance(module, StandIn)
        module._names = self._names
        given = self._names.of(module.__name__)
        module.__dict__.update(given)
        module.__dict__["__all__"] = sorted(given)
