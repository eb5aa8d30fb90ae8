"""What an entry script may ask of mpibatch. Outside a processor, as in a notebook, it all works and does nothing."""

from __future__ import annotations

from collections.abc import Callable


def _nobody() -> None:
    """Outside a processor nobody listens."""


class EntryScript:
    """The same object each time: `EntryScript().heartbeat()`."""

    _only: EntryScript | None = None
    _beat: Callable[[], None] = staticmethod(_nobody)

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

    @classmethod
    def _listen(cls, beat: Callable[[], None]) -> None:
        """For the processor: what a heartbeat does from now on."""
        cls._beat = staticmethod(beat)
