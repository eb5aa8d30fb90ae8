"""How a processor ends: as an interpreter does, but without unloading its libraries.

Unloading takes TensorFlow most of a second. What a script would miss is done: its threads are waited for, its
exit handlers called, what its modules hold is let go (so that files are closed and `__del__` is called), and
Python's own files that are still open are flushed. Not done: `__del__` of what only other packages hold, and
the exit handlers of C libraries.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import sys
from collections.abc import Sequence
from types import FunctionType, ModuleType
from typing import NoReturn

_BUFFERED = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


def leave(code: int, folders: Sequence[str]) -> NoReturn:
    """End this process. `folders`: where the script's own modules lie."""
    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()  # As the interpreter calls it: waits for all threads that are no daemons.
    atexit._run_exitfuncs()
    for module in list(sys.modules.values()):
        if _is_below(module, folders):
            _let_go(module)
    gc.collect()
    _flush_all()
    os._exit(code)


def _is_below(module: object, folders: Sequence[str]) -> bool:
    file = getattr(module, "__file__", None) if isinstance(module, ModuleType) else None
    if not isinstance(file, str) or f"{os.sep}site-packages{os.sep}" in file:
        return False
    return any(file.startswith(os.path.join(folder, "")) for folder in folders)


def _let_go(module: ModuleType) -> None:
    """As the interpreter does with a module at its end: each name, but those that `__del__` may need last."""
    names = vars(module)
    for name in [name for name in names if not name.startswith("__")]:
        value = names[name]
        if not isinstance(value, ModuleType | type | FunctionType):
            del value
            with contextlib.suppress(KeyError):
                del names[name]


def _flush_all() -> None:
    for one in gc.get_objects():
        if issubclass(type(one), _BUFFERED):
            with contextlib.suppress(OSError, ValueError):
                one.flush()
