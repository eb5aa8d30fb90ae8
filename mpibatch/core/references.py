"""`${steps.NAME.output}` and the like in a pipeline's steps: found, and filled in. Pure.

Other placeholders (`${job_dir}`) stay for the job's own reader, and so does `$${`, but for `$${steps.` outside of
arguments, where nobody else would read it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from mpibatch.core.config import Job
from mpibatch.core.job_inputs import PATH_KINDS
from mpibatch.core.settings import Problems, Wrong, did_you_mean, printable, shown

_REFERENCE = re.compile(r"\$\$\{(steps\.)?|\$\{steps\.([^}]*)(\}?)", re.DOTALL)
_GLOB = "*?["
_DEPTH = 30
"""YAML's anchors make values that are endless when followed: what lies deeper is left as it is."""

Kind = Literal["argument", "pattern", "text"]
"""What a text becomes: an argument, in which the job's reader fills in more; perhaps a glob; or neither."""


def references(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """(dotted key of the text, what stands after `steps.`) of each that is in `value`, which stands at `key`."""
    found: dict[tuple[str, str], None] = {}

    def note(text: str, where: str, kind: Kind) -> str:
        for one in _REFERENCE.finditer(text):
            if one[2] is not None:
                found[where, one[2]] = None
        return text

    _each_text(value, key, note)
    yield from found


def values_of(step: str, job: Job) -> dict[str, str]:
    """What may be named of a step: the words after `steps.`, and the path that they stand for."""
    named = {f"{step}.folder": job.output}
    if job.output_action == "append_row":
        named = {f"{step}.output": f"{job.output}/{job.append_row_file_name}", **named}
    return named | {f"{step}.side_outputs.{name}": path for name, path in job.side_outputs.items()}


def filled(problems: Problems, mapping: Mapping[Any, Any], values: Mapping[str, str]) -> Any:
    """A copy of a job's mapping in which each reference is a path of `values`."""

    def fill(text: str, where: str, kind: Kind) -> str:
        if "${" not in text:
            return text
        try:
            return _REFERENCE.sub(lambda found: _value(found, kind, values), text)
        except Wrong as wrong:
            problems.add(where, f"is {shown(text)}: {wrong}")
            return text

    return _each_text(mapping, "", fill)


def _value(found: re.Match[str], kind: Kind, values: Mapping[str, str]) -> str:
    named, closing = found[2], found[3]
    if named is None:
        return f"${{{found[1]}" if found[1] and kind != "argument" else found[0]
    if not closing:
        raise Wrong("${ has no closing }; write $${ for a literal ${")
    if named not in values:
        raise Wrong(_nothing(named, values))
    path = values[named]
    match kind:
        case "argument":
            return path.replace("${", "$${")
        case "pattern":
            return "".join(f"[{c}]" if c in _GLOB else c for c in path)
        case "text":
            return path


def _nothing(named: str, values: Mapping[str, str]) -> str:
    step = named.partition(".")[0]
    of_step = [name for name in values if name.startswith(f"{step}.")]
    legal = ", ".join(f"${{steps.{name}}}" for name in of_step)
    why = ""
    if named == f"{step}.output":
        why = f", as step {step} writes no rows (output_action: summary_only)"
    return f"${{steps.{printable(named)}}} stands for nothing{why}{did_you_mean(named, of_step)}; legal are {legal}"


def _each_text(value: Any, key: str, change: Callable[[str, str, Kind], str]) -> Any:
    """A copy of `value` with each text in it changed: `change(text, dotted key, kind)`."""
    seen: dict[tuple[int, str], Any] = {}

    def walk(value: Any, parts: list[str]) -> Any:
        if isinstance(value, str):
            return change(value, ".".join([key, *parts] if key else parts), _kind(parts))
        if not isinstance(value, Mapping | list | tuple) or len(parts) > _DEPTH:
            return value
        # Where an anchor's value stands at several places it is followed once for each top key.
        known = id(value), parts[0] if parts else ""
        if known not in seen:
            seen[known] = value
            if isinstance(value, Mapping):
                seen[known] = {name: walk(one, [*parts, str(name)]) for name, one in value.items()}
            else:
                seen[known] = [walk(one, [*parts, str(i)]) for i, one in enumerate(value)]
        return seen[known]

    return walk(value, [])


def _kind(parts: list[str]) -> Kind:
    if parts[:1] == ["arguments"]:
        return "argument"
    of_input = len(parts) >= 3 and parts[0] == "inputs" and parts[2] in PATH_KINDS and parts[2] != "list"
    return "pattern" if of_input else "text"
