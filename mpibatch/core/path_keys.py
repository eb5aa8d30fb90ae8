"""What `path_column` and `path_columns` of a table input may be called beside its other options. Pure."""

from __future__ import annotations

from mpibatch.core.path_columns import columns_of_paths, names_in
from mpibatch.core.settings import Problems, shown
from mpibatch.core.tables import CsvOptions, Hdf5Options, JsonlOptions, TableOptions


def check_path_columns(problems: Problems, key: str, options: TableOptions) -> None:
    """Add what is wrong. `key`: the element of inputs that has the options."""
    _check_own_names(problems, key, options)
    if not isinstance(options, Hdf5Options):
        _check_columns(problems, key, options.columns, columns_of_paths(options))
    if isinstance(options, CsvOptions | JsonlOptions):
        _check_dates(problems, key, options)


def _check_own_names(problems: Problems, key: str, options: TableOptions) -> None:
    """Each has a name of its own."""
    of_files: list[str] = []
    if isinstance(options, Hdf5Options):
        of_files = options.datasets or []
    elif isinstance(options, CsvOptions):
        of_files = options.names or []
    for name in columns_of_paths(options):
        if name in of_files:
            where = "path_column" if name == options.path_column else "path_columns"
            why = "is a column of the files as well: give it another name here"
            problems.add(f"{key}.{where}", f"has {shown(name)}, which {why}")
    if options.path_column in names_in(options.path_columns):
        why = "which path_columns has as well: give it another name"
        problems.add(f"{key}.path_column", f"is {shown(options.path_column)}, {why}")


def _check_columns(
    problems: Problems, key: str, columns: list[str] | None, of_paths: tuple[str, ...]
) -> None:
    if columns is not None and set(columns) <= set(of_paths):
        why = "these all come from the files' paths: name one of the files' own as well"
        problems.add(f"{key}.columns", f"is {shown(columns)}: {why}")


def _check_dates(problems: Problems, key: str, options: CsvOptions | JsonlOptions) -> None:
    for name in options.parse_dates:
        if name in columns_of_paths(options):
            why = "a time in a path is written with its form there, like {day:yyyy-MM-dd}"
            problems.add(
                f"{key}.parse_dates", f"names {shown(name)}, which comes from the files' paths: {why}"
            )
