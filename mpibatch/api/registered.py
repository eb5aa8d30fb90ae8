"""`Dataset`, and what a workspace knows of data by name: `Dataset.get_by_name`, `workspace.datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from mpibatch.api.data import FileDataset
from mpibatch.api.refusals import ExistsError, refuse
from mpibatch.api.registry import Registry
from mpibatch.api.sources import Source
from mpibatch.api.tabular import TabularDataset

if TYPE_CHECKING:
    from mpibatch.api.workspace import Workspace


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    source: Source
    description: str = ""
    tags: dict[str, str] = {}


class Dataset:
    """Makes datasets: `Dataset.File.from_files`, `Dataset.Tabular.from_delimited_files`, `Dataset.get_by_name`."""

    File = FileDataset
    Tabular = TabularDataset

    @staticmethod
    def get_by_name(
        workspace: Workspace, name: str, version: int | str = "latest", **others: Any
    ) -> FileDataset | TabularDataset:
        """Raises NotFoundError, which says what there is."""
        number, record = _registry(workspace).find(name, version)
        made = (FileDataset if record.source.kind == "files" else TabularDataset)(record.source)
        made.name, made.version = name, number
        made.description, made.tags = record.description, record.tags
        return made

    @staticmethod
    def get_all(workspace: Workspace) -> dict[str, FileDataset | TabularDataset]:
        """The latest version of each."""
        return {name: Dataset.get_by_name(workspace, name) for name in _registry(workspace).names()}

    @staticmethod
    def get_by_id(workspace: Workspace, id: str, **others: Any) -> NoReturn:
        refuse("Dataset.get_by_id", "Dataset.get_by_name(workspace, name) finds what is registered")


def register(
    workspace: Workspace, name: str, source: Source, description: str, tags: dict[str, str], new_version: bool
) -> int:
    """Its version: that of equal data, if they are the latest; a new one only where that is asked for."""
    registry = _registry(workspace)
    if registry.versions(name):
        version, latest = registry.find(name)
        if latest.source == source:
            return version
        if not new_version:
            raise ExistsError(
                f"the workspace has a dataset {name} (version {version}) of other data: create_new_version=True adds"
                " a version"
            )
    return registry.add(name, _Record(source=source, description=description, tags=tags))


def next_version(workspace: Workspace, name: str) -> int:
    return (_registry(workspace).versions(name) or [0])[-1] + 1


def unregister(workspace: Workspace, name: str) -> None:
    """All versions; the data stay."""
    _registry(workspace).remove(name)


def _registry(workspace: Workspace) -> Registry[_Record]:
    return Registry(Path(workspace.folder) / "datasets", "dataset", _Record)
