"""The bash script that makes a job's environment and becomes its interpreter, and what it tells when it fails. Pure.

It waits for a line on stdin. Its arguments: a file for its state, this program's interpreter, and what the
interpreter is to be given. Each line at the top level of the script has to succeed (those of functions and sourced
files are their own business, as sites' `module` and `activate` fail harmlessly within). Until the interpreter starts,
the state says what is being made, and in its second line, the number of the line that has failed. As the shell
becomes the interpreter, process, group and open files stay the same. What the lines print goes to stderr.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpibatch.core.environment_keys import Environment
from mpibatch.core.shell_lines import conda_lines, container_words, module_lines, quoted

SHOWN_OUTPUT_LINES = 6
_SHOWN_OUTPUT = 1000
_SHOWN_LINE = 300
_SETUP = "environment.setup"

# Not before somebody watches over all that it starts: if its starter dies before that, nobody would end it.
_WAIT = "read -r mpibatch_go || exit 1\nexec </dev/null\n"

# Positional arguments are taken away, as a file that is sourced would take them for its own.
_HEAD = """\
mpibatch_state=$1 mpibatch_own=$2 mpibatch_words=("${@:3}")
set --
exec {mpibatch_stdout}>&1 1>&2
mpibatch_before=$(type -P python3)
mpibatch_making() { printf '%s\\n' "$1" >"$mpibatch_state"; }
trap 'mpibatch_code=$? mpibatch_line=$LINENO
if ((${#BASH_SOURCE[*]} == 1)); then
    printf "%s\\n" "$mpibatch_line" >>"$mpibatch_state"
    exit "$mpibatch_code"
fi' ERR
"""

_OWN_OR_BROUGHT = """\
mpibatch_python=$(type -P python3) || true
if [ -z "$mpibatch_python" ] || [ "$mpibatch_python" = "$mpibatch_before" ]; then mpibatch_python=$mpibatch_own; fi
"""
_LOOK = """\
mpibatch_python=$(type -P {name}) || {{ echo {name}" is not found in PATH=$PATH" >&2; false; }}
"""
_RUN = """\
trap - ERR
: >"$mpibatch_state"
exec "$mpibatch_python" "${mpibatch_words[@]}" 1>&"$mpibatch_stdout" {mpibatch_stdout}>&-
"""

# The shell inside tells that the container is there: until then it is the container's failure.
_INSIDE = (
    'command -v "$2" >/dev/null || { echo "$2 is not found in the container" >&2; exit 127; };'
    ' : >"$1"; shift; exec "$@"'
)
_RUN_INSIDE = """\
type -P {command} >/dev/null || {{ echo {command}" is not found on $(uname -n) in PATH=$PATH" >&2; false; }}
trap - ERR
exec {start} --pwd "$PWD" --bind "${{mpibatch_state%/*}}" {image} \\
    sh -c {inside} sh "$mpibatch_state" {python} "${{mpibatch_words[@]}}" \\
    1>&"$mpibatch_stdout" {{mpibatch_stdout}}>&-
"""


def environment_script(environment: Environment, binds: Sequence[str] = ()) -> str:
    """The script; `binds`: absolute folders that a container has to show at their own places."""
    parts = [_WAIT, _HEAD]
    for number, line in enumerate(module_lines(environment.modules)):
        what = f"environment.modules: {environment.modules[number - 1]}" if number else "environment.modules"
        parts.append(_making(what, line))
    for line in conda_lines(environment.conda):
        parts.append(_making(f"environment.conda: {environment.conda}", line))
    if environment.setup:
        parts.append(_making(_SETUP, environment.setup))
    return "".join([*parts, _interpreter(environment, binds)])


def _making(what: str, line: str) -> str:
    return f"mpibatch_making {quoted(what)}\n{line}\n"


def _interpreter(environment: Environment, binds: Sequence[str]) -> str:
    container, python = environment.container, environment.python
    if container is not None:
        *start, image = container_words(container, binds)
        run = _RUN_INSIDE.format(
            command=start[0],
            start=" ".join(start),
            image=image,
            inside=quoted(_INSIDE),
            python=quoted(python or "python3"),
        )
        return _making(f"environment.container: {container.image}", "") + run
    if python is None:
        return _OWN_OR_BROUGHT + _RUN
    return _making(f"environment.python: {python}", "") + _LOOK.format(name=quoted(python)) + _RUN


def being_made(script: str, state: str) -> str:
    """What was being made when it ended, in words for people; empty where the interpreter had begun."""
    what, _, number = state.partition("\n")
    if not what:
        return ""
    lines = script.split("\n")
    if what != _SETUP or not number.strip().isdigit() or not 0 < int(number) <= len(lines):
        return _on_one_line(what)
    # Counted from the line after the one that says what is made.
    first = lines.index(f"mpibatch_making {_SETUP}") + 1
    line = int(number) - first
    return f"{what}, line {line}: {_on_one_line(lines[int(number) - 1].strip())}"


def shown_output(output: str) -> str:
    """The last lines of what was printed, to stand at the end of a message."""
    lines = output.rstrip().splitlines()[-SHOWN_OUTPUT_LINES:]
    return "; it printed:\n" + "\n".join(lines)[-_SHOWN_OUTPUT:] if lines else "; it printed nothing"


def _on_one_line(text: str) -> str:
    """A line as it was written, which may name long paths; without what a terminal would act upon."""
    cut = text if len(text) <= _SHOWN_LINE else f"{text[:_SHOWN_LINE]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
