"""The entry script with which processors answer the questions of a survey: each item is a question."""

from __future__ import annotations

from mpibatch.runtime.surveying.questions import answer, read_question, write


def run(mini_batch: list[str]) -> list[str]:
    """The answers. Items look like paths, as those of files do: a slash stands before each."""
    return [write(answer(read_question(item[1:]))) for item in mini_batch]
