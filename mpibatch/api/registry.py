"""What a workspace knows by name and version: small JSON files in its folder, each written whole.

`<workspace>/<sort>/<name>/<version>.json`. Two processes that register at once do not lose each other's: a version
is a file of its own, made only where there is none.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from mpibatch.api.refusals import ApiError, NotFoundError
from mpibatch.core.settings import did_you_mean, shown
from mpibatch.runtime.files import sync_folder, write_whole

Record = TypeVar("Record", bound=msgspec.Struct)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_RULE = "a name is of letters, digits, _, . and -, the first no . or -"


def check_name(what: str, name: object) -> str:
    """`what`: of what it is a name. Raises ApiError."""
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ApiError(f"{what} {shown(name)} cannot be a name: {_RULE}")
    return name


class Registry(Generic[Record]):
    """All of one sort: `Registry(folder / "datasets", "dataset", DatasetRecord)`."""

    def __init__(self, folder: Path, what: str, kind: type[Record]) -> None:
        self.folder = folder
        self._what = what
        self._kind = kind

    def names(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted(entry.name for entry in self.folder.iterdir() if self.versions(entry.name))

    def versions(self, name: str) -> list[int]:
        """In order; none where nothing of this name is registered."""
        try:
            found = os.listdir(self.folder / name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(int(one[:-5]) for one in found if re.fullmatch(r"[1-9][0-9]*\.json", one))

    def find(self, name: str, version: int | str | None = None) -> tuple[int, Record]:
        """The highest version, if none is asked for (None or "latest"). Raises NotFoundError."""
        versions = self.versions(str(name))
        if not versions:
            there = self.names()
            has = f"it has {', '.join(there)}" if there else f"no {self._what} is registered in it"
            raise NotFoundError(
                f"the workspace {self.folder.parent} has no {self._what} {shown(name)}: {has}"
                f"{did_you_mean(name, there)}"
            )
        wanted = versions[-1] if version in (None, "latest") else _number(version)
        if wanted not in versions:
            has = ", ".join(map(str, versions))
            raise NotFoundError(f"{self._what} {shown(name)} has no version {version}: it has {has}")
        return wanted, self._read(name, wanted)

    def all(self, name: str) -> Iterator[tuple[int, Record]]:
        """All versions of one name, the oldest first."""
        for version in self.versions(name):
            yield version, self._read(name, version)

    def add(self, name: str, record: Record) -> int:
        """As a new version, whose number it gives."""
        check_name(self._what, name)
        version = (self.versions(name) or [0])[-1] + 1
        while not self.add_version(name, version, record):
            version += 1
        return version

    def add_version(self, name: str, version: int, record: Record) -> bool:
        """False, and nothing is done, where there is this version."""
        file = self._file(name, version)
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{version}.{os.getpid()}.{threading.get_ident()}.partial")
        try:
            with open(aside, "wb") as opened:
                opened.write(msgspec.json.format(msgspec.json.encode(record)))
                opened.flush()
                os.fsync(opened.fileno())
            os.link(aside, file)  # Unlike a rename, this replaces nothing.
        except FileExistsError:
            return False
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(file.parent)
        return True

    def replace(self, name: str, version: int, record: Record) -> None:
        file = self._file(name, version)
        write_whole(file, msgspec.json.format(msgspec.json.encode(record)))

    def remove(self, name: str) -> None:
        """All versions."""
        for version in self.versions(name):
            self._file(name, version).unlink(missing_ok=True)
        try:
            (self.folder / name).rmdir()
        except OSError:  # Something else lies there, which is not ours.
            pass

    def _file(self, name: str, version: int) -> Path:
        return self.folder / name / f"{version}.json"

    def _read(self, name: str, version: int) -> Record:
        file = self._file(name, version)
        try:
            return msgspec.json.decode(file.read_bytes(), type=self._kind)
        except msgspec.DecodeError as error:
            raise NotFoundError(
                f"{file} is damaged ({error}): remove it, and register the {self._what} again"
            ) from None


def _number(version: object) -> int:
    return int(str(version)) if str(version).isdecimal() else -1
