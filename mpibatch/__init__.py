"""mpibatch runs a Python entry script over a large input on an HPC cluster, as an MPI program."""

TYPE_CHECKING = False  # As that of `typing`, which would have to be loaded.
if TYPE_CHECKING:
    from mpibatch.api.plain import RunFailed, run
    from mpibatch.entry import EntryScript

__all__ = ["EntryScript", "RunFailed", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Loaded when it is asked for, as most who import this package do not need it."""
    if name == "EntryScript":
        from mpibatch.entry import EntryScript

        return EntryScript
    if name in ("run", "RunFailed"):
        from mpibatch.api import plain

        return getattr(plain, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
