"""How a script's `finalize` is called: by what the exported callable takes."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from mpibatch.errors import ScriptError
from mpibatch.runtime.signatures import finalize_hook


def wrapped(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def wrapper(*arguments: object) -> object:
        return function(*arguments)

    return wrapper


def of_none() -> object:
    return "none"


def of_one(file: object) -> object:
    return file


def of_one_that_has_a_default(file: object = 1) -> object:
    return file


def of_any(*files: object) -> object:
    return files


def of_keywords(*, more: int = 3, **others: object) -> object:
    return more


CALLS: list[tuple[Callable[..., object], object]] = [
    (of_none, "none"),
    (wrapped(of_none), "none"),
    (of_one, "file"),
    (wrapped(of_one), "file"),
    (functools.lru_cache(of_one), "file"),
    (functools.lru_cache(of_none), "none"),
    (of_one_that_has_a_default, "file"),
    (of_any, ("file",)),
    (of_keywords, 3),
    (functools.partial(of_one), "file"),
    (functools.partial(of_one, "bound"), "bound"),
    (str.upper, "FILE"),
]


@pytest.mark.parametrize(("function", "returned"), CALLS)
def test_it_gets_the_file_if_it_takes_one(function: Callable[..., object], returned: object) -> None:
    assert finalize_hook(function, "entry.py")("file") == returned


REFUSED: list[Callable[..., object]] = [
    lambda file, context: None,
    lambda *, more: None,
    lambda file, *, more: None,
]


@pytest.mark.parametrize("function", REFUSED)
def test_what_needs_more_is_refused(function: Callable[..., object]) -> None:
    with pytest.raises(
        ScriptError, match=r"`finalize` of entry.py has the parameters .*finalize\(output_file\)"
    ):
        finalize_hook(function, "entry.py")
