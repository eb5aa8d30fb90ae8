"""Files of Azure ML, read: a job or pipeline of its v2 YAML, the components it names, and MLTable files.

What they mean is decided in `core.azure_job`, `core.azure_pipeline` and `core.mltable`. A file of our own passes
through.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import msgspec

from mpibatch.core import mltable
from mpibatch.core.azure_inputs import Scope
from mpibatch.core.azure_job import job_mapping, outputs_of
from mpibatch.core.azure_keys import JOB_KEYS, Form, Notes, form_of
from mpibatch.core.azure_part import Part
from mpibatch.core.azure_paths import below, file_of, folder_of
from mpibatch.core.azure_pipeline import Readers, pipeline_mapping
from mpibatch.core.azure_sets import apply_azure_sets, for_all_steps, split_sets, unknown_inputs
from mpibatch.core.job_name import made_legal
from mpibatch.core.settings import Problems, printable, shown
from mpibatch.errors import ConfigError
from mpibatch.runtime.first_columns import first_columns
from mpibatch.runtime.job_yaml import read_job_text


class Given(msgspec.Struct, frozen=True):
    """A job or pipeline as our own files describe it."""

    mapping: Mapping[Any, Any]
    pairs: list[tuple[str, Any]]
    """What `--set` has yet to change in it."""
    remarks: list[str] = []
    """Sentences about what means nothing here."""
    form: Form | None = None
    """What kind of Azure ML's files it was; None: it was our own."""


def translated(job_file: str, mapping: Mapping[Any, Any], pairs: Sequence[tuple[str, Any]]) -> Given:
    """What `mapping`, of the file `job_file` (absolute), is with `--set`'s (key, value) `pairs`, in our own words.

    Paths in it are relative to the folder of `job_file`. Raises `ConfigError`.
    """
    name = printable(os.path.basename(job_file))
    form = form_of(mapping, name)
    if form is None:
        return Given(mapping, list(pairs))
    theirs, own = split_sets(pairs, form)
    given = apply_azure_sets(mapping, theirs)
    notes = Notes(Problems(name, [key for key, _ in theirs]))
    notes.problems.lines += unknown_inputs(mapping, given, theirs)
    notes.problems.stop()
    files = _Files(os.path.dirname(job_file), name)
    match form:
        case "job":
            part = Part(prefix="", keys=given, legal=JOB_KEYS)
            made = job_mapping(notes, part, outputs_of(notes, part), Scope(), files.mltable)
        case "pipeline":
            made = pipeline_mapping(notes, given, Readers(component=files.component, mltable=files.mltable))
        case _:
            assert_never(form)
    notes.problems.stop()
    made = {**_named(made, name), **made}
    if form == "pipeline":
        own = for_all_steps(own, made["steps"])
    return Given(made, own, notes.remark(), form)


def _named(made: Mapping[str, Any], file: str) -> dict[str, str]:
    """Azure ML's files have any names: where none of a run can be made of one, it is made longer."""
    stem = file.rpartition(".")[0] or file
    if made.get("name") is not None or made_legal(stem):
        return {}
    return {"name": made_legal(f"azure-{stem}") or "azure"}


class _Files:
    """What a file names, relative to its folder."""

    def __init__(self, folder: str, name: str) -> None:
        self._folder = folder
        self._name = name

    def component(self, path: str, key: str) -> Mapping[Any, Any]:
        return _mapping(self._absolute(path), f"{self._name}: {key}", "a component's file")

    def mltable(self, folder: str, key: str, partition_keys: list[str]) -> mltable.Table:
        if file_of(folder) == mltable.NAME and os.path.isfile(self._absolute(folder)):
            folder = folder_of(folder)
        file = below(folder, mltable.NAME)
        if os.path.isdir(self._absolute(folder)) and not os.path.exists(self._absolute(file)):
            raise ConfigError(
                f"{self._name}: {key} is of type mltable, and there is no file {mltable.NAME} in {printable(folder)}:"
                f" write one, or say --set {key}.type=uri_folder, if the folder's files are the items"
            )
        mapping = _mapping(self._absolute(file), f"{self._name}: {key}", "an MLTable file")
        return mltable.read_mltable(printable(file), mapping, folder, partition_keys, self._columns)

    def _columns(self, kind: str, options: Mapping[str, Any], files: Sequence[str]) -> list[str] | None:
        return first_columns(kind, options, [self._absolute(file) for file in files])

    def _absolute(self, path: str) -> str:
        return os.path.join(self._folder, os.path.expanduser(path))


def _mapping(file: str, where: str, what: str) -> Mapping[Any, Any]:
    """`where`: what names the file."""
    try:
        with open(file, encoding="utf-8-sig") as opened:
            value = read_job_text(opened.read(), printable(file))
    except OSError as error:
        raise ConfigError(
            f"{where} names {printable(file)}, which cannot be read: {error.strerror}"
        ) from None
    except ValueError:
        raise ConfigError(f"{where} names {printable(file)}, which is not UTF-8") from None
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} names {printable(file)}, which holds {shown(value)}: {what} is a mapping")
    return value
