"""The job key `concurrency`: several mini-batches in one processor at a time. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpibatch.core.job_inputs import FilesInput, ListInput
from mpibatch.core.settings import Problems


def check_concurrency(problems: Problems, values: Mapping[str, Any]) -> None:
    """Note what does not go together with it. `values`: what has been read, with the inputs if they are right."""
    concurrency = values.get("concurrency") or 1
    if concurrency > 1 and any(_is_copied(one) for one in values.get("inputs") or ()):
        problems.add(
            "concurrency",
            f"is {concurrency}, but mode: download copies the files of one mini-batch after the other:"
            " leave one of the two out",
        )


def _is_copied(one: object) -> bool:
    return isinstance(one, FilesInput | ListInput) and one.mode == "download"
