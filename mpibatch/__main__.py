"""`mpibatch` and `python -m mpibatch`: errors become words and exit codes."""

from __future__ import annotations

import sys

from mpibatch.errors import EXIT_INTERRUPTED, MpibatchError, tell


def main() -> int:
    """Run the command line. Only a bug of ours shows a traceback of ours."""
    from mpibatch.cli import cli

    try:
        cli.main(prog_name="mpibatch", standalone_mode=True)
    except MpibatchError as error:
        tell(error)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
