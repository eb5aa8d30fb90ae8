"""The entry script's syntax tree is looked at before any rank starts work: it must define a usable `run`.

Nothing is imported. What a tree cannot tell (a star import, `exec`, a decorated `run`) is accepted: the
first processor sees it, and says so with the same exit code.
"""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterator

import msgspec

from mpibatch.core.config import Job
from mpibatch.core.settings import nearest, printable
from mpibatch.errors import ScriptError

_NEEDED = "an entry script needs a function run(mini_batch) at its top level"
_DYNAMIC_NAMES = frozenset({"globals", "locals", "vars", "exec"})

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def check_script(job: Job) -> None:
    """Raises `ScriptError` if the entry script is no Python or cannot have a usable `run`."""
    file = script_file(job)
    if file is None:
        return
    tree = _parse(file, other_python=job.python is not None or job.environment.by_shell)
    if tree is not None:
        _check_run(tree, file)
        _check_concurrency(tree, file, job.concurrency)


def may_finalize(job: Job) -> bool:
    """Whether the entry script has a `finalize()`, as far as its tree tells: True where it does not."""
    file = script_file(job)
    try:
        tree = _parse(file, other_python=True) if file is not None else None
    except ScriptError:  # It has been removed since: a processor will say so.
        return True
    if tree is None:
        return True
    names = _names(tree)
    return names.dynamic or "finalize" in names.functions or "finalize" in names.others


def script_file(job: Job) -> str | None:
    """The file of the entry script; None for a module that is not below the source directory."""
    if not job.entry_is_module:
        return job.entry_script
    below = os.path.join(job.source_directory or job.job_dir, *job.entry_script.split("."))
    candidates = (f"{below}.py", os.path.join(below, "__init__.py"))
    return next((file for file in candidates if os.path.isfile(file)), None)


def _parse(file: str, *, other_python: bool) -> ast.Module | None:
    """The syntax tree; None where this interpreter cannot tell."""
    try:
        with open(file, "rb") as opened:
            source = opened.read()
    except OSError as error:
        raise ScriptError(f"entry script {printable(file)} cannot be read: {error.strerror}") from None
    try:
        with warnings.catch_warnings():
            # Python shows them when the script is imported; here they would be shown for no one's good.
            warnings.simplefilter("ignore")
            tree = ast.parse(source, filename=file)
            # Sees what the parser does not, such as `return` outside of a function.
            compile(tree, file, "exec", dont_inherit=True)
    except (RecursionError, MemoryError):
        return None
    except (SyntaxError, ValueError) as error:
        # Another interpreter may have another syntax.
        if other_python:
            return None
        raise ScriptError(_syntax_words(error, file)) from None
    return tree


def _syntax_words(error: SyntaxError | ValueError, file: str) -> str:
    if not isinstance(error, SyntaxError):
        return f"entry script {printable(file)} is no Python: {error}"
    place = f"{printable(file)}:{error.lineno}" if error.lineno else printable(file)
    words = f"{place}: the entry script has a syntax error: {error.msg}"
    if not error.text:
        return words
    line = error.text.rstrip()
    excerpt = line.lstrip()
    column = (error.offset or 1) - 1 - (len(line) - len(excerpt))
    pointer = f"\n    {' ' * column}^" if 0 <= column <= len(excerpt) else ""
    return f"{words}\n    {excerpt}{pointer}"


class _Names(msgspec.Struct):
    """What the module level of a script binds."""

    functions: dict[str, list[_Function]]
    others: set[str]
    """Names bound by anything else than `def`."""
    dynamic: bool
    """Names may be bound in ways that the tree does not tell."""
    methods: dict[str, str]
    """Method name -> class that has it."""


def _check_run(tree: ast.Module, file: str) -> None:
    names = _names(tree)
    definitions = names.functions.get("run", [])
    if names.dynamic or "run" in names.others:
        return
    if not definitions:
        raise ScriptError(_no_run_words(names, file))
    wrong = [_wrong_definition(definition) for definition in definitions]
    # Where one of several is usable, that one may be the one that counts.
    if all(wrong):
        raise ScriptError(f"{printable(file)}:{definitions[-1].lineno}: {wrong[-1]}; {_NEEDED}")


def _check_concurrency(tree: ast.Module, file: str, concurrency: int) -> None:
    """Several mini-batches run in one processor only where `run` lets go of it while it waits."""
    names = _names(tree)
    definitions = names.functions.get("run", [])
    plain = [one for one in definitions if isinstance(one, ast.FunctionDef) and not one.decorator_list]
    if concurrency == 1 or names.dynamic or "run" in names.others or len(plain) < len(definitions):
        return
    raise ScriptError(
        f"{printable(file)}:{plain[-1].lineno}: run is no async def, so that no {concurrency} mini-batches can run in"
        " one processor at a time (concurrency in the job file): make it an async def, which awaits what it waits"
        " for; or leave concurrency out and raise process_count_per_node"
    )


def _no_run_words(names: _Names, file: str) -> str:
    words = f"entry script {printable(file)} has no run: {_NEEDED}"
    near = nearest("run", names.functions) or next(
        (name for name in names.functions if "run" in name.lower().split("_")), None
    )
    if names.functions:
        words += f"; its functions are {', '.join(names.functions)}"
    if near:
        line = names.functions[near][-1].lineno
        words += f"; was {near} in line {line} meant? Then rename it to run"
    elif "run" in names.methods:
        words += f"; the run of class {names.methods['run']} is a method, no function of the module"
    return words


def _wrong_definition(definition: _Function) -> str | None:
    """Why `run` cannot be called as `run(mini_batch)` or `run(mini_batch, context)`; None if it can."""
    if definition.decorator_list:
        return None
    arguments = definition.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = [argument.arg for argument in positional[: len(positional) - len(arguments.defaults)]]
    if not positional and arguments.vararg is None:
        return "run takes no positional parameter, so that it cannot be given its mini-batch"
    if len(required) > 2:
        listed = ", ".join(required)
        return f"run requires {len(required)} parameters ({listed}); it is given mini_batch and context"
    keyword_only = [
        argument.arg
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults)
        if default is None
    ]
    if keyword_only:
        return f"run requires the keyword {', '.join(keyword_only)}, which it is not given"
    return None


def _names(tree: ast.Module) -> _Names:
    names = _Names(functions={}, others=set(), dynamic=_is_dynamic(tree), methods={})
    for node in _module_level(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names.functions.setdefault(node.name, []).append(node)
            case ast.ClassDef():
                names.others.add(node.name)
                inner = [one.name for one in node.body if isinstance(one, _Function)]
                names.methods.update(dict.fromkeys(inner, node.name))
            case ast.Name(ctx=ast.Store()):
                names.others.add(node.id)
            case ast.alias():
                names.others.add(node.asname or node.name.partition(".")[0])
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.others.add(name)
            case ast.MatchMapping(rest=str(name)):
                names.others.add(name)
    # A module's own __getattr__ may give anything.
    names.dynamic = names.dynamic or "__getattr__" in names.functions
    # `global run` in a function such as init(): it is bound when that is called.
    names.others.update(
        name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names
    )
    return names


def _module_level(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes that are executed when the module is imported, function and class bodies left out."""
    waiting: list[ast.AST] = list(reversed(tree.body))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def _is_dynamic(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) if name in _DYNAMIC_NAMES:
                return True
            # sys.modules[__name__]
            case ast.Attribute(attr="modules") | ast.alias(name="*"):
                return True
    return False
