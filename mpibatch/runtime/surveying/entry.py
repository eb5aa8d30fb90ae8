"""The entry script with which processors answer the questions of a survey: each item is a question."""

from __future__ import annotations

from mpibatch.runtime.surveying.blame import answer_surely
from mpibatch.runtime.surveying.questions import read_question, write


def run(mini_batch: list[str]) -> list[str]:
    """The answers, each behind the number of its question: a question whose processor dies has none.

    Items look like paths, as those of files do: a slash stands before the number and the question.
    """
    rows = []
    for item in mini_batch:
        number, _, line = item[1:].partition(" ")
        rows.append(f"{number} {write(answer_surely(read_question(line)))}")
    return rows
