"""Whether a run is of this very job: digests of all that decides its rows (DESIGN section 4, Identity)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from mpibatch.core.config import Job
from mpibatch.runtime.jobfile import row_settings
from mpibatch.runtime.planner import Plan

SETTINGS_FILE = "parallel_run_step.settings.json"

WORDS = {
    "plan": "the list of inputs, or mini_batch_size",
    "script": "the entry script or a Python file in its source_directory",
    "arguments": "arguments, or a file that they name",
    "side_inputs": "side_inputs or models",
    "output": "an output key: output_action, append_row_file_name, append_row or order",
    "settings": "environment_variables or python",
    "inputs": "the contents of input files (their sizes or times)",
}


def job_fingerprint(job: Job, plan: Plan, *, inputs: bool = True) -> dict[str, str]:
    """Digests by part. `inputs`: also that of the size and time of each input file, which takes a look at each."""
    parts = {
        "plan": plan.fingerprint,
        "script": _script(job),
        "arguments": _digest([(one, _stat_of(one)) for one in job.arguments]),
        "side_inputs": _digest(
            [(name, path, _stat_of(path)) for name, path in sorted({**job.side_inputs, **job.models}.items())]
        ),
        "output": _digest([job.output_action, job.append_row_file_name, row_settings(job), job.order]),
        "settings": _digest([sorted(job.environment_variables.items()), job.python]),
    }
    return {**parts, "inputs": input_stats(plan)} if inputs else parts


def input_stats(plan: Plan) -> str:
    """Digest of the size and the time of last change of each input file, in order."""
    digest = blake2b(digest_size=16)
    for paths in plan.all_paths():
        digest.update(repr([_stat(path) for path in paths]).encode())
    return digest.hexdigest()


def describe_changes(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """What differs, in words."""
    return [WORDS[part] for part in WORDS if old.get(part) != new.get(part)]


def _digest(what: object) -> str:
    return blake2b(repr(what).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _stat(path: str | bytes) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _stat_of(path: str) -> object:
    """Of an existing absolute path: size and time, of a folder those of its direct children."""
    if not os.path.isabs(path):
        return None
    if os.path.isdir(path):
        names = sorted(name for name in os.listdir(path) if name != "__pycache__")
        return [(name, _stat(os.path.join(path, name))) for name in names]
    return _stat(path)


def _script(job: Job) -> str:
    files = (
        []
        if job.entry_is_module
        else [job.entry_script, str(Path(job.entry_script).with_name(SETTINGS_FILE))]
    )
    if job.source_directory is not None:
        files += sorted(_python_files(job.source_directory, job.output))
    digest = blake2b(digest_size=16)
    for file in files:
        digest.update(os.fsencode(file) + b"\0")
        try:
            digest.update(Path(file).read_bytes())
        except OSError:
            digest.update(b"\0missing")
    return digest.hexdigest()


def _python_files(folder: str, run_folder: str) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and name != "__pycache__"
            and os.path.join(place, name) != run_folder
            and not os.path.exists(os.path.join(place, name, "pyvenv.cfg"))
        ]
        yield from (os.path.join(place, name) for name in names if name.endswith(".py"))
