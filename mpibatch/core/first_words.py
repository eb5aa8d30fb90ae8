"""Words of the command line that only the first of several starts may have. Pure."""

ONLY_AT_FIRST = ("--fresh", "--only-failed")
"""Left out to continue: they would throw away what is finished."""
