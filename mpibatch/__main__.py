"""`mpibatch` and `python -m mpibatch`: errors become words and exit codes."""

from __future__ import annotations

import os
import sys

from mpibatch.errors import EXIT_INTERRUPTED, MpibatchError, tell


def main() -> int:
    """Run the command line. Only a bug of ours shows a traceback of ours."""
    _open_closed_streams()
    import click

    from mpibatch.cli import cli

    try:
        # Not `cli.main`, which takes an interrupt for an exit code that is that of a bug here.
        with cli.make_context("mpibatch", sys.argv[1:]) as context:
            cli.invoke(context)
    except MpibatchError as error:
        tell(error)
        return error.exit_code
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    return 0


def _open_closed_streams() -> None:
    """A shell's `>&-` closes a stream: launchers die of that, and files would take its number."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # Gets the lowest free number, which is this one.
            os.set_inheritable(fd, True)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    sys.exit(main())
