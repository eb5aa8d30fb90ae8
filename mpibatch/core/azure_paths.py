"""Paths in Azure ML's v2 YAML: local ones, put together by text, and those that only its cloud knows. Pure."""

from __future__ import annotations

import re
from typing import Any

from mpibatch.core.settings import Wrong, text

_URI = re.compile(r"(?!file:)([A-Za-z][A-Za-z0-9+.-]*://|azureml:|https?:|wasbs?:|abfss?:|adl:|git\+)")
_FILE = re.compile(r"file:(?://(?=/))?")


def is_uri(path: Any) -> bool:
    """Whether it names what lies in a workspace or on the network."""
    return isinstance(path, str) and _URI.match(path) is not None


def local(value: Any, key: str, *, what: str = "data") -> str:
    """A path as it stands there. `key`: what to set instead of one that is not local; raises `Wrong`."""
    path: str = text(value)
    if is_uri(path):
        raise Wrong(
            f"{what} in a workspace or on the network cannot be reached from here: copy what it names, and say where"
            f" it is by --set {key}=PATH"
        )
    return on_this_machine(path)


def on_this_machine(path: str) -> str:
    """Without `file:` in front; raises `Wrong` where it is a path of Windows."""
    if "\\" in path:
        raise Wrong("has a \\ in it, as paths of Windows have: here it is /, like ./data")
    return _FILE.sub("", path, count=1)


def below(folder: str, path: str) -> str:
    """`path`, which is relative to `folder`, as it is from where `folder` is relative to; `..` stays."""
    if path.startswith(("/", "~")):
        return path
    slash = "/" if path.endswith(("/", "/.")) and path.strip("./") else ""
    parts = [part for part in f"{folder}/{path}".split("/") if part not in ("", ".")]
    joined = "/".join(parts)
    return (("/" if folder.startswith("/") else "") + joined + slash) or "."


def folder_of(path: str) -> str:
    """The folder of a file, like `os.path.dirname`."""
    return path.rpartition("/")[0] or ("/" if path.startswith("/") else "")


def file_of(path: str) -> str:
    return path.rpartition("/")[2]
