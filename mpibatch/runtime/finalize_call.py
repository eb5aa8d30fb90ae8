"""A processor that is there for `finalize()`: what it does in place of mini-batches."""

from __future__ import annotations

import os
from typing import assert_never

from mpibatch.core.framing import FrameError
from mpibatch.messages import Finalize, Finalized, Finish, Grant, ProcessorSpec
from mpibatch.runtime.entry_script import Hooks
from mpibatch.runtime.link import Link
from mpibatch.runtime.script_errors import log_error, report


def finalize(spec: ProcessorSpec, asked: Finalize, script: Hooks, link: Link) -> None:
    """Call it, tell how it ended, and return when rank 0 has heard that."""
    assert script.finalize is not None
    file = None if asked.output_file is None else os.fsdecode(asked.output_file)
    try:
        script.finalize(file)
    except BaseException as error:
        words, text = report(error, "in finalize()")
        log_error(spec.error_file, f"{spec.name}: {os.fsdecode(spec.script)}, in finalize()", [], text)
        link.send(Finalized(words))
    else:
        link.send(Finalized(None))
    _await_finish(link)


def _await_finish(link: Link) -> None:
    while True:
        for message in link.messages():
            match message:
                case Finish():
                    return
                case Grant() | ProcessorSpec():
                    raise FrameError(f"{type(message).__name__} came to a processor that is for finalize()")
                case _:
                    assert_never(message)
