"""Inputs in Azure ML's v2 YAML: what each is bound to, in jobs, components and steps of pipelines. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, assert_never

import msgspec

from mpibatch.core.azure_expressions import (
    Input,
    Output,
    ParentInput,
    ParentOutput,
    Reference,
    StepOutput,
    has_expression,
    pieces,
    whole,
)
from mpibatch.core.azure_literals import LITERAL_TYPES, check_literal
from mpibatch.core.azure_paths import is_uri, local
from mpibatch.core.settings import Problems, Wrong, choice, did_you_mean, printable, shown

DATA_TYPES = ("uri_folder", "uri_file", "mltable", "custom_model", "mlflow_model", "triton_model", "path")
MODES = ("ro_mount", "rw_mount", "mount", "download", "direct", "eval_mount", "eval_download")
_DECLARING = ("optional", "default", "min", "max", "enum", "description")
_KEYS = ("type", "path", "mode", *_DECLARING)
WITHOUT_MEANING = ("datastore", "path_on_compute")
_EXAMPLE = "{type: uri_folder, path: images/}"


class Value(msgspec.Struct, frozen=True):
    """A literal."""

    value: str | int | float | bool


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """What lies at a local path."""

    type: str
    path: str
    """Relative to the folder of the YAML file, or absolute."""
    mode: str | None = None


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What another step makes."""

    type: str
    text: str
    """As our own pipeline files have it: `${steps.score.output}`."""
    mode: str | None = None


class Absent(msgspec.Struct, frozen=True):
    """An optional input without a value."""


Bound = Value | Data | Made | Absent


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What expressions may name where an input is bound."""

    inputs: Mapping[str, Bound] = {}
    """Of the pipeline."""
    steps: Mapping[str, Mapping[str, Made]] = {}
    """The outputs of each step."""
    in_pipeline: bool = False
    left_out: Collection[str] = ()
    """Steps that the command line takes out."""


def read_inputs(
    problems: Problems, prefix: str, given: Any, declared: Mapping[Any, Any], scope: Scope
) -> dict[str, Bound]:
    """By name. `declared`: a component's inputs, which `given` binds. `prefix`: of keys, like `jobs.score.`"""
    key = f"{prefix}inputs"
    mapping = problems.mapping(key, {} if given is None else given, f"{{data: {_EXAMPLE}}}")
    read: dict[str, Bound] = {}
    for name in dict.fromkeys([*declared, *mapping]):
        where = f"{key}.{printable(str(name))}"
        if declared and name not in declared:
            near = did_you_mean(name, [str(one) for one in declared])
            problems.add(where, f"is {shown(mapping[name])}: the component has no such input{near}")
            continue
        check = partial(_bound, key=where, declared=declared.get(name), scope=scope)
        bound = problems.take(where, mapping.get(name), check)
        if bound is not None:
            read[str(name)] = bound
    return read


def _bound(value: Any, *, key: str, declared: Any, scope: Scope) -> Bound:
    spec = declared if isinstance(declared, Mapping) else {}
    if isinstance(value, Mapping):
        spec = {**spec, **value}
    bound = _unchecked(value, key, spec, scope)
    if isinstance(bound, Value):
        if _lower(spec.get("type")) in DATA_TYPES:
            raise Wrong(
                f"its type is {spec['type']}, and {shown(bound.value)} is no data, which are like {_EXAMPLE}"
            )
        check_literal(bound.value, spec)
    return bound


def _unchecked(value: Any, key: str, spec: Mapping[Any, Any], scope: Scope) -> Bound:
    """`spec`: what its component and the value itself say of it."""
    match value:
        case None | Mapping():
            return _from_mapping(key, spec, scope)
        case str():
            return _from_text(key, value, spec, scope)
        case bool() | int() | float():
            return Value(value)
        case _:
            raise Wrong(f"must be a literal or data, like {_EXAMPLE}")


def _from_text(key: str, value: str, spec: Mapping[Any, Any], scope: Scope) -> Bound:
    reference = whole(value) if has_expression(value) and not is_uri(value) else None
    if reference is not None:
        return _retyped(resolved(reference, scope, key), spec)
    kind = spec.get("type")
    if (isinstance(kind, str) and kind.lower() in DATA_TYPES) or is_uri(value):
        return _from_mapping(key, {**spec, "path": value}, scope)
    return Value(interpolated(value, scope))


def _from_mapping(key: str, spec: Mapping[Any, Any], scope: Scope) -> Bound:
    _check_keys(spec)
    kind = choice(*DATA_TYPES, *LITERAL_TYPES)(_lower(spec.get("type", "uri_folder")))
    mode = choice(*MODES)(_lower(spec["mode"])) if spec.get("mode") is not None else None
    if kind in LITERAL_TYPES:
        if "path" in spec:
            raise Wrong(f"type {kind} has no path: write the value itself")
        return _literal(key, spec)
    path = spec.get("path", spec.get("default"))
    if path is None:
        if spec.get("optional") is True:
            return Absent()
        raise Wrong(f"has no path: say where the data is by --set {key}.path=PATH")
    if has_expression(path) and not is_uri(path):
        reference = whole(path)
        if reference is None:
            raise Wrong("path must be a path, or one expression and nothing else")
        return _retyped(resolved(reference, scope, key), spec)
    return Data(type=kind, path=local(path, f"{key}.path"), mode=mode)


def _literal(key: str, spec: Mapping[Any, Any]) -> Bound:
    default = spec.get("default")
    if isinstance(default, str | int | float | bool):
        return Value(_typed(default, str(spec["type"]).lower()))
    if default is not None:
        raise Wrong("default must be text, a number, true or false")
    if spec.get("optional") is True:
        return Absent()
    raise Wrong(f"has no value: give one by --set {key}=VALUE")


def _typed(default: str | float | bool, kind: str) -> str | int | float | bool:
    """Text, as components may have it, is the flag that it spells."""
    if kind == "boolean" and isinstance(default, str) and default.lower() in ("true", "false"):
        return default.lower() == "true"
    return default


def _check_keys(spec: Mapping[Any, Any]) -> None:
    for name in spec:
        if name not in (*_KEYS, *WITHOUT_MEANING):
            raise Wrong(
                f"there is no key {shown(name)} in an input{did_you_mean(name, _KEYS)}; legal are {', '.join(_KEYS)}"
            )


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _retyped(bound: Bound, spec: Mapping[Any, Any]) -> Bound:
    """What an expression stands for, with the type and mode that are said beside it."""
    if isinstance(bound, Value | Absent):
        return bound
    kind = _lower(spec.get("type")) or bound.type
    if kind in LITERAL_TYPES:
        raise Wrong(f"is of type {kind}, and what it names is data")
    return msgspec.structs.replace(bound, type=choice(*DATA_TYPES)(kind), mode=spec.get("mode") or bound.mode)


def resolved(reference: Reference, scope: Scope, key: str = "") -> Bound:
    """What a reference stands for in a value, or in the input at `key`; raises `Wrong`."""
    match reference:
        case ParentInput(name) if scope.in_pipeline:
            if name in scope.inputs:
                return scope.inputs[name]
            raise Wrong(f"the pipeline has no input {printable(name)}{did_you_mean(name, scope.inputs)}")
        case StepOutput(step, name) if scope.in_pipeline:
            if step in scope.left_out:
                where = f": say where what it makes is by --set {key}.path=PATH" if key else ""
                raise Wrong(f"step {step} is left out{where}")
            if step not in scope.steps:
                raise Wrong(f"there is no step {printable(step)}{did_you_mean(step, scope.steps)}")
            outputs = scope.steps[step]
            if name not in outputs:
                legal = f"it has {', '.join(outputs)}" if outputs else "it has none"
                raise Wrong(
                    f"step {step} has no output {printable(name)}; {legal}{did_you_mean(name, outputs)}"
                )
            return outputs[name]
        case Input() | Output() | ParentOutput() | ParentInput() | StepOutput():
            legal = (
                "legal are ${{parent.inputs.x}} and ${{parent.jobs.step.outputs.y}}"
                if scope.in_pipeline
                else "write the value itself"
            )
            raise Wrong(f"such an expression cannot stand here; {legal}")
        case _:
            assert_never(reference)


def interpolated(value: str, scope: Scope) -> str:
    """Text with the literals in place of the expressions in it."""
    return "".join(
        part if isinstance(part, str) else _literal_text(resolved(part, scope)) for part in pieces(value)
    )


def with_values(value: Any, scope: Scope) -> Any:
    """A key's value with literals of the pipeline in place of expressions, however deep; raises `Wrong`."""
    match value:
        case str() if has_expression(value):
            reference = whole(value)
            bound = resolved(reference, scope) if reference is not None else None
            return bound.value if isinstance(bound, Value) else interpolated(value, scope)
        case Mapping():
            return {name: with_values(one, scope) for name, one in value.items()}
        case list() | tuple():
            return [with_values(one, scope) for one in value]
        case _:
            return value


def _literal_text(bound: Bound) -> str:
    match bound:
        case Value(value):
            return str(value)
        case Absent():
            raise Wrong("an expression in it names an optional input without a value")
        case Data() | Made():
            raise Wrong("an expression in it names data: text cannot be made of that")
        case _:
            assert_never(bound)
