"""What an entry script may ask of mpibatch. Outside a processor, as in a notebook or a test at home, it all works:
heartbeats do nothing, the log goes to stderr, and folders are below `mpibatch_outputs` in the current one."""

from __future__ import annotations

import os
from _thread import allocate_lock  # As that of `threading`, which would have to be loaded.
from contextvars import ContextVar

TYPE_CHECKING = False  # As that of `typing`, which would have to be loaded.
if TYPE_CHECKING:
    from collections.abc import Callable
    from logging import Logger

    from mpibatch.messages import Surroundings

LOGGER = "mpibatch.entry_script"
AT_HOME = "mpibatch_outputs"
"""The folder that stands for the run folder where there is no run."""
MINI_BATCH: ContextVar[int | None] = ContextVar("mini_batch", default=None)
"""Number of the mini-batch that runs, in the thread or task that runs it."""
_FIRST_USE = allocate_lock()
"""Threads of the script may ask for the logger at the same moment."""
_LINE = "%(asctime)s|%(levelname)s|%(agent)s|%(message)s"


def _nobody() -> None:
    """Outside a processor nobody listens."""


class EntryScript:
    """The same object each time: `EntryScript().logger.info("...")`, `EntryScript().heartbeat()`.

    Names beside `heartbeat` are those of Azure ML's `azureml_user.parallel_run.EntryScript`, which this is as well.
    """

    _only: EntryScript | None = None
    _beat: Callable[[], None] = staticmethod(_nobody)
    _surroundings: Surroundings | None = None
    _logger: Logger | None = None

    def __new__(cls) -> EntryScript:
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def heartbeat(self) -> None:
        """Say from inside a long `run()` that it gets on (see `progress_update_timeout`).

        Cheap enough to be called a million times; also from threads and from processes that the script has
        forked. It gives `run()` no more time (see `run_invocation_timeout`).
        """
        self._beat()

    @property
    def logger(self) -> Logger:
        """Writes to `logs/user/entry_script_log/<node>/<process>.log.txt`, from the job's `logging_level` on."""
        cls = type(self)
        if cls._logger is None:
            with _FIRST_USE:
                cls._logger = cls._logger or _make_logger(self._surroundings, self.agent_name)
        return cls._logger

    @property
    def agent_name(self) -> str:
        """process000, process001, ... on its node: scripts put it into names of files in `log_dir`."""
        return self._surroundings.process if self._surroundings else "process000"

    @property
    def log_dir(self) -> str:
        """The folder of that file, one for all processors of a node, for other log files of the script."""
        file = self._surroundings.log_file if self._surroundings else os.fsencode(_at_home("logs", "log.txt"))
        return _made(os.path.dirname(file))

    @property
    def output_dir(self) -> str:
        """The run folder, as the variable AZUREML_BI_OUTPUT_PATH says it too; it is there."""
        return _made(self._surroundings.output_dir if self._surroundings else os.fsencode(_at_home()))

    @property
    def working_dir(self) -> str:
        """The current folder: in a processor a scratch folder of its own, which is removed at its end."""
        return os.getcwd()

    @property
    def logging_level(self) -> str:
        """WARNING, INFO or DEBUG"""
        return self._surroundings.logging_level if self._surroundings else "INFO"

    @classmethod
    def _listen(cls, beat: Callable[[], None]) -> None:
        """For the processor: what a heartbeat does from now on."""
        cls._beat = staticmethod(beat)

    @classmethod
    def _settle(cls, surroundings: Surroundings | None) -> None:
        """For the processor: what is around it."""
        cls._surroundings = surroundings
        if cls._logger is not None:
            for handler in cls._logger.handlers[:]:
                cls._logger.removeHandler(handler)
                handler.close()
            cls._logger = None


def _at_home(*below: str) -> str:
    return os.path.join(os.getcwd(), AT_HOME, *below)


def _made(folder: bytes) -> str:
    os.makedirs(folder, exist_ok=True)
    return os.fsdecode(folder)


def _make_logger(surroundings: Surroundings | None, agent: str) -> Logger:
    import logging  # Only for scripts that log by it.

    handler: logging.Handler = logging.StreamHandler()
    if surroundings is not None:
        file = os.fsdecode(surroundings.log_file)
        try:
            os.makedirs(os.path.dirname(file), exist_ok=True)
            handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
        except OSError as error:  # A log that cannot be written is no reason for the script to fail.
            os.write(2, f"mpibatch: the log goes to stderr: {file!a}: {error.strerror}\n".encode())
    handler.setFormatter(logging.Formatter(_LINE, defaults={"agent": agent}))
    logger = logging.getLogger(LOGGER)
    logger.setLevel(surroundings.logging_level if surroundings is not None else "INFO")
    logger.propagate = False
    logger.addHandler(handler)
    return logger
