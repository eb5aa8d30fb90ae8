"""Files that a script gives to its run: they go to `artifacts` in the run folder, and appear whole."""

from __future__ import annotations

import glob
import os
import shutil
import time
from typing import IO, Any

from mpibatch.entry import EntryScript

FOLDER = "artifacts"
_IMAGES = "images"


def put(name: str, source: str | os.PathLike[str] | IO[bytes]) -> None:
    """`name`: a path below the folder. One of the same name is replaced, as a mini-batch may be tried again."""
    target, aside = _target(name, "upload_file")
    try:
        if isinstance(source, str | os.PathLike):
            shutil.copyfile(source, aside)
        else:
            with open(aside, "wb") as file:
                shutil.copyfileobj(source, file)
        os.replace(aside, target)
    finally:
        _remove(aside)


def put_folder(name: str, folder: str) -> None:
    if not os.path.isdir(folder):
        raise NotADirectoryError(f"upload_folder({name!r}): {folder} is no folder")
    for found in sorted(glob.glob("**", root_dir=folder, recursive=True, include_hidden=True)):
        if os.path.isfile(os.path.join(folder, found)):
            put(os.path.join(name, found), os.path.join(folder, found))


def put_image(name: str, path: str | None, plot: Any) -> str:
    """Under a name of its own, as many mini-batches may log images of one name; its path below the run folder."""
    process = EntryScript().agent_name
    ending = os.path.splitext(path)[1] if path is not None else ".png"
    node = os.path.basename(EntryScript().log_dir)
    own = f"{name.replace(os.sep, '_')}-{node}-{process}-{time.time_ns()}{ending}"
    inside = os.path.join(_IMAGES, own)
    if path is not None:
        put(inside, path)
    else:
        target, aside = _target(inside, "log_image")
        try:
            plot.savefig(aside, format="png")
            os.replace(aside, target)
        finally:
            _remove(aside)
    return os.path.join(FOLDER, inside)


def names() -> list[str]:
    found = glob.glob("**", root_dir=_folder(), recursive=True, include_hidden=True)
    return sorted(
        name for name in found if os.path.isfile(os.path.join(_folder(), name)) and not _is_aside(name)
    )


def fetch(name: str, target: str | None) -> None:
    """Copy it to a file or folder here. Raises FileNotFoundError, which says which there are."""
    there = names()
    if name not in there:
        raise FileNotFoundError(f"download_file({name!r}): {_folder()} has {', '.join(there) or 'no files'}")
    to = target or os.path.basename(name)
    if os.path.dirname(to):
        os.makedirs(os.path.dirname(to), exist_ok=True)
    shutil.copyfile(
        os.path.join(_folder(), name), os.path.join(to, os.path.basename(name)) if os.path.isdir(to) else to
    )


def _folder() -> str:
    return os.path.join(EntryScript().output_dir, FOLDER)


def _target(name: str, call: str) -> tuple[str, str]:
    """Where the file is to stand, and where it is written before."""
    clean = os.path.normpath(name)
    if os.path.isabs(clean) or clean in (".", "..") or clean.startswith(f"..{os.sep}"):
        raise ValueError(
            f"{call}({name!r}): the name is a path below {_folder()}, so neither absolute nor with .."
        )
    target = os.path.join(_folder(), clean)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    return target, os.path.join(
        os.path.dirname(target), f".{os.path.basename(target)}.{os.uname().nodename}.{os.getpid()}.partial"
    )


def _is_aside(name: str) -> bool:
    base = os.path.basename(name)
    return base.startswith(".") and base.endswith(".partial")


def _remove(aside: str) -> None:
    try:
        os.unlink(aside)
    except FileNotFoundError:
        pass
