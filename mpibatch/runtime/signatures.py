"""What parameters a callable of the script takes: the one that is really exported, decorators included."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from mpibatch.errors import ScriptError

MOST_WRAPPERS = 100
"""A wrapper may claim to wrap itself."""


class Parameters(msgspec.Struct, frozen=True):
    """Of the callable that decides. `own`: it is the exported one, not one that is wrapped by it."""

    all: Sequence[inspect.Parameter]
    own: bool

    @property
    def named(self) -> list[inspect.Parameter]:
        """Those that can be given by position."""
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return [one for one in self.all if one.kind in kinds]

    @property
    def needed(self) -> list[inspect.Parameter]:
        """Of these, the ones without a default."""
        return [one for one in self.named if one.default is one.empty]

    @property
    def takes_any(self) -> bool:
        return any(one.kind is one.VAR_POSITIONAL for one in self.all)

    @property
    def needed_keywords(self) -> list[inspect.Parameter]:
        return [one for one in self.all if one.kind is one.KEYWORD_ONLY and one.default is one.empty]


def parameters_of(exported: Callable[..., object], *, most: int) -> Parameters | None:
    """The parameters that `exported` takes; None: it does not tell. A wrapper that takes `*args`, where up to
    `most` are given by position, has those of what it wraps."""
    function: Any = exported
    found: Parameters | None = None
    for _ in range(MOST_WRAPPERS):
        try:
            parameters = list(inspect.signature(function, follow_wrapped=False).parameters.values())
        except (TypeError, ValueError):  # Callables written in C tell nothing, as functools.lru_cache's.
            if not hasattr(function, "__wrapped__"):
                return None
            function = function.__wrapped__
            continue
        found = Parameters(parameters, function is exported)
        if not (found.takes_any and len(found.named) < most and hasattr(function, "__wrapped__")):
            break
        function = function.__wrapped__
    return found


def finalize_hook(function: Callable[..., object], script: str) -> Callable[[str | None], object]:
    """`finalize` of a script as one that takes the output file, which it may leave out. Raises ScriptError."""
    found = parameters_of(function, most=1)
    if found is not None and found.own and (len(found.needed) > 1 or found.needed_keywords):
        raise ScriptError(
            f"`finalize` of {script} has the parameters {inspect.signature(function, follow_wrapped=False)}; it is"
            " called as finalize(output_file), or as finalize() if it takes none"
        )
    if found is None or found.named or found.takes_any:
        return function
    # It says what it wraps, so that it is known whether that is async.
    return functools.wraps(function)(lambda output_file: function())
