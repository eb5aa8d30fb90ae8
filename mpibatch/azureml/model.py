"""`Model`: the job's models by name and version."""

from __future__ import annotations

import difflib
import os
import shutil
from typing import Any, NoReturn

from mpibatch.azureml.refusal import refuse
from mpibatch.entry import EntryScript


class UnknownModel(LookupError):
    """The job has no such model: name it under `models` in the job file."""


def _models() -> dict[str, str]:
    around = EntryScript._surroundings
    return {} if around is None else {name: os.fsdecode(path) for name, path in around.models.items()}


def _versions(name: str) -> dict[int, str]:
    """By version, the highest last; 0 is the one without."""
    found = {}
    for key, path in _models().items():
        called, _, version = key.partition("/")
        if called == name:
            found[int(version or 0)] = path
    return dict(sorted(found.items()))


def _find(name: str, version: int | str | None) -> tuple[int, str]:
    """Version and path. Without one asked for, that of the entry without a version counts, else the highest."""
    versions = _versions(str(name))
    if version is None and versions:
        return next(iter(versions.items())) if 0 in versions else list(versions.items())[-1]
    if version is not None and str(version).isdecimal() and int(version) in versions and int(version):
        return int(version), versions[int(version)]
    raise UnknownModel(_unknown(str(name), version))


def _unknown(name: str, version: int | str | None) -> str:
    wanted = name if version is None else f"{name}/{version}"
    if EntryScript._surroundings is None:
        return f"model {wanted}: outside of a run there are no models; the job file's key models names them for a run"
    models = list(_models())
    near = difflib.get_close_matches(wanted, models, 1)
    there = f"it has {', '.join(models)}" if models else "it has none"
    meant = f" (is {near[0]} meant?)" if near else ""
    return (
        f"model {wanted} is none of the job's: {there}{meant}; add it in the job file under models, like"
        f' models: {{"{wanted}": path}}, where path is a file or folder'
    )


class Model:
    """A model of the job: `models: {mnist: path, "mnist/2": path}` in the job file, paths of files or folders."""

    def __init__(
        self,
        workspace: object = None,
        name: str | None = None,
        id: str | None = None,
        tags: object = None,
        properties: object = None,
        version: int | str | None = None,
        **others: object,
    ) -> None:
        if name is None and id is not None:
            name, _, of_id = id.partition(":")
            version = of_id or version
        if name is None:
            raise ValueError("Model(): a name, or an id like name:version, says which model")
        self.name = name
        self.version, self.path = _find(name, version)
        """`version`: 0 for one that has none."""
        self.workspace = workspace
        self.tags: dict[str, str] = {}
        self.properties: dict[str, str] = {}
        self.description = ""

    @property
    def id(self) -> str:
        return f"{self.name}:{self.version}"

    @staticmethod
    def get_model_path(model_name: str, version: int | str | None = None, _workspace: object = None) -> str:
        """The file or folder of a model. Raises `UnknownModel`."""
        return _find(model_name, version)[1]

    @staticmethod
    def list(
        workspace: object = None, name: str | None = None, latest: bool = False, **others: object
    ) -> list[Model]:
        """Those of the job, the newest version of each first."""
        names = dict.fromkeys(key.partition("/")[0] for key in _models())
        found = []
        for called in [one for one in names if name in (None, one)]:
            versions = list(_versions(called))[::-1]
            found += [
                Model(workspace, called, version=version or None)
                for version in versions[: 1 if latest else None]
            ]
        return found

    def download(self, target_dir: str = ".", exist_ok: bool = False, **others: object) -> str:
        """Copy it to this folder; the path of the copy."""
        target = os.path.join(target_dir, os.path.basename(self.path.rstrip("/")))
        if os.path.exists(target) and not exist_ok:
            raise FileExistsError(f"Model.download: {target} is there already; exist_ok=True writes over it")
        os.makedirs(target_dir, exist_ok=True)
        if os.path.isdir(self.path):
            shutil.copytree(self.path, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(self.path, target)
        return target

    @staticmethod
    def register(*arguments: object, **keywords: object) -> NoReturn:
        refuse("Model.register")

    @staticmethod
    def deploy(*arguments: object, **keywords: object) -> NoReturn:
        refuse("Model.deploy")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        refuse(f"Model.{name}")

    def __repr__(self) -> str:
        return f"Model(name={self.name}, version={self.version}, path={self.path})"
