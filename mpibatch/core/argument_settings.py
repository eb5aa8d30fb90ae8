"""Which of the job's `arguments` set something, as in Azure ML, whose jobs have these settings only there. Pure.

They are given to the script too, which may look at them. The sources are its reference of the parallel job's YAML
(which names the arguments that are settings, and their ranges) and its public SDK.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from mpibatch.core.job_keys import ALIASES, MINI_BATCHES_THAT_FAIL, SIMPLE
from mpibatch.core.settings import Problems, Wrong, shown, whole_number

RANK_MINI_BATCHES = "rank_mini_batch_count"
"""So many mini-batches without data, and no inputs."""
WITH_DATA = ("inputs", "mini_batch_size", "partition_keys", "shuffle")
"""The job's keys that mean nothing then."""
SETTINGS = {
    "error_threshold": "error_threshold",
    **dict.fromkeys(ALIASES, ALIASES[0]),
    "allowed_failed_percent": "allowed_failed_percent",
    "progress_update_timeout": "progress_update_timeout",
}
"""Arguments, without their dashes, and the job's keys that they set."""
_NUMBER = re.compile(r"[-+]?\d{1,18}")
_FRACTION = re.compile(r"[-+]?(\d{1,18}\.\d{0,18}|\.\d{1,18})")


def argument_settings(
    problems: Problems, arguments: Sequence[str], values: Mapping[str, Any], set_keys: Collection[str]
) -> dict[str, Any]:
    """The job's keys that arguments set, and their values.

    `values`: the keys as far as they stand in the job file; one that is wrong is None in it. A key that is there
    and has another value is a problem, but for `set_keys`: what the command line says replaces it.
    """
    taken: dict[str, Any] = {}
    by: dict[str, str] = {}
    for argument, text in options_among(arguments, SETTINGS):
        key = SETTINGS[argument[2:]]
        check = SIMPLE.get(key, MINI_BATCHES_THAT_FAIL)
        value = _taken(problems, argument, text, check)
        if value is None:
            continue
        if by.get(key, argument) != argument and taken[key] != value:
            both = f"{by[key]} {taken[key]:.12g} and {argument} {value:.12g}"
            problems.add("arguments", f"has {both}, which set the same thing: leave one of the two out")
        taken[key], by[key] = value, argument
    for key, value in list(taken.items()):
        given = values.get(key)
        if given is None or given == value:
            continue
        if key in set_keys or (key in ALIASES and set(ALIASES) & set(set_keys)):
            del taken[key]
        else:
            words = f"is {given:.12g}, and the argument {by[key]}, which sets it too, is {value:.12g}"
            problems.add(key, f"{words}: leave one of the two out")
    return taken


def rank_mini_batches(problems: Problems, given: Mapping[Any, Any]) -> int:
    """How many mini-batches without data the job file's `arguments` ask for; 0: none."""
    arguments = given.get("arguments")
    if not isinstance(arguments, list | tuple):
        return 0
    count = 0
    texts = [str(one) if isinstance(one, str | int) else "" for one in arguments]
    for argument, text in options_among(texts, (RANK_MINI_BATCHES,)):
        # Below 0 is 0 to Azure ML.
        check = whole_number(-(2**31), of="mini-batches without data; 0: none")
        count = max(_taken(problems, argument, text, check) or 0, 0)
    return count


def without_data(given: Mapping[Any, Any], count: int) -> dict[Any, Any]:
    """What `given`, a job file, means with `count` mini-batches without data: nothing else is an input then."""
    kept = {key: value for key, value in given.items() if key not in WITH_DATA}
    return kept | {"inputs": [{"count": count}], "mini_batch_size": 1}


def options_among(arguments: Sequence[str], names: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """Each argument called `--name`, as `--name value` or `--name=value`: (`--name`, its value if it has one)."""
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if not name.startswith("--") or name[2:] not in names:
            continue
        following = arguments[position + 1 : position + 2]
        if equals:
            yield name, value
        else:
            yield name, None if not following or following[0].startswith("--") else following[0]


def _taken(problems: Problems, argument: str, text: str | None, check: Any) -> Any:
    """The checked value; None, and a problem more, where the check refuses it."""
    try:
        if text is None:
            raise Wrong("a number must follow it")
        return check(_number(text))
    except Wrong as wrong:
        # It stands where all is text: no quotes are to be left out.
        words = str(wrong).replace(" without quotes", "", 1)
        what = "without a value" if text is None else shown(text)
        problems.add("arguments", f"has {argument} {what}: {words}")
        return None


def _number(text: str) -> Any:
    """The number that an argument is; text that is none stays."""
    if _NUMBER.fullmatch(text):
        return int(text)
    return float(text) if _FRACTION.fullmatch(text) else text
