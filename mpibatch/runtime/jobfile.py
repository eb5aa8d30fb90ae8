"""The job file is read, changed by `--set`, checked against what is on disk: a `Job`, or an error in words.

Done before anything is written and before any rank starts work. What `prepare` may yet make (inputs,
side inputs, models) is not looked for here; `check_side_inputs` does that, after `prepare`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mpibatch.core.arguments import HEADER_ARGUMENT
from mpibatch.core.config import Job, apply_sets, parse_job
from mpibatch.core.settings import Problems, did_you_mean, nearest, printable, shown
from mpibatch.core.site_profile import with_profile
from mpibatch.core.to_csv import CSV_DEFAULTS, DEFAULTS, read_to_csv
from mpibatch.errors import ConfigError
from mpibatch.runtime.azure_files import translated
from mpibatch.runtime.copied_output import check_copy_target
from mpibatch.runtime.job_yaml import read_job_text, read_set
from mpibatch.runtime.script_check import check_script, script_file
from mpibatch.runtime.side_outputs import check_side_outputs
from mpibatch.runtime.site_file import find_profile

SETTINGS_FILE = "parallel_run_step.settings.json"
"""Beside the entry script: Azure ML's way to set how rows are written."""
_TO_CSV = "pandas.DataFrame.to_csv"


def load_job(path: str | os.PathLike[str], *, sets: Sequence[str] = (), output: str | None = None) -> Job:
    """The job of the job file at `path`, with each `key=value` of `sets` applied.

    Paths in the file and in `sets` are relative to the file's folder, `output` (which replaces the
    job's) to the current one. Raises `ConfigError` or `ScriptError`; both end the program with exit code 2.
    """
    if output == "":
        raise ConfigError("--output is empty: name the run folder")
    job_file = os.path.abspath(os.path.expanduser(os.fspath(path)))
    pairs = [read_set(option) for option in sets]
    given = translated(job_file, read_mapping(job_file), pairs)
    job = checked_job(
        apply_sets(given.mapping, given.pairs),
        job_file=job_file,
        output=os.path.abspath(os.path.expanduser(output)) if output else None,
        set_keys=[key for key, _ in pairs],
    )
    return msgspec.structs.replace(job, remarks=given.remarks)


def checked_job(
    mapping: Mapping[Any, Any], *, job_file: str, output: str | None, set_keys: Sequence[str]
) -> Job:
    """The job that `mapping`, of `job_file`, describes, with the site's defaults, and looked up on disk. `output`:
    absolute. Raises `ConfigError` or `ScriptError`."""
    profile, site_keys = find_profile(os.path.dirname(job_file)), list[str]()
    if profile is not None:
        mapping, site_keys = with_profile(mapping, profile)
    job = parse_job(
        mapping,
        job_file=job_file,
        output=output,
        expand=os.path.expanduser,
        is_file=os.path.isfile,
        set_keys=set_keys,
    )
    if profile is not None:
        job = msgspec.structs.replace(job, site=profile.file, site_keys=site_keys)
    _check_files(job)
    row_settings(job)
    check_script(job)
    return job


def row_settings(job: Job) -> dict[str, Any]:
    """Keyword arguments of `DataFrame.to_csv` in force; later ones win. None for formats that are not text.

    The format's defaults (of text, Azure ML's), the settings file beside the entry script, the job file's
    `append_row`, and the argument `--append_row_dataframe_header`. Raises `ConfigError` where the second or
    last is broken.
    """
    if job.append_row_format not in ("text", "csv"):
        return {}
    defaults = CSV_DEFAULTS if job.append_row_format == "csv" else DEFAULTS
    settings = defaults | _settings_file(job) | job.append_row
    header = _header_argument(job)
    return settings if header is None else settings | {"header": header}


def check_side_inputs(job: Job) -> None:
    """Raises `ConfigError` if a side input or a model is not there: to be called after `prepare` has run."""
    problems = Problems(_name(job))
    for key, paths in (("side_inputs", job.side_inputs), ("models", job.models)):
        for name, path in paths.items():
            if not os.path.exists(path):
                problems.add(
                    f"{key}.{name}", f"is {shown(path)}: there is no such file or folder{_near(path)}"
                )
    problems.stop()


def _name(job: Job) -> str:
    return printable(os.path.basename(job.job_file))


def read_mapping(job_file: str) -> Mapping[Any, Any]:
    name = printable(job_file)
    try:
        with open(job_file, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise ConfigError(f"job file {name} does not exist{_near(job_file, ('.yaml', '.yml'))}") from None
    except IsADirectoryError:
        inside = _names_in(job_file, (".yaml", ".yml"))
        has = f"; it has {', '.join(inside[:5])}" if inside else ""
        raise ConfigError(f"job file {name} is a folder: name the job file in it{has}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"job file {name} cannot be read: {reason}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise ConfigError(f"job file {name} is not UTF-8: byte 0x{byte:02x} in line {line}") from None
    value = read_job_text(text, printable(os.path.basename(job_file)))
    if value is None:
        raise ConfigError(f"job file {name} is empty: it needs at least entry_script and inputs")
    if not isinstance(value, Mapping):
        why = "a job file is a mapping, each line like mini_batch_size: 5"
        raise ConfigError(f"job file {name} holds {shown(value)}: {why}")
    return value


def _check_files(job: Job) -> None:
    """The files that must be there before anything starts, all that are missing in one error."""
    problems = Problems(_name(job))
    folder = job.source_directory
    if folder is not None and not os.path.isdir(folder):
        what = "is a file, not a folder" if os.path.exists(folder) else f"does not exist{_near(folder)}"
        problems.add("source_directory", f"is {shown(folder)}: the folder {what}")
    else:
        _check_entry(problems, job)
    if job.prepare is not None and not os.path.isfile(job.prepare):
        there = f"there is no such file{_near(job.prepare, ('.py',))}"
        problems.add("prepare", f"is {shown(job.prepare)}: {there}; it is relative to the job file's folder")
    if job.python is not None:
        _check_python(problems, job.python)
    check_side_outputs(problems, job)
    check_copy_target(problems, job)
    problems.stop()


def _check_entry(problems: Problems, job: Job) -> None:
    script, relative_to = job.entry_script, job.source_directory or job.job_dir
    if job.entry_is_module:
        if not _module_may_exist(job):
            as_file = os.path.join(relative_to, *script.split(".")) + ".py"
            near = _near(as_file, (".py",)) or _near(os.path.join(relative_to, script), (".py",))
            what = f"there is neither a file of that name nor a module {script} in {printable(relative_to)}"
            problems.add("entry_script", f"is {shown(script)}: {what}{near}")
    elif os.path.isdir(script):
        problems.add("entry_script", f"is {shown(script)}: that is a folder; name the Python file in it")
    elif not os.path.isfile(script):
        near = _near(script, (".py",))
        below_job = os.path.join(job.job_dir, os.path.relpath(script, relative_to))
        if job.source_directory and os.path.isfile(below_job):
            near = f"; {printable(below_job)} exists, but entry_script is relative to source_directory"
        problems.add("entry_script", f"is {shown(script)}: there is no such file{near}")


def _module_may_exist(job: Job) -> bool:
    """Whether the entry module is below the source directory, or may be found by the processor elsewhere."""
    if script_file(job) is not None:
        return True
    top, *rest = job.entry_script.split(".")
    below = os.path.join(job.source_directory or job.job_dir, *job.entry_script.split("."))
    parent, last = os.path.split(below)
    if any(name.startswith(f"{last}.") and name.endswith(".so") for name in _names_in(parent)):
        return True
    if rest and os.path.isdir(os.path.join(job.source_directory or job.job_dir, top)):
        return False
    # Another interpreter has packages of its own: its processor will say.
    return job.python is not None or job.environment.by_shell or _is_installed(top)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError, AttributeError):
        return True  # Cannot tell.


def _check_python(problems: Problems, python: str) -> None:
    if os.path.isdir(python):
        inside = os.path.join(python, "bin", "python")
        hint = (
            f"; did you mean {printable(inside)}?"
            if os.path.isfile(inside)
            else "; name the interpreter in it"
        )
        problems.add("python", f"is {shown(python)}: that is a folder{hint}")
    elif not os.path.isfile(python):
        found = shutil.which(os.path.basename(python))
        hint = f"; did you mean {printable(found)}?" if found else _near(python)
        problems.add(
            "python", f"is {shown(python)}: there is no such file{hint}; it is an interpreter's path"
        )
    elif not os.access(python, os.X_OK):
        problems.add(
            "python", f"is {shown(python)}: the file is not executable (chmod +x), or no interpreter"
        )


def _settings_file(job: Job) -> dict[str, Any]:
    """The `to_csv` keywords in the settings file beside the entry script; none where there is none."""
    script = script_file(job)
    file = os.path.join(os.path.dirname(script), SETTINGS_FILE) if script else ""
    if not os.path.lexists(file):
        return {}
    try:
        with open(file, encoding="utf-8-sig") as opened:
            settings = json.load(opened)
    except OSError as error:
        raise ConfigError(f"{printable(file)} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{printable(file)} is not JSON: {printable(str(error))}") from None
    problems = Problems(printable(file))
    keywords = _keywords_in(problems, settings)
    problems.stop()
    return keywords


def _keywords_in(problems: Problems, settings: Any) -> dict[str, Any]:
    example = f'{{"append_row": {{"{_TO_CSV}": {{"sep": ","}}}}}}'
    if not isinstance(settings, dict):
        raise ConfigError(f"{problems.file}: holds {shown(settings)}: must be an object like {example}")
    # Other keys may be other versions' business; one that is nearly ours is a mistake.
    unknown = {key: settings[key] for key in settings if nearest(key, ["append_row"])}
    problems.unknown_keys("", unknown, ["append_row"])
    append_row = problems.mapping("append_row", settings.get("append_row", {}), f'{{"{_TO_CSV}": ...}}')
    problems.unknown_keys("append_row.", append_row, [_TO_CSV])
    return read_to_csv(problems, f"append_row.{_TO_CSV}", append_row.get(_TO_CSV, {}))


def _header_argument(job: Job) -> bool | None:
    """What `--append_row_dataframe_header` among the job's arguments says; the last one counts."""
    header: bool | None = None
    for position, argument in enumerate(job.arguments):
        name, equals, value = argument.partition("=")
        if name != HEADER_ARGUMENT:
            continue
        value = value if equals else "".join(job.arguments[position + 1 : position + 2])
        if value.lower() not in ("true", "false"):
            where = f"{_name(job)}: arguments: {HEADER_ARGUMENT} is {shown(value)}"
            raise ConfigError(f"{where}: True or False must follow it")
        header = value.lower() == "true"
    return header


def _names_in(folder: str, endings: tuple[str, ...] = ("",)) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(endings))
    except (OSError, ValueError):
        return []


def _near(path: str, endings: tuple[str, ...] = ("",)) -> str:
    """Words for a path that does not exist: the nearest name beside it, or that the folder is missing too."""
    folder, name = os.path.split(path)
    if not os.path.isdir(folder):
        return f"; there is no folder {printable(folder)} either"
    return did_you_mean(name, _names_in(folder, endings))
