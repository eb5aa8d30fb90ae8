"""`--set` on a file of Azure ML: which keys are the file's, and which our own job file's. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpibatch.core.azure_expressions import has_expression
from mpibatch.core.azure_keys import JOB_KEYS, PIPELINE_KEYS, STEP_KEYS, Form
from mpibatch.core.job_keys import LEGAL_KEYS
from mpibatch.core.sets import apply_sets
from mpibatch.core.settings import did_you_mean, printable

Pairs = Sequence[tuple[str, Any]]
_OF_DATA = ("path", "type", "mode")


def split_sets(pairs: Pairs, form: Form) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """(those of the file, those of what it is translated to), each in order.

    A key that both have is the file's. `jobs.score.slurm` and its like are our own pipeline's `steps.score.slurm`.
    """
    theirs: list[tuple[str, Any]] = []
    own: list[tuple[str, Any]] = []
    for key, value in pairs:
        first, *rest = key.split(".")
        if form == "job":
            (own if _is_own(first, JOB_KEYS) else theirs).append((key, value))
        elif first == "jobs" and len(rest) >= 2 and _is_own(rest[1], STEP_KEYS):
            own.append((".".join(["steps", *rest]), value))
        else:
            (own if first == "steps" or _is_own(first, PIPELINE_KEYS) else theirs).append((key, value))
    return theirs, own


def for_all_steps(pairs: Pairs, steps: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Any]]:
    """A job's key that is set for the pipeline is so for each step, where the file says it of the step."""
    made: list[tuple[str, Any]] = []
    for key, value in pairs:
        made.append((key, value))
        first = key.partition(".")[0]
        made += [(f"steps.{name}.{key}", value) for name, step in steps.items() if first in step]
    return made


def _is_own(key: str, of_azure: Sequence[str]) -> bool:
    return key in LEGAL_KEYS and key not in of_azure


def apply_azure_sets(mapping: Mapping[Any, Any], pairs: Pairs) -> dict[Any, Any]:
    """As `apply_sets`; and `inputs.x.path` takes the place of an expression that x is bound to."""
    changed = dict(mapping)
    for key, value in pairs:
        parts = key.split(".")
        if len(parts) >= 3 and parts[-3] in ("inputs", "outputs") and parts[-1] in _OF_DATA:
            bound = _at(changed, parts[:-1])
            if has_expression(bound):
                spec = {} if parts[-1] == "path" else {"path": bound}
                changed = apply_sets(changed, [(".".join(parts[:-1]), spec)])
        changed = apply_sets(changed, [(key, value)])
    return changed


def unknown_inputs(before: Mapping[Any, Any], after: Mapping[Any, Any], pairs: Pairs) -> list[str]:
    """Sentences about inputs that `--set` has made, and that nothing names: they are misspelled."""
    inputs = before.get("inputs")
    known = [str(name) for name in inputs] if isinstance(inputs, Mapping) else []
    there = f"it has {', '.join(known)}" if known else "it has none"
    lines = []
    for key, _ in pairs:
        first, _, rest = key.partition(".")
        name = rest.partition(".")[0]
        if first == "inputs" and name and name not in known and not _is_named(name, after):
            near = did_you_mean(name, known)
            lines.append(f"--set {printable(key)}: the file has no input {printable(name)}; {there}{near}")
    return lines


def _is_named(name: str, value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_is_named(name, one) for one in value.values())
    if isinstance(value, list | tuple):
        return any(_is_named(name, one) for one in value)
    return has_expression(value) and f"inputs.{name}" in value


def _at(value: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
