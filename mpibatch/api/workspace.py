"""`Workspace`: a folder with a small config.json. Runs, data, models and datastores of it lie in that folder.

Sources: Microsoft's public reference of azureml.core.Workspace; where a config.json is looked for is as there. One of
Azure's own will do: its names are taken, and the folder is the one that it lies in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from mpibatch.api.refusals import ApiError, ExistsError, NotFoundError, refuse
from mpibatch.api.registry import check_name
from mpibatch.runtime.files import write_whole

if TYPE_CHECKING:
    from mpibatch.api.data import FileDataset
    from mpibatch.api.datastores import Datastore
    from mpibatch.api.environments import Environment
    from mpibatch.api.models import Model
    from mpibatch.api.tabular import TabularDataset

CONFIG = "config.json"
_PLACES = (CONFIG, f".azureml/{CONFIG}", f"aml_config/{CONFIG}")
"""Where it is looked for in a folder, in this order."""


class _Config(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`config.json`; the first three as Azure writes them."""

    workspace_name: str
    subscription_id: str = ""
    resource_group: str = ""
    folder: str | None = None
    """Of the workspace, relative to the file's own; None: that one."""
    default_datastore: str | None = None


class Workspace:
    """`Workspace(folder)`; `Workspace.from_config()` finds it, `Workspace.create(name, path=folder)` makes it."""

    def __init__(self, path: str | os.PathLike[str] | None = None, *azure: Any, **others: Any) -> None:
        if azure or others or path is None:
            refuse(
                "Workspace(subscription_id, resource_group, workspace_name)",
                "Workspace.from_config() finds the folder that stands for a workspace here, and"
                ' Workspace.create("name", path="folder") makes one',
            )
        folder = os.path.abspath(os.path.expanduser(os.fspath(path)))
        file = _in_folder(folder)
        if file is None:
            raise NotFoundError(
                f"{folder} is no workspace: it has no {CONFIG}; Workspace.create(name, path={folder!r}) makes it one"
            )
        self._file = file
        self._config = _read(file)
        self.folder = os.path.normpath(os.path.join(_home(file), self._config.folder or "."))

    @staticmethod
    def from_config(path: str | os.PathLike[str] | None = None, auth: Any = None, **others: Any) -> Workspace:
        """The workspace whose config.json is in a folder, or in the nearest one above it. Without `path`: of the
        current folder. `path` may be the file as well."""
        start = os.path.abspath(os.path.expanduser(os.fspath(path or ".")))
        if os.path.isfile(start):
            start = _home(start)
        folder = start
        while _in_folder(folder) is None:
            above = os.path.dirname(folder)
            if above == folder:
                raise NotFoundError(
                    f"there is no {CONFIG} in {start}, nor in a folder above it; a folder with one stands for the"
                    f' workspace: Workspace.create("my-workspace", path={start!r}) makes it'
                )
            folder = above
        return Workspace(folder)

    @staticmethod
    def create(
        name: str, auth: Any = None, subscription_id: str | None = None, resource_group: str | None = None,
        location: str | None = None, *, path: str | os.PathLike[str] = ".", exist_ok: bool = False, **others: Any,
    ) -> Workspace:  # fmt: skip
        """Make a folder a workspace. Where it is one already, `exist_ok` takes it as it is."""
        folder = os.path.abspath(os.path.expanduser(os.fspath(path)))
        there = _in_folder(folder)
        if there is not None:
            if exist_ok:
                return Workspace(folder)
            raise ExistsError(
                f"{folder} is a workspace already: Workspace({folder!r}) or exist_ok=True takes it"
            )
        config = _Config(
            workspace_name=check_name("workspace", name),
            subscription_id=subscription_id or "",
            resource_group=resource_group or "",
        )
        os.makedirs(folder, exist_ok=True)
        _write(os.path.join(folder, CONFIG), config)
        return Workspace(folder)

    @staticmethod
    def get(name: str, *others: Any, **also: Any) -> NoReturn:
        refuse(
            "Workspace.get", "Workspace(folder) or Workspace.from_config(folder) takes the one in a folder"
        )

    @property
    def name(self) -> str:
        return self._config.workspace_name

    @property
    def subscription_id(self) -> str:
        """As config.json has it: it means nothing here."""
        return self._config.subscription_id

    @property
    def resource_group(self) -> str:
        return self._config.resource_group

    @property
    def location(self) -> str:
        """Where Azure says which region, the folder."""
        return self.folder

    def get_details(self) -> dict[str, str]:
        return {"name": self.name, "location": self.folder, "id": self.folder}

    def write_config(self, path: str | os.PathLike[str] | None = None, file_name: str | None = None) -> None:
        """A config.json in `.azureml` of another folder (the current one), so that `from_config` there finds this."""
        folder = os.path.abspath(os.path.expanduser(os.fspath(path or ".")))
        if folder == self.folder:
            return
        file = os.path.join(folder, ".azureml", file_name or CONFIG)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        relative = os.path.relpath(self.folder, folder)
        _write(file, msgspec.structs.replace(self._config, folder=relative))

    @property
    def datastores(self) -> dict[str, Datastore]:
        from mpibatch.api.datastores import datastores

        return datastores(self)

    def get_default_datastore(self) -> Datastore:
        """The folder `data` in the workspace, if no other has been made the default."""
        from mpibatch.api.datastores import Datastore

        return Datastore(self, self._config.default_datastore)

    def set_default_datastore(self, name: str) -> None:
        from mpibatch.api.datastores import Datastore

        self._config = msgspec.structs.replace(self._config, default_datastore=Datastore(self, name).name)
        _write(self._file, self._config)

    @property
    def datasets(self) -> dict[str, FileDataset | TabularDataset]:
        """Those that are registered, the latest version of each."""
        from mpibatch.api.registered import Dataset

        return Dataset.get_all(self)

    @property
    def models(self) -> dict[str, Model]:
        """The latest version of each."""
        from mpibatch.api.models import Model

        return {model.name: model for model in Model.list(self, latest=True)}

    def job_models(self) -> dict[str, str]:
        """A job's `models`: each by its name, which means the latest, and by name/version."""
        from mpibatch.api.models import job_models

        return job_models(self)

    @property
    def environments(self) -> dict[str, Environment]:
        from mpibatch.api.environments import Environment

        return Environment.list(self)

    @property
    def experiments(self) -> Mapping[str, Any]:
        """By name: those that have runs."""
        from mpibatch.api.experiment import Experiment

        runs = Path(self.folder) / "runs"
        names = sorted(entry.name for entry in runs.iterdir() if entry.is_dir()) if runs.is_dir() else []
        return {name: Experiment(self, name) for name in names}

    @property
    def compute_targets(self) -> dict[str, Any]:
        """None: steps without a `compute_target` run on this machine."""
        return {}

    def get_default_keyvault(self) -> NoReturn:
        refuse("Workspace.get_default_keyvault", "give scripts what they need by environment_variables")

    def delete(self, *ignored: Any, **also: Any) -> NoReturn:
        refuse("Workspace.delete", f"remove the folder {self.folder}, if nothing in it is needed any more")

    def __repr__(self) -> str:
        return f"Workspace({self.name}, {self.folder})"


def _in_folder(folder: str) -> str | None:
    """The config file of this very folder."""
    return next((file for place in _PLACES if os.path.isfile(file := os.path.join(folder, place))), None)


def _home(file: str) -> str:
    """The folder that a config file is of."""
    folder = os.path.dirname(file)
    return os.path.dirname(folder) if os.path.basename(folder) in (".azureml", "aml_config") else folder


def _read(file: str) -> _Config:
    try:
        with open(file, "rb") as opened:
            return msgspec.convert(json.loads(opened.read()), _Config)
    except (OSError, ValueError) as error:  # msgspec's ValidationError is a ValueError.
        raise ApiError(
            f"{file} is no workspace's {CONFIG} ({error}): it is like"
            ' {"workspace_name": "my-workspace", "subscription_id": "", "resource_group": ""}'
        ) from None


def _write(file: str, config: _Config) -> None:
    write_whole(Path(file), msgspec.json.format(msgspec.json.encode(config)) + b"\n")
