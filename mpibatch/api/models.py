"""`Model`: files or folders that are kept in the workspace by name and version, for jobs of it to load.

Sources: Microsoft's public reference of azureml.core.Model. Each submitted job gets all of them under `models`, so
that `Model.get_model_path("mnist")` in its script, and `${models.mnist}` in its arguments, find them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from mpibatch.api.datastores import copy_file
from mpibatch.api.refusals import ApiError, ExistsError, refuse
from mpibatch.api.registry import Registry, check_name

if TYPE_CHECKING:
    from mpibatch.api.workspace import Workspace


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    file: str
    """The name of the file or folder, which lies beside the record in a folder named as the version."""
    description: str = ""
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}
    created_at: float
    """Seconds since the epoch."""


class Model:
    """`Model(workspace, "mnist")`: the latest version, if none is given; also by `id="mnist:2"`."""

    def __init__(
        self, workspace: Workspace, name: str | None = None, id: str | None = None, tags: Any = None,
        properties: Any = None, version: int | str | None = None, **others: Any,
    ) -> None:  # fmt: skip
        if name is None and id is not None:
            name, _, of_id = id.partition(":")
            version = of_id or version
        if name is None:
            raise ApiError("Model(workspace): a name, or an id like name:version, says which model")
        self.workspace = workspace
        self.name = name
        self.version, self._record = _registry(workspace).find(name, version)

    @property
    def id(self) -> str:
        return f"{self.name}:{self.version}"

    @property
    def description(self) -> str:
        return self._record.description

    @property
    def tags(self) -> dict[str, str]:
        return dict(self._record.tags)

    @property
    def properties(self) -> dict[str, str]:
        return dict(self._record.properties)

    @property
    def path(self) -> str:
        """The file or folder itself. It is others' as well: change a copy."""
        return str(_place(self.workspace, self.name, self.version) / self._record.file)

    url = path

    @staticmethod
    def register(
        workspace: Workspace, model_path: str | os.PathLike[str], model_name: str,
        tags: Mapping[str, str] | None = None, properties: Mapping[str, str] | None = None,
        description: str | None = None, **others: Any,
    ) -> Model:  # fmt: skip
        """Copy a file or folder into the workspace, as version 1 of this name or the next one."""
        check_name("model", model_name)
        source = os.path.abspath(os.path.expanduser(os.fspath(model_path)))
        if not os.path.exists(source):
            raise ApiError(f"Model.register: model_path {source} does not exist: name a file or a folder")
        record = _Record(
            file=os.path.basename(source),
            description=description or "",
            tags=dict(tags or {}),
            properties=dict(properties or {}),
            created_at=time.time(),
        )
        registry = _registry(workspace)
        version = (registry.versions(model_name) or [0])[-1] + 1
        # The folder is made by one of those who register at the same time, and its number is that one's.
        while not _claimed(place := _place(workspace, model_name, version)):
            version += 1
        try:
            _copy(source, str(place / record.file))
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        # After the copy, so that what is registered is there whole.
        registry.add_version(model_name, version, record)
        return Model(workspace, model_name, version=version)

    @staticmethod
    def get_model_path(
        model_name: str, version: int | str | None = None, _workspace: Workspace | None = None
    ) -> str:
        """Of the given workspace, or of that which `Workspace.from_config()` finds."""
        from mpibatch.api.workspace import Workspace

        return Model(_workspace or Workspace.from_config(), model_name, version=version).path

    @staticmethod
    def list(
        workspace: Workspace, name: str | None = None, tags: Any = None, properties: Any = None,
        run_id: str | None = None, latest: bool = False, **others: Any,
    ) -> list[Model]:  # fmt: skip
        """Of each name the newest version first. `tags`: those that have them: keys, or [key, value]."""
        registry = _registry(workspace)
        found = []
        for called in [one for one in registry.names() if name in (None, one)]:
            versions = registry.versions(called)[::-1]
            found += [Model(workspace, called, version=one) for one in versions[: 1 if latest else None]]
        return [one for one in found if _has_tags(one.tags, tags)]

    def download(self, target_dir: str = ".", exist_ok: bool = False, exists_ok: bool | None = None) -> str:
        """Copy it into a folder; the path of the copy."""
        target = os.path.join(os.path.abspath(target_dir), self._record.file)
        if os.path.lexists(target):
            if not (exist_ok or exists_ok):
                raise ExistsError(f"Model.download: {target} is there already: exist_ok=True replaces it")
            shutil.rmtree(target) if os.path.isdir(target) else os.unlink(target)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _copy(self.path, target)
        return target

    def update(
        self, tags: Mapping[str, str] | None = None, description: str | None = None, **others: Any
    ) -> None:
        changed = {
            "tags": None if tags is None else dict(tags),
            "description": description,
        }
        given = {key: value for key, value in changed.items() if value is not None}
        self._record = msgspec.structs.replace(self._record, **given)
        _registry(self.workspace).replace(self.name, self.version, self._record)

    def add_tags(self, tags: Mapping[str, str]) -> None:
        self.update(tags=self.tags | dict(tags))

    def delete(self) -> None:
        """This version. Runs that use it, or have yet to, lose it."""
        place = _place(self.workspace, self.name, self.version)
        # The record first: what is registered is there whole.
        place.with_name(f"{self.version}.json").unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)

    @staticmethod
    def deploy(*arguments: Any, **keywords: Any) -> NoReturn:
        refuse("Model.deploy", "a ParallelRunStep runs a model over data; nothing is served from here")

    def __repr__(self) -> str:
        return f"Model(name={self.name}, version={self.version}, path={self.path})"


def job_models(workspace: Workspace) -> dict[str, str]:
    found: dict[str, str] = {}
    for model in Model.list(workspace):
        found.setdefault(model.name, model.path)  # The newest, which is the first of its name.
        found[f"{model.name}/{model.version}"] = model.path
    return found


def _claimed(place: Path) -> bool:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.mkdir()
    except FileExistsError:
        return False
    return True


def _copy(source: str, target: str) -> None:
    if os.path.isdir(source):
        shutil.copytree(source, target)
    else:
        copy_file(source, target, overwrite=False)


def _has_tags(tags: Mapping[str, str], wanted: Any) -> bool:
    def has(one: Any) -> bool:
        return one in tags if isinstance(one, str) else tags.get(one[0]) == one[1]

    return all(map(has, wanted or ()))


def _place(workspace: Workspace, name: str, version: int) -> Path:
    return Path(workspace.folder) / "models" / name / str(version)


def _registry(workspace: Workspace) -> Registry[_Record]:
    return Registry(Path(workspace.folder) / "models", "model", _Record)
