"""Questions of all formats in one closed union: how they are written down, and who answers them."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from mpibatch.inputs import archives, csv_survey, hdf5_survey, key_runs, lines_survey, parquet_survey, shuffle

Question: TypeAlias = (
    csv_survey.Question
    | lines_survey.Question
    | parquet_survey.Question
    | hdf5_survey.Question
    | archives.Question
    | key_runs.Question
    | shuffle.Question
)
Answer: TypeAlias = (
    csv_survey.Answer
    | lines_survey.Answer
    | parquet_survey.Answer
    | hdf5_survey.Answer
    | archives.Answer
    | key_runs.Answer
    | shuffle.Answer
)
_MODULES = (csv_survey, lines_survey, parquet_survey, hdf5_survey, archives, key_runs, shuffle)

_questions = msgspec.json.Decoder(Question)
_answers = msgspec.json.Decoder(Answer)


def answer(question: Any) -> Any:
    """Look at what the question is about. Raises what its format raises."""
    for module in _MODULES:
        if isinstance(question, module.Question):
            return module.answer(question)
    raise TypeError(f"{type(question).__name__} is no question of a survey")


def write(words: Any) -> str:
    """A question or an answer as one line of text."""
    return msgspec.json.encode(words).decode()


def read_question(line: str | bytes) -> Any:
    return _questions.decode(line)


def read_answer(line: str | bytes) -> Any:
    return _answers.decode(line)
