"""One parallel job of an Azure ML file: what its translation begins with. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from mpibatch.core.mltable import Table


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One parallel job of a file, its component merged into it."""

    prefix: str
    """Of its keys in messages: nothing, or `jobs.score.`"""
    keys: Mapping[Any, Any]
    legal: tuple[str, ...]
    declared_inputs: Mapping[Any, Any] = {}
    """A component's, which the job's inputs bind."""
    declared_outputs: Mapping[Any, Any] = {}
    code_folder: str = ""
    """The folder of the file that has `task`, relative to that of the YAML file."""
    parent_outputs: Mapping[Any, Any] | None = None
    """The pipeline's; None where there is none."""


class MltableReader(Protocol):
    """Reads the MLTable file of a folder (relative to the YAML file's); raises ConfigError."""

    def __call__(self, folder: str, key: str, partition_keys: list[str]) -> Table: ...
