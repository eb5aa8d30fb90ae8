"""Outputs in Azure ML's v2 YAML: which is the rows file, and which are folders that the script writes into. Pure.

The output that `append_row_to` names is the rows file, which lies in the run folder, and is copied to the output's
`path` where there is one. Any other is a side output: of a file, the folder that it lies in.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeGuard, assert_never

import msgspec

from mpibatch.core.azure_expressions import Output, ParentOutput, has_expression, whole
from mpibatch.core.azure_inputs import DATA_TYPES, Made
from mpibatch.core.azure_paths import file_of, folder_of, is_uri, local
from mpibatch.core.settings import Problems, Wrong, choice, did_you_mean, printable, shown

ROWS_NAME = "parallel_run_step.txt"
"""In an output that is a folder."""
_KEYS = ("type", "path", "mode", "description")
WITHOUT_MEANING = ("name", "version")
_MODES = ("rw_mount", "mount", "upload", "direct")
_EXAMPLE = "{type: uri_folder, path: models/}"


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows file."""

    type: str
    file_name: str
    copy_to: str | None


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """A side output, which is a folder."""

    type: str
    path: str | None
    """None: in the run folder."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file in a side output."""

    type: str
    folder: str | None
    name: str


Place = Rows | Folder | File


def rows_output(problems: Problems, prefix: str, value: Any) -> str | None:
    """The name of the output that `append_row_to` names."""

    def read(value: Any) -> str:
        reference = whole(value) if isinstance(value, str) else None
        if not isinstance(reference, Output):
            raise Wrong("must name an output, like ${{outputs.rows}}")
        return reference.name

    name: str | None = problems.take(f"{prefix}task.append_row_to", value, read)
    return name


def read_outputs(
    problems: Problems,
    prefix: str,
    given: Any,
    declared: Mapping[Any, Any],
    rows: str | None,
    parents: Mapping[Any, Any] | None,
) -> dict[str, Place]:
    """By name. `declared`: a component's outputs. `parents`: the pipeline's outputs; None where there is none."""
    key = f"{prefix}outputs"
    mapping = problems.mapping(key, {} if given is None else given, f"{{models: {_EXAMPLE}}}")
    read: dict[str, Place] = {}
    for name in dict.fromkeys([*declared, *mapping]):
        where = f"{key}.{printable(str(name))}"
        if declared and name not in declared:
            near = did_you_mean(name, [str(one) for one in declared])
            problems.add(where, f"is {shown(mapping[name])}: the component has no such output{near}")
            continue
        check = partial(
            _place,
            key=where,
            name=str(name),
            declared=declared.get(name),
            parents=parents,
            is_rows=name == rows,
        )
        place = problems.take(where, mapping.get(name), check)
        if place is not None:
            read[str(name)] = place
    if rows is not None and rows not in mapping and rows not in declared:
        near = did_you_mean(rows, read)
        problems.add(
            f"{prefix}task.append_row_to", f"names the output {printable(rows)}, and there is none{near}"
        )
    return read


def _spec(value: Any, declared: Any, parents: Mapping[Any, Any] | None) -> Mapping[Any, Any]:
    spec = declared if isinstance(declared, Mapping) else {}
    if has_expression(value):
        return {**spec, **_parent(value, parents)}
    if isinstance(value, Mapping):
        if _names_parent(value.get("path")):
            return {
                **spec,
                **_parent(value["path"], parents),
                **{k: v for k, v in value.items() if k != "path"},
            }
        return {**spec, **value}
    if value is None:
        return spec
    raise Wrong(f"must be empty or a mapping, like {_EXAMPLE}")


def _names_parent(path: Any) -> TypeGuard[str]:
    return has_expression(path) and not is_uri(path) and isinstance(whole(path), ParentOutput)


def _parent(value: str, parents: Mapping[Any, Any] | None) -> Mapping[Any, Any]:
    """What the pipeline says of the output that is one of its own."""
    reference = whole(value)
    if not isinstance(reference, ParentOutput):
        raise Wrong("must name an output of the pipeline, like ${{parent.outputs.rows}}")
    if parents is None or reference.name not in parents:
        near = did_you_mean(reference.name, [str(one) for one in parents or ()])
        raise Wrong(f"the pipeline has no output {printable(reference.name)}{near}")
    said = parents[reference.name]
    if said is not None and not isinstance(said, Mapping):
        raise Wrong(
            f"outputs.{printable(reference.name)} is {shown(said)}: must be empty or a mapping, like {_EXAMPLE}"
        )
    return said or {}


def _place(
    value: Any, *, key: str, name: str, declared: Any, parents: Mapping[Any, Any] | None, is_rows: bool
) -> Place:
    spec = _spec(value, declared, parents)
    for one in spec:
        if one not in (*_KEYS, *WITHOUT_MEANING):
            near = did_you_mean(one, _KEYS)
            raise Wrong(f"there is no key {shown(one)} in an output{near}; legal are {', '.join(_KEYS)}")
    if spec.get("mode") is not None:
        choice(*_MODES)(str(spec["mode"]).lower())
    kind = choice(*DATA_TYPES)(str(spec.get("type", "uri_folder")).lower())
    path = spec.get("path")
    if path is not None:
        path = _local(path, key)
    if is_rows:
        return _rows(name, kind if "type" in spec else "uri_file", path)
    if kind == "uri_file":
        folder = (folder_of(path) or ".") if path is not None else None
        return File(type=kind, folder=folder, name=file_of(path) if path else name)
    return Folder(type=kind, path=path)


def _local(path: Any, key: str) -> str:
    if is_uri(path):
        raise Wrong(
            "outputs are written to local paths: say where, by --set"
            f" {key}.path=PATH, or leave it to the run folder, by --set {key}.path=null"
        )
    return local(path, f"{key}.path")


def _rows(name: str, kind: str, path: str | None) -> Rows:
    if kind == "uri_file":
        if path is not None and not file_of(path):
            raise Wrong("a file's path must not end with /")
        return Rows(type=kind, file_name=file_of(path) if path else f"{name}.txt", copy_to=path)
    folder = path.rstrip("/") if path is not None else None
    return Rows(
        type=kind, file_name=ROWS_NAME, copy_to=f"{folder}/{ROWS_NAME}" if folder is not None else None
    )


def as_argument(name: str, place: Place) -> str:
    """What stands for an output among a job's arguments."""
    match place:
        case Folder():
            return f"${{side_outputs.{name}}}"
        case File():
            return f"${{side_outputs.{name}}}/{place.name}"
        case Rows():
            raise Wrong(
                f"${{{{outputs.{name}}}}} is the file of append_row_to: mpibatch writes it, the script cannot; name"
                " another output for what the script writes itself"
            )
        case _:
            assert_never(place)


def as_made(step: str, name: str, place: Place) -> Made:
    """What later steps get."""
    match place:
        case Rows():
            return Made(type="uri_file", text=f"${{steps.{step}.output}}")
        case Folder():
            return Made(type=place.type, text=f"${{steps.{step}.side_outputs.{name}}}")
        case File():
            return Made(type=place.type, text=f"${{steps.{step}.side_outputs.{name}}}/{place.name}")
        case _:
            assert_never(place)
