"""`program_arguments` of Azure ML's v2 YAML, one text, becomes our `arguments`, a list of words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, assert_never

import msgspec

from mpibatch.core.azure_expressions import (
    Input,
    Output,
    ParentInput,
    ParentOutput,
    Pieces,
    Reference,
    StepOutput,
    without_optional,
    words,
)
from mpibatch.core.azure_inputs import Absent, Bound, Data, Made, Value
from mpibatch.core.azure_outputs import Place, as_argument
from mpibatch.core.settings import Wrong, did_you_mean, printable


class Arguments(msgspec.Struct, frozen=True, kw_only=True):
    """What the script is given."""

    words: list[str]
    side_inputs: list[str]
    """Names of the inputs that have to be side inputs, as the words name them."""


def read_program_arguments(
    value: Any, inputs: Mapping[str, Bound], outputs: Mapping[str, Place]
) -> Arguments:
    """Raises `Wrong`."""
    if not isinstance(value, str):
        raise Wrong("must be one text, as a shell has it, like --model ${{inputs.model}}")

    def given(name: str) -> bool:
        return not isinstance(_input(name, inputs), Absent)

    split = words(without_optional(value, given))
    filled = ["".join(_filled(word, inputs, outputs)) for word in split]
    named = {part.name: None for word in split for part in word if isinstance(part, Input)}
    return Arguments(
        words=filled, side_inputs=[name for name in named if isinstance(inputs[name], Data | Made)]
    )


def _filled(word: Pieces, inputs: Mapping[str, Bound], outputs: Mapping[str, Place]) -> Iterator[str]:
    for part in word:
        yield _literal(part) if isinstance(part, str) else _stands_for(part, inputs, outputs)


def _literal(text: str) -> str:
    """Text that our own placeholders leave alone."""
    return text.replace("${", "$${")


def _stands_for(reference: Reference, inputs: Mapping[str, Bound], outputs: Mapping[str, Place]) -> str:
    match reference:
        case Input(name):
            return _input_text(name, _input(name, inputs))
        case Output(name):
            if name not in outputs:
                raise Wrong(f"there is no output {printable(name)}{did_you_mean(name, outputs)}")
            return as_argument(name, outputs[name])
        case ParentInput() | ParentOutput() | StepOutput():
            raise Wrong(
                "a step's arguments name its own inputs and outputs: bind an input, like inputs: {x:"
                " ${{parent.inputs.x}}}, and name that: ${{inputs.x}}"
            )
        case _:
            assert_never(reference)


def _input(name: str, inputs: Mapping[str, Bound]) -> Bound:
    if name not in inputs:
        raise Wrong(f"there is no input {printable(name)}{did_you_mean(name, inputs)}")
    return inputs[name]


def _input_text(name: str, bound: Bound) -> str:
    match bound:
        case Value(value):
            return _literal(str(value))
        case Data() | Made():
            return f"${{side_inputs.{name}}}"
        case Absent():
            raise Wrong(f"input {name} has no value: give it one, or put what names it in $[[ ]]")
        case _:
            assert_never(bound)
