"""The job fingerprint: what makes two starts the same job, part by part, so that a message can say what differs.

It decides whether a finished run is reused; that the plan may be continued is the plan fingerprint's to
say. Where something cannot be read, a marker stands for it: then it differs once it can be read again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from mpibatch.core.config import Job
from mpibatch.core.environment_keys import Environment
from mpibatch.runtime.jobfile import SETTINGS_FILE
from mpibatch.runtime.planner import Plan

_DIGEST_SIZE = 16
_STATUS = struct.Struct("<Qq")
_NO_STATUS = b"\xff" * _STATUS.size
"""Stands for size and time of what is not there."""

ARGUMENTS = "arguments or side_outputs, or a file or folder that arguments name"
_WORDS = {
    "plan": "the input files, their order or mini_batch_size",
    "script": f"the entry script, a Python file of its source folder, or {SETTINGS_FILE}",
    "arguments": ARGUMENTS,
    "side_inputs": "side_inputs or models, or a file of theirs",
    "output": "output_action, append_row_file_name, append_row, append_row_format, add_input_key, order or"
    " copy_output_to",
    "settings": "environment, environment_variables, python or tensorflow_v1",
    "inputs": "the size or time of an input file",
}


def job_fingerprint(job: Job, plan: Plan, *, inputs: bool = True) -> dict[str, str]:
    """The parts by name, each a hex digest. `inputs`: also look at every item (a microsecond or two for each)."""
    parts = {
        "plan": plan.fingerprint,
        "script": _script(job),
        "arguments": _digest(
            [[argument, _looks(_path_in(argument), job)] for argument in job.arguments] + _side_outputs(job)
        ),
        "side_inputs": _digest(
            [
                {name: [path, _looks(path, job)] for name, path in sorted(named.items())}
                for named in (job.side_inputs, job.models)
            ]
        ),
        "output": _digest(
            [
                job.output_action,
                job.append_row_file_name,
                job.append_row,
                job.order,
                job.append_row_format,
                job.add_input_key,
                *([{"copy_output_to": job.copy_output_to}] if job.copy_output_to else []),
            ]
        ),
        "settings": _digest([job.environment_variables, job.python, *_environment(job), *_stand_ins(job)]),
    }
    return parts | {"inputs": input_stats(plan)} if inputs else parts


def _environment(job: Job) -> list[Any]:
    """Nothing where none is given, so that runs of earlier versions are what they were."""
    return [msgspec.to_builtins(job.environment)] if job.environment != Environment() else []


def _side_outputs(job: Job) -> list[Any]:
    """Where they are: what is in them the run itself has made."""
    return [{"side_outputs": job.side_outputs}] if job.side_outputs else []


def _stand_ins(job: Job) -> list[Any]:
    return ["tensorflow_v1"] if job.tensorflow_v1 else []


def input_stats(plan: Plan) -> str:
    """Digest of size and time of every item, in order."""
    digest = hashlib.blake2b(digest_size=_DIGEST_SIZE)
    for paths in plan.all_paths():
        digest.update(b"".join(map(_status, paths)))
    return digest.hexdigest()


def describe_changes(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """In words, what differs between two job fingerprints. What `new` does not tell of is not compared."""
    return [
        _WORDS.get(part, part) if part in old else f"{_WORDS.get(part, part)} (not noted by the earlier run)"
        for part in new
        if old.get(part) != new[part]
    ]


def _digest(value: Any) -> str:
    # ASCII escapes keep names that are not UTF-8 apart; `repr` is for a YAML date among to_csv keywords.
    text = json.dumps(value, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_SIZE).hexdigest()


def _status(path: bytes) -> bytes:
    try:
        status = os.stat(path)
    except OSError:
        return _NO_STATUS
    return _STATUS.pack(status.st_size, status.st_mtime_ns)


# What arguments, side inputs and models name


def _path_in(argument: str) -> str:
    """The path in `--model=/path` or `/path`; anything else is returned too, and is no absolute path."""
    return argument.partition("=")[2] if argument.startswith("-") else argument


def _looks(path: str, job: Job) -> Any:
    """Sizes and times of a file, or of the files directly in a folder; None for what is no such path.

    The run folder and side outputs, and what they lie in, change with each run: of that the name alone counts.
    So it is for folders in a folder, which `__pycache__` and the like make look changed.
    """
    made = (job.output, *job.side_outputs.values())
    if not path.startswith("/") or "\0" in path or any(_is_below(path, folder) for folder in made):
        return None
    try:
        with os.scandir(path) as entries:
            return sorted(_look(entry) for entry in entries if not _is_passing(entry, job))
    except NotADirectoryError:
        return _file_look(path)
    except OSError as error:
        return _failure(error)


def _look(entry: os.DirEntry[str]) -> list[Any]:
    try:
        if entry.is_dir():
            return [entry.name]
        status = entry.stat()
    except OSError as error:
        return [entry.name, _failure(error)]
    return [entry.name, status.st_size, status.st_mtime_ns]


def _file_look(path: str) -> Any:
    try:
        status = os.stat(path)
    except OSError as error:
        return _failure(error)
    return [status.st_size, status.st_mtime_ns]


def _failure(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "unreadable")


def _is_passing(entry: os.DirEntry[str], job: Job) -> bool:
    if entry.name.startswith(".") or entry.name == "__pycache__":
        return True
    return any(_is_below(folder, entry.path) for folder in (job.output, *job.side_outputs.values()))


def _is_below(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or in it."""
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


# The script


def _script(job: Job) -> str:
    """Digest of the code: the entry script, the Python files it may import, the settings beside it."""
    digest = hashlib.blake2b(digest_size=_DIGEST_SIZE)
    script = _script_file(job)
    beside = os.path.dirname(script)
    sources = _sources(job.source_directory, job) if job.source_directory else _beside(beside, job)
    for name, path in (
        ("entry script", script),
        ("settings", os.path.join(beside, SETTINGS_FILE)),
        *sources,
    ):
        content = _content(path)
        digest.update(f"{name!r} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _script_file(job: Job) -> str:
    """The entry script's file; for a dotted module, where it should be below the source folder."""
    if not job.entry_is_module:
        return job.entry_script
    below = os.path.join(job.source_directory or job.job_dir, *job.entry_script.split("."))
    package = os.path.join(below, "__init__.py")
    return package if os.path.exists(package) else below + ".py"


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        return f"\0{_failure(error)}".encode()  # No Python file begins with NUL.


def _sources(folder: str, job: Job) -> Iterator[tuple[str, str]]:
    """All Python files below `folder`: the path from there, and the whole path, in order."""
    for path, folders, names in os.walk(folder):
        if path != folder and ("pyvenv.cfg" in names or ".mpibatch" in folders):
            folders.clear()  # An environment, or the folder of a run.
            continue
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name != "__pycache__" and os.path.join(path, name) != job.output
        )
        for name in sorted(names):
            if name.endswith(".py") and not name.startswith("."):
                whole = os.path.join(path, name)
                yield os.path.relpath(whole, folder), whole


def _beside(folder: str, job: Job) -> Iterator[tuple[str, str]]:
    """Without a source folder the script can still import what lies beside it: modules and packages."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError:
        return
    for name in names:
        whole = os.path.join(folder, name)
        if name.endswith(".py"):
            yield name, whole
        elif os.path.isfile(os.path.join(whole, "__init__.py")):
            yield from ((f"{name}/{below}", path) for below, path in _sources(whole, job))
