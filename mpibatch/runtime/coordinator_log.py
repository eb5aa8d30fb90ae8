"""The coordinator's own log: each thing that it decided. The run does not depend on it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpibatch.core.ranks import Roles

if TYPE_CHECKING:
    from mpibatch.runtime.record import Begun  # All ranks load this module, and that loads numpy.


class _Log(logging.FileHandler):
    """What cannot be logged is no reason for anything: a full disk shows where rows are written."""

    def handleError(self, record: logging.LogRecord) -> None:
        self.setLevel(logging.CRITICAL + 1)


def log_to(begun: Begun, level: str, say: Callable[[str], None]) -> None:
    """From now on, what is logged at `level` or above goes to the run's log; `say` is told where that cannot be."""
    path = begun.folder.logs / "sys" / "coordinator.txt"
    handler: logging.Handler
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _Log(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        say(f"warning: {path} cannot be written ({error.strerror}): this start has no log of the coordinator")
        handler = logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("mpibatch")
    for old in [one for one in logger.handlers if isinstance(one, _Log)]:  # Of a step before this one.
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


def log_bindings(roles: Roles) -> None:
    """What each worker's processors get."""
    logger = logging.getLogger(__name__)
    for worker in roles.workers:
        if words := worker.binding.words():
            where = f"rank {worker.rank} on {worker.host}"
            logger.info("worker %d (%s) is given: %s", worker.worker, where, words)
