"""An MLTable's `read_delimited`, `read_parquet` and `read_json_lines` become options of our table inputs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mpibatch.core.mltable_columns import convert
from mpibatch.core.settings import Wrong, did_you_mean, flag, shown
from mpibatch.core.table_values import character, plain_text

_HEADERS = {
    "all_files_same_headers": "all",
    "from_first_file": "first",
    "no_header": "none",
    "all_files_different_headers": "each",
}
_ENCODINGS = {
    **dict.fromkeys(("utf8", "utf-8"), "utf-8"),
    **dict.fromkeys(("utf8 bom", "utf8bom"), "utf-8-sig"),
    **dict.fromkeys(("iso88591", "iso-8859-1", "latin1", "latin-1"), "latin-1"),
    "ascii": "ascii",
    **dict.fromkeys(("utf16", "utf-16"), "utf-16"),
    **dict.fromkeys(("utf32", "utf-32"), "utf-32"),
    **dict.fromkeys(("windows1252", "windows-1252"), "cp1252"),
}
_UTF8 = ("utf8", "utf-8", "ascii", "utf8bom", "utf8 bom")
_PATH_COLUMN = ("include_path_column", "path_column")


class Read(NamedTuple):
    """Options of our input, and what of the transformation means nothing here."""

    options: dict[str, Any]
    left_out: list[str]


def _options(name: str, value: Any, legal: tuple[str, ...]) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Wrong(f"{name}: must be a mapping of options; legal are {', '.join(legal)}")
    for option in value:
        if option not in legal:
            near = did_you_mean(option, legal)
            raise Wrong(f"{name}: there is no option {shown(option)}{near}; legal are {', '.join(legal)}")
    return value


def _path_column(name: str, given: Mapping[Any, Any]) -> dict[str, Any]:
    """A column with each row's file."""
    # What the public package writes has path_column beside include_path_column: false, where it says nothing.
    include = given.get("include_path_column", False)
    try:
        column = plain_text(given.get("path_column", "Path"))
        return {"path_column": column} if flag(include) else {}
    except Wrong as wrong:
        raise Wrong(f"{name}: include_path_column is {shown(include)}: {wrong}") from None


def _delimited(value: Any) -> Read:
    legal = ("delimiter", "header", "encoding", "support_multi_line", "empty_as_string", "infer_column_types",
             *_PATH_COLUMN, "partition_size")  # fmt: skip
    given = _options("read_delimited", value, legal)
    options = _path_column("read_delimited", given)
    delimiter = given.get("delimiter", ",")
    # In single quotes it is two characters, which is a tab there.
    separator = _in("delimiter", "\t" if delimiter == "\\t" else delimiter, character)
    if separator != ",":
        options["sep"] = separator
    header = _one_of("header", given.get("header", "all_files_same_headers"), _HEADERS)
    if header != "all":
        options["header"] = header
    encoding = _one_of("encoding", given.get("encoding", "utf8"), _ENCODINGS)
    if encoding != "utf-8":
        options["encoding"] = encoding
    if not _in("support_multi_line", given.get("support_multi_line", False), flag):
        options["multiline"] = False
    if _in("empty_as_string", given.get("empty_as_string", False), flag):
        options["keep_default_na"] = False
    return Read(*_inferred(options, given))


def _inferred(options: dict[str, Any], given: Mapping[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    left_out = [option for option in ("partition_size",) if option in given]
    infer = given.get("infer_column_types", True)
    if infer is False:
        return options | {"dtype": "str"}, left_out
    if infer is True:
        return options, left_out
    if not isinstance(infer, Mapping):
        raise Wrong("read_delimited: infer_column_types must be true, false or a mapping")
    for option in infer:
        if option not in ("sample_size", "column_type_overrides"):
            raise Wrong(f"read_delimited: infer_column_types has no option {shown(option)}")
    left_out += ["infer_column_types.sample_size"] if "sample_size" in infer else []
    overrides = infer.get("column_type_overrides")
    return (convert("csv", options, overrides) if overrides else options), left_out


def _parquet(value: Any) -> Read:
    return Read(_path_column("read_parquet", _options("read_parquet", value, _PATH_COLUMN)), [])


def _json_lines(value: Any) -> Read:
    given = _options("read_json_lines", value, ("invalid_lines", "encoding", *_PATH_COLUMN, "partition_size"))
    encoding = given.get("encoding", "utf8")
    if encoding not in _UTF8:
        raise Wrong(
            f"read_json_lines: encoding {shown(encoding)}: JSON lines are UTF-8 here: convert the files"
        )
    invalid = given.get("invalid_lines", "error")
    if invalid not in ("error", "drop"):
        raise Wrong(f"read_json_lines: invalid_lines is {shown(invalid)}: must be error or drop")
    left_out = ["partition_size"] if "partition_size" in given else []
    if "invalid_lines" in given:
        left_out.append("invalid_lines (a line that is no JSON is one failed item)")
    return Read(_path_column("read_json_lines", given), left_out)


def _one_of(option: str, value: Any, legal: Mapping[str, str]) -> str:
    if isinstance(value, str) and value.lower() in legal:
        return legal[value.lower()]
    near = did_you_mean(value, legal)
    raise Wrong(f"read_delimited: {option} is {shown(value)}: must be one of {', '.join(legal)}{near}")


def _in(option: str, value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        return check(value)
    except Wrong as wrong:
        raise Wrong(f"read_delimited: {option} is {shown(value)}: {wrong}") from None


READS: dict[str, Callable[[Any], Read]] = {
    "read_delimited": _delimited,
    "read_parquet": _parquet,
    "read_json_lines": _json_lines,
}
KIND_OF = {"read_delimited": "csv", "read_parquet": "parquet", "read_json_lines": "jsonl"}
"""The kind of our input."""
