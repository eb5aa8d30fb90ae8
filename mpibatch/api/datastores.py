"""`Datastore`: a folder on this file system that has a name in a workspace, and `DataPath`, a place in it.

Sources: Microsoft's public reference of azureml.core.Datastore and azureml.data.datapath. Where there the data lie in
Azure's storage, here they lie in a folder: it is named once, and the code that follows reads the same.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from mpibatch.api.refusals import ApiError, ExistsError, refuse
from mpibatch.api.registry import Registry, check_name

if TYPE_CHECKING:
    from mpibatch.api.workspace import Workspace

DEFAULT = "workspaceblobstore"
"""The reference's name of the datastore that each workspace has; here it is the folder `data` in it."""
_WAY = (
    "copy the data to a folder that this machine and the compute nodes see, and name it once:"
    ' Datastore.register_folder(workspace, "{name}", "/path/of/the/folder");'
    ' Datastore.get(workspace, "{name}") finds it then'
)


class _Record(msgspec.Struct, frozen=True):
    path: str


class Datastore:
    """`Datastore(workspace, "mnist")`, as `Datastore.get`. With `path`, a folder, it is registered first."""

    def __init__(
        self, workspace: Workspace, name: str | None = None, *, path: str | os.PathLike[str] | None = None
    ) -> None:
        self.workspace = workspace
        self.name = check_name("datastore", name or DEFAULT)
        registry = _registry(workspace)
        if path is not None:
            folder = os.path.abspath(os.path.expanduser(os.fspath(path)))
            if not os.path.isdir(folder):
                raise ApiError(
                    f"Datastore {self.name}: {folder} is no folder: make it first, or name another"
                )
            registry.remove(self.name)
            registry.add(self.name, _Record(folder))
        if self.name == DEFAULT and not registry.versions(DEFAULT):
            self.folder = os.path.join(workspace.folder, "data")
            os.makedirs(self.folder, exist_ok=True)
        else:
            self.folder = registry.find(self.name)[1].path

    @property
    def datastore_type(self) -> str:
        return "Folder"

    @staticmethod
    def register_folder(
        workspace: Workspace, datastore_name: str, path: str | os.PathLike[str], overwrite: bool = True
    ) -> Datastore:
        """Give a folder a name in the workspace. What was called so before is not touched."""
        if not overwrite and _registry(workspace).versions(datastore_name):
            raise ExistsError(
                f"Datastore.register_folder: there is a datastore {datastore_name}: overwrite=True replaces it"
            )
        return Datastore(workspace, datastore_name, path=path)

    @staticmethod
    def get(workspace: Workspace, datastore_name: str) -> Datastore:
        return Datastore(workspace, datastore_name)

    @staticmethod
    def get_default(workspace: Workspace) -> Datastore:
        return workspace.get_default_datastore()

    def set_as_default(self) -> None:
        self.workspace.set_default_datastore(self.name)

    def unregister(self) -> None:
        """Its name is forgotten; the folder stays."""
        _registry(self.workspace).remove(self.name)

    def path(self, path: str | None = None, data_reference_name: str | None = None) -> DataPath:
        """A file, folder or glob in it."""
        return DataPath(self, path)

    def upload(
        self, src_dir: str | os.PathLike[str], target_path: str | None = None, overwrite: bool = False,
        show_progress: bool = True,
    ) -> DataPath:  # fmt: skip
        """Copy all that is in a folder into `target_path` here. What is there stays, if not `overwrite`."""
        source = os.path.abspath(os.path.expanduser(os.fspath(src_dir)))
        if not os.path.isdir(source):
            raise ApiError(f"Datastore.upload: {source} is no folder")
        return self.upload_files(files_below(source), source, target_path, overwrite)

    def upload_files(
        self, files: Iterable[str | os.PathLike[str]], relative_root: str | None = None,
        target_path: str | None = None, overwrite: bool = False, show_progress: bool = True,
    ) -> DataPath:  # fmt: skip
        """Copy files into `target_path` here, by their paths below `relative_root`, or else by their names."""
        target = DataPath(self, target_path)
        for file in [os.fspath(one) for one in files]:
            below = os.path.relpath(file, relative_root) if relative_root else os.path.basename(file)
            if below.startswith(".."):
                raise ApiError(f"Datastore.upload_files: {file} is not below relative_root {relative_root}")
            copy_file(file, os.path.join(os.fspath(target), below), overwrite=overwrite)
        return target

    def download(
        self, target_path: str | os.PathLike[str], prefix: str | None = None, overwrite: bool = False,
        show_progress: bool = True,
    ) -> int:  # fmt: skip
        """Copy what is here, below `prefix` if one is given, to a folder; how many files that was."""
        files = [file for file in files_below(self.folder) if _is_below(file, self.folder, prefix)]
        for file in files:
            copy_file(
                file,
                os.path.join(os.fspath(target_path), os.path.relpath(file, self.folder)),
                overwrite=overwrite,
            )
        return len(files)

    def as_mount(self) -> DataPath:
        return DataPath(self, None)

    as_download = as_mount

    @staticmethod
    def register_azure_blob_container(
        workspace: Any = None, datastore_name: str = "NAME", *others: Any, **more: Any
    ) -> NoReturn:
        refuse("Datastore.register_azure_blob_container", _WAY.format(name=datastore_name))

    @staticmethod
    def register_azure_file_share(
        workspace: Any = None, datastore_name: str = "NAME", *others: Any, **more: Any
    ) -> NoReturn:
        refuse("Datastore.register_azure_file_share", _WAY.format(name=datastore_name))

    @staticmethod
    def register_azure_data_lake_gen2(
        workspace: Any = None, datastore_name: str = "NAME", *others: Any, **more: Any
    ) -> NoReturn:
        refuse("Datastore.register_azure_data_lake_gen2", _WAY.format(name=datastore_name))

    def __repr__(self) -> str:
        return f"Datastore({self.name}, {self.folder})"


class DataPath(os.PathLike[str]):
    """A file, folder or glob in a datastore: stands wherever a path can."""

    def __init__(
        self, datastore: Datastore, path_on_datastore: str | None = None, name: str | None = None
    ) -> None:
        self.datastore = datastore
        self.path_on_datastore = (path_on_datastore or "").strip("/")
        self.name = name
        if any(part == ".." for part in self.path_on_datastore.split("/")):
            raise ApiError(f"{path_on_datastore!r}: a path in the datastore {datastore.name} has no .. in it")
        self._slash = "/" if (path_on_datastore or "").endswith("/") else ""

    def __fspath__(self) -> str:
        # The datastore's folder is meant literally, also where a glob follows.
        folder = self.datastore.folder
        if glob.has_magic(self.path_on_datastore):
            folder = glob.escape(folder)
        return (
            os.path.join(folder, self.path_on_datastore) + self._slash if self.path_on_datastore else folder
        )

    def __repr__(self) -> str:
        return f"DataPath({self.datastore.name}, {self.path_on_datastore})"


def datastores(workspace: Workspace) -> dict[str, Datastore]:
    return {name: Datastore(workspace, name) for name in {DEFAULT, *_registry(workspace).names()}}


def files_below(folder: str) -> list[str]:
    """All of them, in order, hidden ones left out as everywhere."""
    found = glob.glob("**", root_dir=folder, recursive=True)
    return sorted(file for name in found if os.path.isfile(file := os.path.join(folder, name)))


def copy_file(source: str, target: str, *, overwrite: bool) -> str:
    """The copy appears whole. Raises ExistsError, if it is there and not to be replaced."""
    if os.path.exists(target) and not overwrite:
        raise ExistsError(f"{target} is there already: overwrite=True replaces it")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    aside = f"{target}.{os.getpid()}.partial"
    try:
        shutil.copyfile(source, aside)
        os.replace(aside, target)
    finally:
        if os.path.lexists(aside):
            os.unlink(aside)
    return target


def _is_below(file: str, folder: str, prefix: str | None) -> bool:
    below = os.path.relpath(file, folder)
    wanted = (prefix or "").strip("/")
    return not wanted or below == wanted or below.startswith(f"{wanted}/")


def _registry(workspace: Workspace) -> Registry[_Record]:
    return Registry(Path(workspace.folder) / "datastores", "datastore", _Record)
