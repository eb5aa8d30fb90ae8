"""Every error that a user may see: one class a remedy, each with the exit code it ends the program with.

The text of an error says what happened, to which thing (job file and key, path, mini-batch, rank, host),
the probable cause, and what to do. Only an error that is not an `MpibatchError` is a bug of ours.
"""

import contextlib
import sys

EXIT_COMPLETE = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_TOO_MANY_ERRORS = 3
EXIT_NO_WORKERS = 4
EXIT_STORAGE = 74
EXIT_STOPPED = 75
EXIT_INTERRUPTED = 130

EXIT_CODES = frozenset(
    (
        EXIT_COMPLETE,
        EXIT_USAGE,
        EXIT_TOO_MANY_ERRORS,
        EXIT_NO_WORKERS,
        EXIT_STORAGE,
        EXIT_STOPPED,
        EXIT_INTERRUPTED,
    )
)
"""All but that of a bug, with which launchers end as well."""


class MpibatchError(Exception):
    """The base: not raised itself."""

    exit_code = EXIT_BUG


class ConfigError(MpibatchError):
    """The job file or the command line is wrong: edit it."""

    exit_code = EXIT_USAGE


class InputError(MpibatchError):
    """The input matches nothing or cannot be read: repair the input or its key."""

    exit_code = EXIT_USAGE


class ScriptError(MpibatchError):
    """The entry script (or the interpreter it asks for) cannot be used at all: edit the script."""

    exit_code = EXIT_USAGE


class NoEnvironmentError(MpibatchError):
    """What the job wants made around its processors cannot be made here: repair the site, or the key's lines."""

    exit_code = EXIT_NO_WORKERS


class RunFolderError(MpibatchError):
    """The run folder belongs to another job or to a run that is alive: choose another, or `--fresh`."""

    exit_code = EXIT_USAGE


class OtherRunError(RunFolderError):
    """The run in the folder is not that of the job as it is now. A pipeline makes it anew, where that is its own."""

    def __init__(self, words: str, changed: str = "") -> None:
        """`changed`: what differs, in words."""
        super().__init__(words)
        self.changed = changed


class LaunchError(MpibatchError):
    """The MPI launcher and this program do not fit together: change how it is started."""

    exit_code = EXIT_USAGE


class NoMpiError(LaunchError):
    """MPI cannot be loaded, perhaps on this machine only: load or install it."""


class StorageError(MpibatchError):
    """Writing failed (full disk, failed fsync, damaged file): repair the storage, then start again."""

    exit_code = EXIT_STORAGE


class StoppedError(MpibatchError):
    """The run was stopped before its end, or its world was lost: start again to continue."""

    exit_code = EXIT_STOPPED


class InterruptedByUser(StoppedError):
    """A person has pressed Ctrl-C: start again to continue."""

    exit_code = EXIT_INTERRUPTED


def tell(error: MpibatchError) -> None:
    """Print an error for people, last of all that was printed."""
    words = f"mpibatch: {error}".encode("utf-8", "backslashreplace").decode()
    with contextlib.suppress(OSError):  # The terminal may be gone: the exit code still tells.
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        print(words, file=sys.stderr, flush=True)
