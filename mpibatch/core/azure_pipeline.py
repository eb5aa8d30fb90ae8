"""A pipeline of Azure ML's v2 YAML becomes the mapping of a pipeline file of our own. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import msgspec

from mpibatch.core.azure_expressions import has_expression
from mpibatch.core.azure_inputs import Made, Scope, read_inputs
from mpibatch.core.azure_job import job_mapping, outputs_of
from mpibatch.core.azure_keys import JOB_KEYS, PIPELINE_KEYS, STEP_KEYS, Notes, azure_hint
from mpibatch.core.azure_outputs import Place, as_made
from mpibatch.core.azure_part import MltableReader, Part
from mpibatch.core.azure_paths import folder_of, local
from mpibatch.core.job_name import made_legal
from mpibatch.core.settings import Problems, Wrong, flag, printable, shown

_SETTINGS = (
    "default_compute",
    "default_datastore",
    "continue_on_step_failure",
    "force_rerun",
    "on_init",
    "on_finalize",
)
_DEEP = ("task", "resources", "retry_settings", "environment_variables")
"""Keys of a component of which a step replaces single ones."""


class ComponentReader(Protocol):
    """Reads a component's file (relative to the YAML file's folder); raises ConfigError."""

    def __call__(self, path: str, key: str) -> Mapping[Any, Any]: ...


class Readers(msgspec.Struct, frozen=True, kw_only=True):
    """How other files are read."""

    component: ComponentReader
    mltable: MltableReader


def pipeline_mapping(notes: Notes, given: Mapping[Any, Any], readers: Readers) -> dict[str, Any]:
    """What is wrong is among the problems then."""
    problems = notes.problems
    problems.unknown_keys("", given, PIPELINE_KEYS, azure_hint)
    scope = Scope(inputs=read_inputs(problems, "", given.get("inputs"), {}, Scope()), in_pipeline=True)
    parents = problems.mapping(
        "outputs", given.get("outputs") or {}, "{rows: {type: uri_file, path: rows.txt}}"
    )
    parts = _parts(notes, given, parents, readers)
    # What takes the data of a step that cannot run is wrong only as long as that is not decided.
    problems.stop()
    places = {name: outputs_of(notes, part) for name, part in parts.items()}
    scope = msgspec.structs.replace(
        scope,
        steps={name: _made(name, one) for name, one in places.items()},
        left_out=[name for name, step in given["jobs"].items() if step is None],
    )
    force = _settings(notes, given)
    steps: dict[str, Any] = {}
    for name, part in parts.items():
        # Errors of one step do not keep those of another from being told.
        found = Notes(Problems(problems.file))
        steps[name] = job_mapping(found, part, places[name], scope, readers.mltable)
        problems.lines += found.problems.lines
        notes.left_out += found.left_out
        notes.of_environment |= found.of_environment
        if force:
            steps[name]["allow_reuse"] = False
    notes.leave_out("", given)
    return {**_name(notes, given), "steps": steps}


def _made(step: str, places: Mapping[str, Place]) -> dict[str, Made]:
    return {name: as_made(step, name, place) for name, place in places.items()}


def _name(notes: Notes, given: Mapping[Any, Any]) -> dict[str, Any]:
    for key in ("name", "display_name"):
        value = given.get(key)
        if isinstance(value, str) and (made := made_legal(value)):
            return {"name": made}
    return {}


def _settings(notes: Notes, given: Mapping[Any, Any]) -> bool:
    """Whether no step is to be reused."""
    settings = notes.problems.mapping("settings", given.get("settings") or {}, "{force_rerun: true}")
    notes.problems.unknown_keys("settings.", settings, _SETTINGS)
    notes.leave_out("settings.", settings, [key for key in _SETTINGS if key != "force_rerun"])
    return bool(notes.problems.take("settings.force_rerun", settings.get("force_rerun") or False, flag))


def _parts(
    notes: Notes, given: Mapping[Any, Any], parents: Mapping[Any, Any], readers: Readers
) -> dict[str, Part]:
    """The steps that there are; those that are empty have been left out by --set."""
    problems = notes.problems
    jobs = problems.mapping("jobs", given.get("jobs"), "{score: {type: parallel, ...}}")
    parts: dict[str, Part] = {}
    for name, step in jobs.items():
        key = f"jobs.{printable(str(name))}"
        if step is None:
            notes.left_out.append(key)
            continue
        check = partial(_part, key=key, name=str(name), parents=parents, readers=readers, jobs=jobs)
        part = problems.take(key, step, check)
        if part is not None:
            parts[str(name)] = part
    if not parts and not problems.lines:
        problems.add("jobs", "has no step: there must be at least one of type: parallel")
    return parts


def _part(
    step: Any,
    *,
    key: str,
    name: str,
    parents: Mapping[Any, Any],
    readers: Readers,
    jobs: Mapping[Any, Any],
) -> Part:
    if not isinstance(step, Mapping):
        raise Wrong("must be a mapping, like {type: parallel, ...}")
    component, folder = _component(key, step, readers)
    kind = step.get("type", component.get("type") if component else "parallel" if "task" in step else None)
    for one in (kind, component.get("type", kind) if component else kind):
        if one != "parallel":
            raise Wrong(_other_type(key, name, one, jobs))
    if component is None:
        return Part(prefix=f"{key}.", keys=step, legal=STEP_KEYS, parent_outputs=parents)
    merged = {
        k: v
        for k, v in component.items()
        if k not in ("inputs", "outputs", "name", "display_name", "version")
    }
    for one, value in step.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(one), Mapping) and one in _DEEP
        merged[one] = {**merged[one], **value} if both else value
    merged.pop("component", None)
    return Part(
        prefix=f"{key}.",
        keys=merged,
        legal=JOB_KEYS,
        declared_inputs=_declared(component, "inputs"),
        declared_outputs=_declared(component, "outputs"),
        code_folder=folder,
        parent_outputs=parents,
    )


def _component(key: str, step: Mapping[Any, Any], readers: Readers) -> tuple[Mapping[Any, Any] | None, str]:
    """The component of a step, and the folder of its file."""
    named = step.get("component")
    if named is None:
        return None, ""
    if isinstance(named, Mapping):
        return named, ""
    path = local(named, f"{key}.component", what="a component")
    return readers.component(path, f"{key}.component"), folder_of(path)


def _declared(component: Mapping[Any, Any], key: str) -> Mapping[Any, Any]:
    value = component.get(key) or {}
    if not isinstance(value, Mapping):
        raise Wrong(f"its component's {key} is {shown(value)}: must be a mapping")
    return value


def _other_type(key: str, name: str, kind: Any, jobs: Mapping[Any, Any]) -> str:
    """What to do about a step that is no parallel one."""
    takers = [
        f"--set jobs.{other}.inputs.{one}.path=PATH"
        for other, step in jobs.items()
        if isinstance(step, Mapping) and isinstance(step.get("inputs"), Mapping)
        for one, value in step["inputs"].items()
        if _names_step(value, name)
    ]
    says = f", and say where what it makes is by {' '.join(takers)}" if takers else ""
    return (
        f"a step of type {shown(kind)}: mpibatch runs parallel steps only; run it yourself, leave it out by --set"
        f" {key}=null{says}"
    )


def _names_step(value: Any, name: str) -> bool:
    path = value.get("path") if isinstance(value, Mapping) else value
    return has_expression(path) and f"parent.jobs.{name}." in path
