"""The job file's key `environment`: what is made around the processors before their interpreter starts. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from mpibatch.core.places import Places
from mpibatch.core.settings import Check, Problems, Wrong, did_you_mean, plain_list, shown, text
from mpibatch.core.shell_lines import Container

EXAMPLE = "{modules: [gcc/12], conda: my-env, setup: source site.sh}"
CONTAINER_EXAMPLE = "{image: tools.sif, options: [--nv]}"
MOST_SETUP_BYTES = 1_000_000

_AZURE = {
    "docker": "container, an image for apptainer or singularity",
    "image": "container, an image for apptainer or singularity",
    "conda_file": "conda, the name or folder of an environment that is there (conda env create -f FILE makes it)",
    "conda_dependencies": "conda, the name or folder of an environment that is there",
    "pip": "python, the interpreter of an environment that has these packages",
    "python_interpreter_path": "python",
    "interpreter": "python",
    "variables": "environment_variables, beside environment",
    "environment_variables": "environment_variables, beside environment",
    "env": "environment_variables, beside environment",
    "module": "modules",
    "singularity": "container",
    "apptainer": "container",
    "name": "conda, where it is a conda environment; else leave it out",
    "version": "to be left out",
    "build": "to be left out",
}
_DAEMONS = ("docker", "podman", "nerdctl", "podman-hpc", "shifter", "charliecloud")
_CONDA_NAME = re.compile(r"[^\s/:#]+")


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What stands below `environment`, checked."""

    python: str | None = None
    """An interpreter: a path, absolute, or a name that is looked for when all else is made; in the container where
    there is one. None: the python3 that this environment has brought with it, else the one of this program."""
    conda: str | None = None
    """An environment's name, or its folder, absolute."""
    modules: list[str] = []
    setup: str = ""
    """Lines of bash."""
    container: Container | None = None

    @property
    def by_shell(self) -> bool:
        """Whether a shell has to make it. Else there is nothing to make, or an interpreter with a path only."""
        by_name = self.python is not None and "/" not in self.python
        return bool(by_name or self.conda or self.modules or self.setup or self.container)


def read_environment(problems: Problems, value: Any, python: str | None, places: Places) -> dict[str, Any]:
    """The fields of a job that the key gives. `python`: the key beside it, if that is given."""
    given = problems.mapping("environment", _explained(problems, value), EXAMPLE)
    problems.unknown_keys("environment.", given, tuple(_CHECKS), _hint)
    taken = {
        name: problems.take(f"environment.{name}", given[name], check)
        for name, check in _CHECKS.items()
        if given.get(name) is not None
    }
    known = {name: one for name, one in taken.items() if one is not None}
    container = known.get("container")
    inside = container is not None
    if container is not None and "://" not in container.image:
        known["container"] = msgspec.structs.replace(container, image=places.absolute(container.image))
    for name in ("python", "conda"):
        if "/" in known.get(name, "") and not (inside and name == "python"):
            known[name] = places.absolute(known[name])
    if inside and known.get("python", "/").find("/") > 0:
        problems.add(
            "environment.python",
            f"is {shown(known['python'])}: in a container it is a name or an absolute path",
        )
    _compare(problems, known, python)
    environment = Environment(**known)
    own = environment.python
    return {"environment": environment, "python": python if inside or own is None or "/" not in own else own}


def _compare(problems: Problems, known: Mapping[str, Any], python: str | None) -> None:
    """With the key `python`."""
    if python is None:
        return
    if known.get("python", python) != python:
        problems.add(
            "environment.python",
            f"is {shown(known['python'])}, but python is {shown(python)}: leave one of them out",
        )
    elif "container" in known:
        problems.add(
            "python",
            f"is {shown(python)}, outside of environment.container: name the one in it as environment.python",
        )


def _explained(problems: Problems, value: Any) -> Any:
    """What Azure ML's job files have here is a name: the mapping that may be meant, in words."""
    if isinstance(value, str):
        problems.add(
            "environment",
            f"is {shown(value)}: must be a mapping, like {EXAMPLE}; for a conda environment write"
            " environment: {conda: NAME}, for an image environment: {container: IMAGE}, for an interpreter"
            " python: PATH",
        )
        return {}
    return {} if value is None else value


def _hint(key: str, value: Any) -> str | None:
    return f"; here it is {_AZURE[key]}" if key in _AZURE else None


def _line(value: Any) -> str:
    taken = text(value)
    if not taken.strip() or any(ord(character) < 32 or ord(character) == 127 for character in taken):
        raise Wrong("must be one line, without control characters")
    return taken


def _word(what: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        taken = _line(value).strip()
        if taken.startswith("-"):
            raise Wrong(f"must be {what}, and none begins with -")
        return taken

    return check


def _conda(value: Any) -> str:
    taken = _word("an environment's name or folder")(value)
    if taken.endswith((".yml", ".yaml")):
        raise Wrong(f"must be an environment that is there; conda env create -f {taken} makes one")
    if "/" not in taken and not taken.startswith("~") and not _CONDA_NAME.fullmatch(taken):
        raise Wrong("must be an environment's name, or its folder (with a slash)")
    return taken if "/" in taken or not taken.startswith("~") else f"{taken}/"


def _modules(value: Any) -> list[str]:
    elements = value.split() if isinstance(value, str) else plain_list(value)
    modules = [_word("the name of a module, like gcc/12")(one) for one in elements]
    for module in modules:
        if " " in module:
            raise Wrong(f"{shown(module)} must be one module: a list element each, like [gcc/12, openmpi]")
    return modules


def _setup(value: Any) -> str:
    elements = value if isinstance(value, list | tuple) else [value]
    lines = "\n".join(text(one).replace("\r\n", "\n").strip("\n") for one in elements)
    if "\r" in lines:
        raise Wrong("must not contain a carriage return, which a shell takes for a part of the word")
    if len(lines.encode("utf-8", "surrogateescape")) > MOST_SETUP_BYTES:
        raise Wrong(
            f"must not be longer than {MOST_SETUP_BYTES:,} bytes: put it into a file, and source that"
        )
    return lines


def _container(value: Any) -> Container:
    if isinstance(value, str):
        return Container(image=_image(value))
    legal = ("image", "command", "options")
    if not isinstance(value, Mapping) or value.get("image") is None:
        raise Wrong(f"must be an image, or a mapping like {CONTAINER_EXAMPLE}")
    for key in value:
        if key not in legal:
            raise Wrong(f"has {shown(key)}, which is none of {', '.join(legal)}{did_you_mean(key, legal)}")
    options = value.get("options")
    return Container(
        image=_image(value["image"]),
        command=_command(value["command"]) if value.get("command") is not None else "apptainer",
        options=[_line(one) for one in plain_list([] if options is None else options)],
    )


def _image(value: Any) -> str:
    return _word("an image: a .sif file, a folder, or a place like docker://python:3.12")(value)


def _command(value: Any) -> str:
    command = _word("apptainer, singularity, or the path of one of them")(value)
    name = command.rpartition("/")[2]
    if name in _DAEMONS:
        raise Wrong(
            f"{name} does not hand open files on to what it starts, by which mpibatch speaks with it;"
            " apptainer and singularity do, and both take docker:// images"
        )
    return command


_CHECKS: dict[str, Check] = {
    "python": _word("an interpreter's path or name"),
    "conda": _conda,
    "modules": _modules,
    "setup": _setup,
    "container": _container,
}
