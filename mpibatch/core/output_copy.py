"""The job file's key `copy_output_to`: where the rows are put a second time. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpibatch.core.places import Places, contains, same
from mpibatch.core.row_keys import RESERVED_NAMES
from mpibatch.core.settings import Problems, Wrong, shown
from mpibatch.core.side_outputs import input_with, plain_path

KEY = "copy_output_to"


def read_copy(
    problems: Problems, given: Mapping[Any, Any], values: Mapping[str, Any], places: Places
) -> dict[str, Any]:
    """`values`: the keys of rows and the run folder, as far as they are known."""
    if KEY not in given:
        return {}
    if values.get("output_action") == "summary_only":
        problems.add(
            KEY,
            f"is {shown(given[KEY])}: it is for rows, and output_action: summary_only writes none; leave one of the"
            " two out",
        )

    def check(value: Any) -> str:
        path = plain_path(value)
        if path.endswith("/"):
            raise Wrong(f"must be a file, not a folder, like {shown(path + 'rows.txt')}")
        whole = places.absolute(path)
        names = (*RESERVED_NAMES, values.get("append_row_file_name") or "")
        own = next((name for name in names if name and contains(f"{values['output']}/{name}", whole)), None)
        if own is not None:
            raise Wrong(f"must be another file than what the run folder has as {own}")
        _refuse_what_is_needed(whole, values)
        return whole

    return {KEY: problems.take(KEY, given[KEY], check)}


def _refuse_what_is_needed(file: str, values: Mapping[str, Any]) -> None:
    """Raises `Wrong` where the copy would take the place of something that the job reads or writes."""
    for key in ("job_file", "entry_script", "prepare"):
        if same(values.get(key) or "", file):
            raise Wrong(
                f"must be another file than the job's own {key.replace('_', ' ')}, which it would replace"
            )
    for key in ("side_inputs", "models"):
        name = next((name for name, path in values.get(key, {}).items() if same(path or "", file)), None)
        if name is not None:
            raise Wrong(f"must be another file than {key}.{name}, which it would replace")
    for name, folder in values.get("side_outputs", {}).items():
        if contains(file, folder):
            raise Wrong(f"must be a file, and side_outputs.{name} is the folder {shown(folder)}")
    found = None if contains(values["output"], file) else input_with(file, values.get("inputs") or ())
    if found is not None:
        raise Wrong(
            f"would be an item of the input {shown(found)} at the next run, or take the place of one: choose a file"
            " outside"
        )
