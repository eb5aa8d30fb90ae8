"""Expressions in Azure ML's v2 YAML: `${{inputs.x}}` and its like, and `$[[...]]`, which may be left out. Pure.

Source: Microsoft's public reference of the pipeline job's YAML ("Expression syntax for binding inputs and outputs").
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any, TypeGuard

import msgspec

from mpibatch.core.settings import Wrong, printable

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
_NAME = r"([A-Za-z_][\w-]*)"
_FORMS = "${{inputs.x}}, ${{outputs.y}}"
_PARENT_FORMS = "${{parent.inputs.x}}, ${{parent.outputs.y}}, ${{parent.jobs.step.outputs.y}}"
_MARK = "\ue000"
"""Stands for an expression while a text is split into words: no YAML that people write has it."""
_LINE_ENDS = re.compile(
    r"""( '[^']*' | "(?:\\.|[^"\\])*" | \\[^\s] ) | \\\n | (?<!\S)\\[ \t]""", re.DOTALL | re.VERBOSE
)
"""A backslash at the end of a line; `>-` in YAML makes a space of what follows. What is matched before it stays."""


class Input(msgspec.Struct, frozen=True):
    """`${{inputs.name}}`"""

    name: str


class Output(msgspec.Struct, frozen=True):
    """`${{outputs.name}}`"""

    name: str


class ParentInput(msgspec.Struct, frozen=True):
    """`${{parent.inputs.name}}`: an input of the pipeline."""

    name: str


class ParentOutput(msgspec.Struct, frozen=True):
    """`${{parent.outputs.name}}`: an output of the pipeline."""

    name: str


class StepOutput(msgspec.Struct, frozen=True):
    """`${{parent.jobs.step.outputs.name}}`: an output of another step."""

    step: str
    name: str


Reference = Input | Output | ParentInput | ParentOutput | StepOutput
Pieces = list[str | Reference]
"""A text taken apart: what stands literally, and references."""

_READERS: tuple[tuple[re.Pattern[str], Callable[..., Reference]], ...] = (
    (re.compile(rf"inputs\.{_NAME}"), Input),
    (re.compile(rf"outputs\.{_NAME}"), Output),
    (re.compile(rf"parent\.inputs\.{_NAME}"), ParentInput),
    (re.compile(rf"parent\.outputs\.{_NAME}"), ParentOutput),
    (re.compile(rf"parent\.jobs\.{_NAME}\.outputs\.{_NAME}"), StepOutput),
)


def has_expression(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and "${{" in value


def pieces(text: str) -> Pieces:
    """Raises `Wrong` where an expression is none that there is."""
    found: Pieces = []
    end = 0
    for expression in _EXPRESSION.finditer(text):
        found += [text[end : expression.start()], _reference(expression[1])]
        end = expression.end()
    if "${{" in text[end:]:
        raise Wrong("${{ has no closing }}")
    return [piece for piece in [*found, text[end:]] if piece != ""]


def whole(text: str) -> Reference | None:
    """The reference that a text is, where it is one and nothing else."""
    parts = pieces(text.strip())
    return parts[0] if len(parts) == 1 and not isinstance(parts[0], str) else None


def _reference(inside: str) -> Reference:
    for pattern, made in _READERS:
        if found := pattern.fullmatch(inside.strip()):
            return made(*found.groups())
    raise Wrong(
        f"${{{{{printable(inside)}}}}} stands for nothing; legal are {_FORMS}, in pipelines {_PARENT_FORMS}"
    )


def without_optional(text: str, given: Callable[[str], bool]) -> str:
    """Each `$[[...]]` without its brackets, or without all of it where an input in it is not `given`."""

    def kept(found: re.Match[str]) -> str:
        names = [piece.name for piece in pieces(found[1]) if isinstance(piece, Input)]
        return found[1] if all(given(name) for name in names) else ""

    return _OPTIONAL.sub(kept, text)


def words(text: str) -> list[Pieces]:
    """Words as a shell splits them, each taken apart; what an expression stands for is not split again."""
    parts = pieces(text)
    references = [part for part in parts if not isinstance(part, str)]
    marked = "".join(part if isinstance(part, str) else _MARK for part in parts)
    if marked.count(_MARK) != len(references):
        raise Wrong(f"the character {_MARK!a} cannot stand in it")
    try:
        split = shlex.split(_LINE_ENDS.sub(lambda found: found[1] or " ", marked))
    except ValueError:
        raise Wrong("a quote, or a \\ at its end, is not closed; a quote itself is \\\" or \\'") from None
    waiting = iter(references)
    return [_unmarked(word, waiting.__next__) for word in split]


def _unmarked(word: str, following: Callable[[], Reference]) -> Pieces:
    first, *others = word.split(_MARK)
    found: Pieces = [first]
    for other in others:
        found += [following(), other]
    # An empty word stays one.
    return [piece for piece in found if piece != ""]
