"""`Environment` and `CondaDependencies`: what scripts run in. Nothing is installed: what is asked for must be there.

Sources: Microsoft's public reference of azureml.core.Environment and azureml.core.conda_dependencies. Packages that
this interpreter lacks are told of in one line, as is the way to name another.
"""

from __future__ import annotations

import copy
import importlib.metadata
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from mpibatch.api.refusals import ApiError, refuse, tell_once
from mpibatch.api.registry import Registry, check_name

if TYPE_CHECKING:
    from mpibatch.api.workspace import Workspace

DEFAULT_CPU_IMAGE = DEFAULT_GPU_IMAGE = "none: there are no images here"
_OWN = re.compile(r"azureml|azure-|pip\b|python\b|mpibatch")
"""Packages that are Azure's, or come with an interpreter: that they are not here is no news."""
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_WAY = (
    'Environment(name, python="/path/of/bin/python") names an interpreter that has them; from_container and the key'
    " environment of a job file do the same for containers, conda and modules"
)


class CondaDependencies:
    """A list of packages. None is installed here: `Environment.missing_packages` says which of them are not."""

    def __init__(self, conda_dependencies_file_path: str | os.PathLike[str] | None = None) -> None:
        self.pip_packages: list[str] = []
        self.conda_packages: list[str] = []
        self.conda_channels: list[str] = []
        self.python_version: str | None = None
        if conda_dependencies_file_path is not None:
            self._read(Path(conda_dependencies_file_path))

    @staticmethod
    def create(
        pip_indexurl: str | None = None, pip_packages: Iterable[str] | None = None,
        conda_packages: Iterable[str] | None = None, python_version: str | None = None,
        pin_sdk_version: bool = True,
    ) -> CondaDependencies:  # fmt: skip
        made = CondaDependencies()
        made.pip_packages = list(pip_packages or ())
        made.conda_packages = list(conda_packages or ())
        made.python_version = python_version
        return made

    def add_pip_package(self, pip_package: str) -> None:
        self.pip_packages.append(pip_package)

    def add_conda_package(self, conda_package: str) -> None:
        self.conda_packages.append(conda_package)

    def add_channel(self, channel: str) -> None:
        self.conda_channels.append(channel)

    def set_python_version(self, version: str) -> None:
        self.python_version = version

    def remove_pip_package(self, pip_package: str) -> None:
        self.pip_packages = [one for one in self.pip_packages if one != pip_package]

    def remove_conda_package(self, conda_package: str) -> None:
        self.conda_packages = [one for one in self.conda_packages if one != conda_package]

    def _read(self, file: Path) -> None:
        import yaml

        try:
            given = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise ApiError(f"the conda file {file} cannot be read: {error}") from None
        if not isinstance(given, Mapping):
            raise ApiError(f"the conda file {file} is no mapping with dependencies")
        self.conda_channels = [str(one) for one in given.get("channels") or ()]
        for one in given.get("dependencies") or ():
            if isinstance(one, Mapping):
                self.pip_packages += map(str, one.get("pip") or ())
            else:
                self.conda_packages.append(str(one))


class PythonSection:
    """`environment.python`"""

    def __init__(self) -> None:
        self.conda_dependencies = CondaDependencies()
        self.user_managed_dependencies = False
        self.interpreter_path: str | None = None
        """The interpreter of scripts; None: the one that runs this."""


class _Section:
    """Of what means nothing here: it takes any attribute."""

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return None


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    python: str | None
    mapping: dict[str, Any] = {}
    variables: dict[str, str] = {}
    pip_packages: list[str] = []
    conda_packages: list[str] = []


class Environment:
    """What scripts run in: this interpreter; another one, `python`; or `environment`, as that key of a job file."""

    def __init__(
        self, name: str, *, python: str | os.PathLike[str] | None = None,
        environment: Mapping[str, Any] | None = None, **others: Any,
    ) -> None:  # fmt: skip
        self.name = check_name("environment", name)
        self.version: str | None = None
        self.python = PythonSection()
        if python is not None:
            self.python.interpreter_path = os.path.abspath(os.path.expanduser(os.fspath(python)))
        self.environment = dict(environment or {})
        self.environment_variables: dict[str, str] = {}
        self.docker: Any = _Section()
        self.spark: Any = _Section()
        self.inferencing_stack_version: str | None = None

    def job_keys(self) -> dict[str, Any]:
        """`python`, `environment` and `environment_variables` of a job file. What is missing is told, once."""
        missing = self.missing_packages()
        if missing:
            tell_once(
                f"environment {self.name} asks for packages that are not installed here, and are not installed by"
                f" this: {', '.join(missing)}; {_WAY}"
            )
        keys: dict[str, Any] = {}
        if self.python.interpreter_path not in (None, "", "python"):
            keys["python"] = self.python.interpreter_path
        if self.environment:
            keys["environment"] = dict(self.environment)
        if self.environment_variables:
            keys["environment_variables"] = {
                key: str(value) for key, value in self.environment_variables.items()
            }
        return keys

    def missing_packages(self) -> list[str]:
        """Those of its packages that this interpreter lacks, versions left aside; none where it names another."""
        if self.environment or self.python.interpreter_path not in (None, "", "python"):
            return []
        dependencies = self.python.conda_dependencies
        named = [*dependencies.pip_packages, *dependencies.conda_packages]
        found = (_PACKAGE.match(package.strip().rpartition("::")[2]) for package in named)
        names = dict.fromkeys(match[0] for match in found if match and not _OWN.match(match[0].lower()))
        return [name for name in names if not _is_installed(name)]

    @staticmethod
    def from_existing_conda_environment(name: str, conda_environment_name: str) -> Environment:
        """By its name, or the path of its folder: it has to be able to import mpibatch."""
        if os.sep in conda_environment_name:
            python = os.path.join(conda_environment_name, "bin", "python")
            if not os.path.isfile(os.path.expanduser(python)):
                raise ApiError(f"from_existing_conda_environment: there is no interpreter {python}")
            return Environment(name, python=python)
        return Environment(name, environment={"conda": conda_environment_name})

    @staticmethod
    def from_conda_specification(name: str, file_path: str | os.PathLike[str]) -> Environment:
        """The packages of a conda file, which have to be there."""
        made = Environment(name)
        made.python.conda_dependencies = CondaDependencies(file_path)
        return made

    @staticmethod
    def from_pip_requirements(
        name: str, file_path: str | os.PathLike[str], pip_version: str | None = None
    ) -> Environment:
        """The packages of a requirements file, which have to be there."""
        lines = (line.strip() for line in Path(file_path).read_text(encoding="utf-8").splitlines())
        made = Environment(name)
        made.python.conda_dependencies.pip_packages = [line for line in lines if line and line[0] not in "#-"]
        return made

    @staticmethod
    def from_container(name: str, image: str | os.PathLike[str]) -> Environment:
        """A container's image, as `environment: {container: image.sif}` of a job file."""
        return Environment(name, environment={"container": os.path.abspath(os.path.expanduser(image))})

    @staticmethod
    def from_docker_image(name: str, image: str, *others: Any, **also: Any) -> NoReturn:
        refuse(
            "Environment.from_docker_image",
            f"make an Apptainer image of {image} (apptainer build image.sif docker://{image}), and take"
            f' Environment.from_container("{name}", "image.sif")',
        )

    @staticmethod
    def from_dockerfile(name: str, *others: Any, **also: Any) -> NoReturn:
        refuse(
            "Environment.from_dockerfile",
            f'build an image, and take Environment.from_container("{name}", "image.sif")',
        )

    def clone(self, new_name: str) -> Environment:
        made = copy.deepcopy(self)
        made.name, made.version = check_name("environment", new_name), None
        return made

    def register(self, workspace: Workspace) -> Environment:
        """Keep it in the workspace by its name."""
        dependencies = self.python.conda_dependencies
        record = _Record(
            python=self.python.interpreter_path,
            mapping=self.environment,
            variables=self.environment_variables,
            pip_packages=dependencies.pip_packages,
            conda_packages=dependencies.conda_packages,
        )
        self.version = str(_registry(workspace).add(self.name, record))
        return self

    @staticmethod
    def get(
        workspace: Workspace, name: str, version: int | str | None = None, label: str | None = None
    ) -> Environment:
        number, record = _registry(workspace).find(name, version)
        made = Environment(name, python=record.python, environment=record.mapping)
        made.version = str(number)
        made.environment_variables = dict(record.variables)
        made.python.conda_dependencies = CondaDependencies.create(
            pip_packages=record.pip_packages, conda_packages=record.conda_packages
        )
        return made

    @staticmethod
    def list(workspace: Workspace) -> dict[str, Environment]:
        return {name: Environment.get(workspace, name) for name in _registry(workspace).names()}

    def __repr__(self) -> str:
        return f"Environment({self.name})"


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        # Conda knows interpreters' tools as well, like gcc or cuda.
        return shutil.which(package) is not None
    return True


def _registry(workspace: Workspace) -> Registry[_Record]:
    return Registry(Path(workspace.folder) / "environments", "environment", _Record)
