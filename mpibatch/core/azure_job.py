"""A parallel job, component or step of Azure ML's v2 YAML becomes the mapping of a job file of our own. Pure.

Rules: what a key says is meant here too, or it is left out and told of, or it is an error; and keys that have a name
of their own there keep it in errors, so that a person finds them in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from mpibatch.core.azure_arguments import Arguments, read_program_arguments
from mpibatch.core.azure_inputs import WITHOUT_MEANING as INPUT_WITHOUT_MEANING
from mpibatch.core.azure_inputs import Bound, Scope, read_inputs, with_values
from mpibatch.core.azure_keys import (
    INSTANCE_COUNT,
    SIMPLE_KEYS,
    TASK_KEYS,
    TIMEOUT,
    Notes,
    Simple,
    azure_hint,
    max_retries,
)
from mpibatch.core.azure_main_input import main_input, side_inputs
from mpibatch.core.azure_outputs import WITHOUT_MEANING as OUTPUT_WITHOUT_MEANING
from mpibatch.core.azure_outputs import File, Folder, Place, Rows, read_outputs, rows_output
from mpibatch.core.azure_part import MltableReader, Part
from mpibatch.core.azure_paths import below, local
from mpibatch.core.job_name import made_legal
from mpibatch.core.settings import Wrong, choice, shown, text

_RESOURCES = ("instance_type", "shm_size", "docker_args", "locations", "properties", "max_instance_count")
_RETRIES = ("max_retries", "timeout")


def outputs_of(notes: Notes, part: Part) -> dict[str, Place]:
    task = part.keys.get("task")
    to = task.get("append_row_to") if isinstance(task, Mapping) else None
    rows = rows_output(notes.problems, part.prefix, to) if to is not None else None
    given = part.keys.get("outputs")
    return read_outputs(notes.problems, part.prefix, given, part.declared_outputs, rows, part.parent_outputs)


def job_mapping(
    notes: Notes, part: Part, outputs: Mapping[str, Place], scope: Scope, read_table: MltableReader
) -> dict[str, Any]:
    """Keys in the order in which people write them. What is wrong is among the problems then."""
    notes.problems.unknown_keys(part.prefix, part.keys, part.legal, azure_hint)
    keys = _values(notes, part, scope)
    inputs = read_inputs(notes.problems, part.prefix, keys.get("inputs"), part.declared_inputs, scope)
    task = notes.problems.mapping(
        f"{part.prefix}task", keys.get("task"), "{type: run_function, code: src, ...}"
    )
    notes.problems.unknown_keys(f"{part.prefix}task.", task, TASK_KEYS)
    arguments = _arguments(notes, part, task, inputs, outputs)
    mapping = {
        **_name(notes, part, keys),
        **_script(notes, part, task),
        **({"arguments": arguments.words} if arguments.words else {}),
        **main_input(notes, part, keys, inputs, arguments, read_table),
        **side_inputs(notes, part, inputs, arguments),
        **_outputs(outputs),
        **_simple(notes, part, keys),
        **_environment(notes, part, keys, task),
    }
    _leave_out(notes, part, keys)
    return mapping


def _leave_out(notes: Notes, part: Part, keys: Mapping[Any, Any]) -> None:
    notes.leave_out(part.prefix, keys)
    for group, meaningless in (("inputs", INPUT_WITHOUT_MEANING), ("outputs", OUTPUT_WITHOUT_MEANING)):
        given = keys.get(group)
        for name, spec in given.items() if isinstance(given, Mapping) else ():
            if isinstance(spec, Mapping):
                notes.leave_out(f"{part.prefix}{group}.{name}.", spec, meaningless)


def _values(notes: Notes, part: Part, scope: Scope) -> dict[Any, Any]:
    """The keys, with literals of the pipeline filled in; empty ones are not given."""
    kept = ("inputs", "outputs", "task", "input_data", "component")
    filled: dict[Any, Any] = {}
    for key, value in part.keys.items():
        if value is not None and key in kept:
            filled[key] = value
        elif value is not None:
            filled[key] = notes.problems.take(
                f"{part.prefix}{key}", value, lambda value: with_values(value, scope)
            )
    return {key: value for key, value in filled.items() if value is not None}


def _name(notes: Notes, part: Part, keys: Mapping[Any, Any]) -> dict[str, Any]:
    """The first that makes a legal name; a step's is the pipeline's to say."""
    named = [key for key in ("name", "display_name") if isinstance(keys.get(key), str)]
    if part.prefix:
        notes.left_out += [f"{part.prefix}{key}" for key in named]
        return {}
    for key in named:
        if made := made_legal(keys[key]):
            notes.left_out += [other for other in named if other != key]
            return {"name": made}
    notes.left_out += named
    return {}


def _script(notes: Notes, part: Part, task: Mapping[Any, Any]) -> dict[str, Any]:
    key = f"{part.prefix}task"
    take = notes.problems.take
    take(f"{key}.type", task.get("type", "run_function"), _task_type)
    if task.get("model") is not None:
        notes.problems.add(f"{key}.model", f"is {shown(task['model'])}: {_MODEL}")
    made: dict[str, Any] = {}
    if task.get("entry_script") is not None:
        made["entry_script"] = take(f"{key}.entry_script", task["entry_script"], text)
    elif task:
        notes.problems.add(f"{key}.entry_script", "is missing: name the Python file that has run(mini_batch)")
    code = task.get("code")
    if code is not None:
        code = take(f"{key}.code", code, lambda value: local(value, f"{key}.code", what="code"))
    if code is not None or part.code_folder:
        made["source_directory"] = below(part.code_folder, code or ".")
    return made


_MODEL = (
    "a model without a script is scored by code of the cloud's: write an entry script that loads it, and name it by"
    " entry_script"
)


def _task_type(value: Any) -> str:
    if value == "model":
        raise Wrong(_MODEL)
    kind: str = choice("run_function", "function")(value)
    return kind


def _arguments(
    notes: Notes,
    part: Part,
    task: Mapping[Any, Any],
    inputs: Mapping[str, Bound],
    outputs: Mapping[str, Place],
) -> Arguments:
    none = Arguments(words=[], side_inputs=[])
    value = task.get("program_arguments")
    if value is None:
        return none
    # Of what is wrong already, nothing more is said.
    if notes.problems.lines:
        return none
    key = f"{part.prefix}task.program_arguments"
    return (
        notes.problems.take(key, value, lambda value: read_program_arguments(value, inputs, outputs)) or none
    )


def _outputs(outputs: Mapping[str, Place]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    folders: dict[str, str | None] = {}
    for name, place in outputs.items():
        match place:
            case Rows():
                made["append_row_file_name"] = place.file_name
                if place.copy_to is not None:
                    made["copy_output_to"] = place.copy_to
            case Folder(path=folder) | File(folder=folder):
                folders[name] = folder
            case _:
                assert_never(place)
    how = made or {"output_action": "summary_only"}
    return how | ({"side_outputs": folders} if folders else {})


def _simple(notes: Notes, part: Part, keys: Mapping[Any, Any]) -> dict[str, Any]:
    problems = notes.problems
    made: dict[str, Any] = {}

    def take(key: str, value: Any, simple: Simple) -> None:
        made[simple.own] = problems.take(f"{part.prefix}{key}", value, simple.check)

    for key, simple in SIMPLE_KEYS.items():
        if key in keys:
            take(key, keys[key], simple)
    resources = problems.mapping(f"{part.prefix}resources", keys.get("resources", {}), "{instance_count: 2}")
    problems.unknown_keys(f"{part.prefix}resources.", resources, ("instance_count", *_RESOURCES))
    notes.leave_out(f"{part.prefix}resources.", resources, _RESOURCES)
    if resources.get("instance_count") is not None:
        take("resources.instance_count", resources["instance_count"], INSTANCE_COUNT)
    example = "{max_retries: 2, timeout: 60}"
    retries = problems.mapping(f"{part.prefix}retry_settings", keys.get("retry_settings", {}), example)
    problems.unknown_keys(f"{part.prefix}retry_settings.", retries, _RETRIES)
    if retries.get("max_retries") is not None:
        take("retry_settings.max_retries", retries["max_retries"], Simple("run_max_try", max_retries))
    if retries.get("timeout") is not None:
        take("retry_settings.timeout", retries["timeout"], TIMEOUT)
    return made


def _environment(
    notes: Notes, part: Part, keys: Mapping[Any, Any], task: Mapping[Any, Any]
) -> dict[str, Any]:
    environment = task.get("environment")
    if environment is not None:
        said = f" ({', '.join(map(str, environment))})" if isinstance(environment, Mapping) else ""
        notes.left_out.append(f"{part.prefix}task.environment{said}")
        notes.of_environment = True
    variables = keys.get("environment_variables")
    return {"environment_variables": variables} if variables else {}
