"""What the Python API cannot do without Azure: an error that names the call, and the way out."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from mpibatch.errors import EXIT_USAGE, MpibatchError


class NeedsAzureError(MpibatchError, NotImplementedError):
    """A call that only Azure's services can answer: do what the text says instead."""

    exit_code = EXIT_USAGE


class ApiError(MpibatchError, ValueError):
    """A call of the Python API is given something that is not legal: change the call."""

    exit_code = EXIT_USAGE


class NotFoundError(MpibatchError, LookupError):
    """A workspace has no such data, model or datastore: register it, or take a name that is there."""

    exit_code = EXIT_USAGE


class ExistsError(MpibatchError, FileExistsError):
    """A file or a name is there already: say that it is to be replaced, or take another."""

    exit_code = EXIT_USAGE


def refuse(call: str, way: str) -> NoReturn:
    """`call` as a person writes it: `Datastore.register_azure_blob_container`; `way`: what to do instead."""
    raise NeedsAzureError(f"{call} needs Azure, and this is mpibatch, which runs without it: {way}")


def need(call: str, condition: bool, problem: str) -> None:
    """Raises ApiError where the condition does not hold."""
    if not condition:
        raise ApiError(f"{call}: {problem}")


_told: set[str] = set()


def tell_once(text: str) -> None:
    """One line for people, the first time that this process has it to say."""
    if text not in _told:
        _told.add(text)
        print(f"mpibatch: {text}", file=sys.stderr, flush=True)


class Refusing(type):
    """The type of classes that can be imported and stand in annotations, and do nothing: see `refusing`."""

    _way = ""

    def __call__(cls, *arguments: Any, **keywords: Any) -> NoReturn:
        refuse(f"{cls.__name__}()", cls._way)

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        refuse(f"{cls.__name__}.{name}", cls._way)


def refusing(name: str, way: str) -> type:
    """A class of this name, each call of which is refused with `way`."""
    return Refusing(name, (), {"__doc__": f"Can be imported; what it does needs Azure: {way}.", "_way": way})
