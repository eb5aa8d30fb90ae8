"""YAML text of job files and of `--set` becomes values, with errors that name line and column.

Stricter than YAML where YAML is silent (a key that stands twice), and truer to what is written where
YAML reads something else: dates stay text, and so does whatever stands in `arguments` and
`environment_variables` (`1e-3`, `0.10`, `12:30`, `yes`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mpibatch.core.pipeline import STEPS
from mpibatch.core.sets import is_verbatim, takes_list, takes_mapping, takes_text
from mpibatch.core.settings import printable
from mpibatch.errors import ConfigError

if TYPE_CHECKING:
    import yaml

_STR = "tag:yaml.org,2002:str"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_READ_BY_YAML = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "timestamp"))
_TEXT_DEPTH = 4


def read_job_text(text: str, file: str) -> Any:
    """The value that the text of the job file `file` (its name, for messages) describes; None if empty."""
    return _read(text, file, "")


def read_set(option: str) -> tuple[str, Any]:
    """Key and value of one `--set key=value`. Raises `ConfigError`, which names the option."""
    key, equals, raw = option.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"--set {printable(option)}: must be key=value, like --set mini_batch_size=1")
    if takes_text(key):
        return key, _read_text(key, raw)
    return key, _read(raw, f"--set {printable(option)}", key)


def _read_text(key: str, raw: str) -> Any:
    """The value of a key that takes text: as it was typed, but for YAML's quotes, `null`, lists and mappings."""
    if raw in ("", "null") and not is_verbatim(key):
        return None
    import yaml

    try:
        node = _compose(raw)
    except (yaml.YAMLError, ValueError, RecursionError):
        return raw
    if isinstance(node, yaml.ScalarNode) and node.style in ("'", '"'):
        return node.value
    if isinstance(node, yaml.SequenceNode) and takes_list(key) and raw.lstrip().startswith("["):
        return _read(raw, f"--set {key}", key)
    if isinstance(node, yaml.MappingNode) and takes_mapping(key) and raw.lstrip().startswith("{"):
        return _read(raw, f"--set {key}", key)
    return raw


def _read(text: str, where: str, key: str) -> Any:
    """`key`: the dotted key that the text is the value of; empty for a whole file."""
    import yaml

    try:
        root = _compose(text)
        if root is None:
            return None
        _check_keys(root, where)
        return _construct(_with_verbatim(root, key))
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_marked_words(error, text, where)) from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(_reader_words(error, text, where)) from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        # PyYAML lets them out: a number of 5,000 digits, half a surrogate pair, `!!bool x`, `!!timestamp x`.
        words = printable(str(error))
        raise ConfigError(f"{where}: YAML that cannot be read: {type(error).__name__}: {words}") from None


def _loader(text: str) -> Any:
    """libyaml's loader where PyYAML has it: ten times as fast."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)


def _compose(text: str) -> yaml.Node | None:
    loader = _loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    finally:
        loader.dispose()


def _construct(node: yaml.Node) -> Any:
    loader = _loader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_keys(root: yaml.Node, where: str) -> None:
    """Raises if a key stands twice in one mapping, of which YAML silently takes the last."""
    import yaml

    for path, mapping in _mappings(root):
        lines: dict[tuple[str, str], int] = {}
        for key, _ in mapping.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line, same = key.start_mark.line + 1, (key.tag, key.value)
            if same in lines:
                name = printable(".".join([*path, key.value]))
                raise ConfigError(f"{where}: key {name} stands twice, in line {lines[same]} and line {line}")
            lines[same] = line


def _mappings(root: yaml.Node) -> Iterator[tuple[list[str], yaml.MappingNode]]:
    """Each mapping once, with the dotted key that it stands at; dates on the way become text."""
    import yaml

    seen: set[int] = set()
    waiting: list[tuple[list[str], yaml.Node]] = [([], root)]
    while waiting:
        path, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.tag == _TIMESTAMP:
            node.tag = _STR
        if isinstance(node, yaml.SequenceNode):
            waiting += [([*path, str(i)], child) for i, child in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            yield path, node
            waiting += [([*path, _key_name(key)], child) for key, child in node.value]
            waiting += [(path, key) for key, _ in node.value]


def _key_name(key: yaml.Node) -> str:
    import yaml

    return str(key.value) if isinstance(key, yaml.ScalarNode) else "?"


def _with_verbatim(root: yaml.Node, key: str) -> yaml.Node:
    import yaml

    if key:
        return _as_text(root, _TEXT_DEPTH) if is_verbatim(key) else root
    return _with_verbatim_keys(root) if isinstance(root, yaml.MappingNode) else root


def _with_verbatim_keys(mapping: yaml.MappingNode) -> yaml.MappingNode:
    """A copy; so it is for the steps of a pipeline, each of which has the keys of a job file."""
    import yaml

    def read(name: str, value: yaml.Node) -> yaml.Node:
        if name == STEPS and isinstance(value, yaml.MappingNode):
            steps = [
                (step, _with_verbatim_keys(keys) if isinstance(keys, yaml.MappingNode) else keys)
                for step, keys in value.value
            ]
            return yaml.MappingNode(value.tag, steps, value.start_mark, value.end_mark)
        return _as_text(value, _TEXT_DEPTH) if is_verbatim(name) else value

    pairs = [(name, read(_key_name(name), value)) for name, value in mapping.value]
    return yaml.MappingNode(mapping.tag, pairs, mapping.start_mark, mapping.end_mark)


def _as_text(node: yaml.Node, depth: int) -> yaml.Node:
    """A copy (an anchor may share the node with other keys) whose numbers, yes and no are text."""
    import yaml

    marks = node.start_mark, node.end_mark
    if isinstance(node, yaml.ScalarNode) and node.tag in _READ_BY_YAML:
        return yaml.ScalarNode(_STR, node.value, *marks)
    if isinstance(node, yaml.SequenceNode) and depth:
        return yaml.SequenceNode(node.tag, [_as_text(child, depth - 1) for child in node.value], *marks)
    if isinstance(node, yaml.MappingNode) and depth:
        pairs = [(key, _as_text(child, depth - 1)) for key, child in node.value]
        return yaml.MappingNode(node.tag, pairs, *marks)
    return node


def _marked_words(error: yaml.MarkedYAMLError, text: str, where: str) -> str:
    mark = error.problem_mark or error.context_mark
    what = ", ".join(part for part in (error.context, error.problem) if part)
    if mark is None:
        return f"{where}: not YAML: {what}"
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    # Of a long line the part around the mark.
    start = max(0, mark.column - 60)
    excerpt = "".join(c if c.isprintable() else " " for c in line[start : start + 100])
    pointer = " " * (mark.column - start) + "^"
    place = f"line {mark.line + 1}, column {mark.column + 1}"
    return f"{where}: not YAML: {place}: {what}{_hint(line, mark.column, what)}\n  {excerpt}\n  {pointer}"


def _hint(line: str, column: int, what: str) -> str:
    at = line[column : column + 1]
    if "\t" in (at, line[:1]):
        return "; indent with spaces, not with tabs"
    before = line[:column].rstrip()[-1:]
    if "*" in (at, before) and "alias" in what:
        return '; text that begins with * needs quotes: "*.png"'
    if line[column - 1 : column + 1] == "${":
        return '; text with ${...} in it needs quotes inside of [ ]: ["${job_dir}/x"]'
    if re.search(r":\s+\{[^{}]*\}[^\s,}]", line):
        return "; text that begins with { needs quotes"
    if at and at in "@`%{[&!|>,]}":
        return f"; text that begins with {at} needs quotes"
    return '; text with ": " in it needs quotes' if "mapping values are not allowed" in what else ""


def _reader_words(error: yaml.reader.ReaderError, text: str, where: str) -> str:
    import yaml

    found = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if found is None:
        return f"{where}: not YAML: {error.reason}"
    line = text.count("\n", 0, found.start()) + 1
    column = found.start() - text.rfind("\n", 0, found.start())
    return (
        f"{where}: not YAML: line {line}, column {column}: the character {found[0]!a} is not allowed in YAML"
    )
