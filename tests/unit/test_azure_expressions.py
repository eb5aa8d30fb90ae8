"""core.azure_expressions: expressions taken apart, and words split around them."""

from __future__ import annotations

import pytest

from mpibatch.core.azure_expressions import (
    Input,
    Output,
    ParentInput,
    ParentOutput,
    Pieces,
    Reference,
    StepOutput,
    has_expression,
    pieces,
    whole,
    without_optional,
    words,
)
from mpibatch.core.settings import Wrong

REFERENCES: list[tuple[str, Reference]] = [
    ("${{inputs.x}}", Input("x")),
    ("${{ outputs.my_rows }}", Output("my_rows")),
    ("${{parent.inputs.x-1}}", ParentInput("x-1")),
    ("${{parent.outputs.y}}", ParentOutput("y")),
    ("${{parent.jobs.score_1.outputs.y}}", StepOutput("score_1", "y")),
]


@pytest.mark.parametrize(("text", "reference"), REFERENCES)
def test_each_form_is_read(text: str, reference: Reference) -> None:
    assert whole(text) == whole(f" {text}\n") == reference
    assert pieces(f"a{text}b") == ["a", reference, "b"]
    assert whole(f"{text}b") is None
    assert has_expression(text)


def test_text_without_expressions_stays() -> None:
    assert pieces("${x} $y {{z}}") == ["${x} $y {{z}}"]
    assert pieces("") == []
    assert whole("x") is None
    assert not has_expression("${x}")
    assert not has_expression(5)


WRONG = [
    ("${{name}}", "${{name}} stands for nothing"),
    ("${{inputs.}}", "stands for nothing"),
    ("${{jobs.a.outputs.b}}", "${{parent.jobs.step.outputs.y}}"),
    ("a ${{inputs.x} b", "no closing }}"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_none_is_an_error(text: str, said: str) -> None:
    with pytest.raises(Wrong) as caught:
        pieces(text)
    assert said in str(caught.value)


SPLIT: list[tuple[str, list[Pieces]]] = [
    ("--model ${{ inputs.m }}", [["--model"], [Input("m")]]),
    ("--a=${{inputs.x}}/b/${{outputs.y}}", [["--a=", Input("x"), "/b/", Output("y")]]),
    (
        """'one word' "two ${{inputs.x}}" a\\ b ""\n c""",
        [["one word"], ["two ", Input("x")], ["a b"], [], ["c"]],
    ),
    ("", []),
    # Ends of lines, as shells have them, of a text in YAML by | and by >-.
    ("--a 1 \\\n  --b 2\\\n --c 3", [["--a"], ["1"], ["--b"], ["2"], ["--c"], ["3"]]),
    ("--a 1 \\ --b 2", [["--a"], ["1"], ["--b"], ["2"]]),
    ("""--a '1 \\ 2' "3 \\ \\" 4" \\' \\ 5""", [["--a"], ["1 \\ 2"], ['3 \\ " 4'], ["'"], ["5"]]),
]


@pytest.mark.parametrize(("text", "want"), SPLIT)
def test_words_are_split_as_a_shell_does(text: str, want: list[Pieces]) -> None:
    assert words(text) == want


def test_a_quote_that_is_not_closed() -> None:
    with pytest.raises(Wrong, match="not closed"):
        words("--a 'b")
    with pytest.raises(Wrong, match="cannot stand in it"):
        words("--a \ue000")


def test_optional_parts_stay_where_all_their_inputs_are_given() -> None:
    text = "--a 1 $[[--b ${{inputs.b}} --c ${{inputs.c}}]] $[[--d ${{inputs.b}}]] $[[--e]]"
    kept = without_optional(text, lambda name: name == "b")
    assert kept == "--a 1  --d ${{inputs.b}} --e"
