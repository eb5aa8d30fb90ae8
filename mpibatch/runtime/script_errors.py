"""What the entry script has raised, in words: for people, and with its traceback for the error file."""

from __future__ import annotations

import importlib
import linecache
import os
import sys
import time
import traceback
from collections.abc import Sequence
from types import TracebackType

from mpibatch.work import ErrorReport

MESSAGE_CHARACTERS = 2_000
DETAILS_BYTES = 16 << 10
_LOGGED_BYTES = 1 << 20
_LOGGED_ITEMS = 10

_OURS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")


def report(error: BaseException, where: str) -> tuple[ErrorReport, str]:
    """The error as people are shown it, and its full traceback. `where`: "in run()"."""
    _cut_chain(error)
    trace = error.__traceback__
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as failed:
        text = f"{type(error).__name__} (its traceback cannot be shown: {failed!r})\n"
    text = _plain(text)
    message = _plain(_message(error, trace, where))[:MESSAGE_CHARACTERS]
    return ErrorReport(_plain(type(error).__name__), message, _shortened(text, DETAILS_BYTES)), text


def _message(error: BaseException, trace: TracebackType | None, where: str) -> str:
    if isinstance(error, SystemExit):
        return _exit_message(error, where)
    try:
        message = str(error)
    except BaseException as failed:  # It is the script's code too.
        return f"(its __str__ raised {type(failed).__name__})"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"{message}: the script imports it, but {sys.executable} has no such module; install it there, "
            "put it into the source_directory, or name an interpreter that has it (`python:` in the job file)"
        )
    return message or _place(trace, where)


def _exit_message(error: SystemExit, where: str) -> str:
    if error.code is None:
        return f"the script called sys.exit() {where}"
    message = f"{error.code}: the script called sys.exit({error.code!r}) {where}"
    if error.code == 2:
        message += _argparse_message(error.__traceback__)
    return message


def _argparse_message(trace: TracebackType | None) -> str:
    """What argparse has told on stderr only, and what to do; empty where it is not it that has ended the script."""
    frames = [frame for frame, _ in traceback.walk_tb(trace) if frame.f_globals.get("__name__") == "argparse"]
    if not frames:
        return ""
    told = next((frame.f_locals["message"] for frame in frames if "message" in frame.f_locals), "see stderr")
    remedy = "parse_known_args() passes over those that mpibatch adds"
    if "ambiguous option" in str(told):
        remedy = (
            "ArgumentParser(allow_abbrev=False) does not take an argument that mpibatch adds for the beginning of "
            "others' names"
        )
    return f"; argparse did not accept the arguments: {told}; {remedy}"


def _place(trace: TracebackType | None, where: str) -> str:
    """For errors without a message: the line that raised it."""
    steps = list(traceback.walk_tb(trace))
    if not steps:
        return where
    frame, line = steps[-1]
    name = frame.f_code.co_filename
    source = linecache.getline(name, line).strip()
    return f"{where}, line {line} of {os.path.basename(name)}: {source}"


def _cut_chain(error: BaseException | None) -> None:
    """Let the tracebacks of an error, and of those behind it, begin in the script's code."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = _cut(error.__traceback__)
        error = error.__cause__ or error.__context__


def _cut(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not name.startswith((_OURS, "<frozen importlib")) and name != importlib.__file__:
            break
        trace = trace.tb_next
    return trace


def _plain(text: str) -> str:
    """Without surrogates, which no message and no log could hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _shortened(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8: the start and, as it says most, more of the end."""
    data = text.encode()
    if len(data) <= limit:
        return text
    head = data[: limit // 4].decode(errors="ignore")
    tail = data[len(data) - limit // 2 :].decode(errors="ignore")
    return f"{head}\n[{len(data) - limit * 3 // 4:,} bytes left out]\n{tail}"


def log_error(path: bytes, about: str, items: Sequence[str], text: str) -> None:
    """Append a traceback to the error file, or to stderr where that fails; never raises."""
    shown = [f"    {item}" for item in items[:_LOGGED_ITEMS]]
    if len(items) > _LOGGED_ITEMS:
        shown.append(f"    and {len(items) - _LOGGED_ITEMS} more")
    moment = time.strftime("%Y-%m-%d %H:%M:%S%z")
    entry = "\n".join([f"=== {moment} {about}", *shown, _shortened(text, _LOGGED_BYTES), ""])
    data = entry.encode("utf-8", "backslashreplace")
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "ab") as file:
            file.write(data)
    except OSError as error:
        try:
            os.write(2, data + f"(not in {path!a}: {error.strerror})\n".encode())
        except OSError:
            pass
