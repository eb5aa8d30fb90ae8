"""Which functions are async, behind what people put around them."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mpibatch.runtime.asynchrony import asynchrony


async def coroutine(batch: Any, *more: Any) -> Any:
    return batch


async def generator(batch: Any) -> AsyncIterator[Any]:
    for item in batch:
        yield item


def plain(batch: Any) -> Any:
    return batch


def returning(batch: Any) -> Any:
    """It is not known before it is called."""
    return coroutine(batch)


class Base:
    async def __call__(self, batch: Any) -> Any:
        return batch

    async def method(self, batch: Any) -> Any:
        return batch


class Called(Base):
    """It inherits what makes it async."""


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


def awaiting(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*arguments: Any) -> Any:
        return await function(*arguments)

    return wrapper


def itself() -> Callable[..., Any]:
    def run(batch: Any) -> Any: ...

    run.__wrapped__ = run  # type: ignore[attr-defined]
    return run


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (coroutine, "yes"),
        (generator, "yes"),
        (Called(), "yes"),
        (Called().method, "yes"),
        (functools.partial(coroutine, 1), "yes"),
        (functools.partial(functools.partial(Called()), 1), "yes"),
        (awaiting(coroutine), "yes"),
        (awaiting(plain), "yes"),
        (timed(coroutine), "perhaps"),
        (timed(timed(generator)), "perhaps"),
        (functools.lru_cache(coroutine), "perhaps"),
        (plain, "no"),
        (timed(plain), "no"),
        (returning, "no"),
        (Called, "no"),
        (len, "no"),
        (itself(), "no"),
    ],
)
def test_functions(function: Callable[..., Any], expected: str) -> None:
    assert asynchrony(function) == expected
