"""`mpibatch convert`: a YAML file of Azure ML as a job or pipeline file of our own, in text."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from mpibatch.core.job_name import made_legal
from mpibatch.core.sets import apply_sets
from mpibatch.core.settings import printable
from mpibatch.errors import ConfigError
from mpibatch.runtime.azure_files import translated
from mpibatch.runtime.jobfile import read_mapping
from mpibatch.runtime.pipeline_file import read_pairs, with_sets

_WIDTH = 100


def converted(path: str | os.PathLike[str], *, sets: Sequence[str] = ()) -> str:
    """The text of a file that is to stand in the same folder. Raises `ConfigError`."""
    import yaml

    file = os.path.abspath(os.path.expanduser(os.fspath(path)))
    name = printable(os.path.basename(file))
    given = translated(file, read_mapping(file), read_pairs(sets))
    if given.form is None:
        raise ConfigError(f"{name}: is a file of mpibatch's own already: there is nothing to convert")
    if given.form == "pipeline":
        kind, changed = "pipeline", with_sets(given.mapping, given.pairs)
    else:
        kind, changed = "job", apply_sets(given.mapping, given.pairs)
    made = {**_named(changed, os.path.basename(file)), **changed}
    lines = [f"The {kind} of {name}. Paths are relative to the folder of this file: put it beside that one."]
    text = yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=_WIDTH)
    wrapped = [part for line in [*lines, *given.remarks] for part in textwrap.wrap(line, _WIDTH)]
    return "".join(f"# {line}\n" for line in wrapped) + text


def _named(mapping: Mapping[Any, Any], file: str) -> dict[str, Any]:
    """The name that the file gives the run, so that another file's name changes nothing."""
    made = made_legal(file.rpartition(".")[0] or file)
    return {"name": made} if mapping.get("name") is None and made else {}
