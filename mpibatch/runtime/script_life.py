"""How the entry script begins and ends in its processor."""

from __future__ import annotations

import os

from mpibatch.entry import MINI_BATCH
from mpibatch.errors import ScriptError
from mpibatch.messages import InitFailed, ProcessorSpec
from mpibatch.runtime.entry_script import Hooks, load
from mpibatch.runtime.link import Link
from mpibatch.runtime.script_errors import log_error, report


def start_script(spec: ProcessorSpec, link: Link) -> Hooks | None:
    """Import the script and call its `init()`; None, and `InitFailed` is sent, if that fails."""
    where = "while it was imported"
    imported = False
    try:
        script = load(spec)
        imported = True
        where = "in init()"
        if script.init is not None and (spec.finalize is None or script.finalize is not None):
            script.init()
    except BaseException as error:
        words, text = report(error, where)
        unusable = not imported and isinstance(error, ScriptError | SyntaxError)
        log_error(spec.error_file, f"{spec.name}: {os.fsdecode(spec.script)}, {where}", [], text)
        link.send(InitFailed(words, unusable))
        return None
    return script


def shut_down(spec: ProcessorSpec, script: Hooks) -> None:
    """Call `shutdown()`. What it raises changes no outcome: it is told of in the logs."""
    if script.shutdown is None:
        return
    MINI_BATCH.set(None)
    try:
        script.shutdown()
    except BaseException as error:
        words, text = report(error, "in shutdown()")
        log_error(spec.error_file, f"{spec.name}: {os.fsdecode(spec.script)}, in shutdown()", [], text)
        line = f"mpibatch: shutdown() raised {words.type}: {words.message}\n"
        try:
            os.write(2, line.encode())
        except OSError:
            pass


def own_folders(spec: ProcessorSpec) -> list[str]:
    """Where the script's own modules lie."""
    folders = [] if spec.is_module else [os.path.dirname(os.fsdecode(spec.script))]
    return folders if spec.source_directory is None else [*folders, os.fsdecode(spec.source_directory)]
