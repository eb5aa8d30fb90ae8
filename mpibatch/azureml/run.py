"""`Run.get_context()`: what scripts log and put aside, without Azure.

Metrics go to `metrics.jsonl` of the run folder, at least once: what an attempt logs that fails later is there too.
Files go to its folder `artifacts`, where one of the same name takes the place of the one before.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, NoReturn, Self

import msgspec

from mpibatch.azureml import artifacts
from mpibatch.azureml.data_paths import DataPaths
from mpibatch.azureml.metrics import METRICS
from mpibatch.azureml.refusal import Workspace, refuse, workspace
from mpibatch.entry import EntryScript

_STARTED = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Experiment(msgspec.Struct, frozen=True):
    """What `run.experiment` is."""

    name: str
    workspace: Workspace
    id: str = ""


class Run:
    """A run, or a part of it that a script has named; `Run.get_context()` gives that of the script."""

    def __init__(self, run_id: str, name: str, parent: Run | None = None) -> None:
        self.id = self._run_id = run_id
        self.name = self.display_name = name
        self.parent = parent
        """The run that this one is a part of; of a job's it only has a name, and what is logged to it."""
        self.number = 1
        self.type = "azureml.StepRun"
        self.description = ""
        self.tags: dict[str, str] = {}
        self.properties: dict[str, str] = {}
        self._children: list[Run] = []
        self._count = itertools.count(1)

    @classmethod
    def get_context(
        cls, allow_offline: bool = True, used_for_context_manager: bool = False, **others: object
    ) -> Run:
        """The run of this processor's job: the same object each time."""
        if EntryScript._surroundings is None and not allow_offline:
            raise RuntimeError("Run.get_context(allow_offline=False): there is no run around this process")
        return _context()

    # What belongs to it

    @property
    def experiment(self) -> Experiment:
        name = _job_name()
        return Experiment(name, workspace(name))

    @property
    def input_datasets(self) -> DataPaths:
        """The job's side inputs by name. What is cut into mini-batches is not here: `run()` is given it."""
        around = EntryScript._surroundings
        return DataPaths(around.side_inputs if around is not None else {}, "side_inputs")

    @property
    def output_datasets(self) -> DataPaths:
        """The job's side outputs by name: folders to write into."""
        around = EntryScript._surroundings
        return DataPaths(around.side_outputs if around is not None else {}, "side_outputs")

    @property
    def status(self) -> str:
        return "Running"

    def get_status(self) -> str:
        return self.status

    def get_details(self) -> dict[str, Any]:
        return {
            "runId": self.id,
            "status": self.status,
            "startTimeUtc": _STARTED,
            "properties": dict(self.properties),
            "tags": dict(self.tags),
        }

    # Metrics

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        METRICS.add(self.id, "value", name, value)

    def log_list(self, name: str, value: Sequence[Any], description: str = "") -> None:
        METRICS.add(self.id, "list", name, list(value))

    def log_row(self, name: str, description: str | None = None, **row: Any) -> None:
        METRICS.add(self.id, "row", name, row)

    def log_table(self, name: str, value: Any, description: str = "") -> None:
        """`value`: lists by the name of their column, or a DataFrame."""
        METRICS.add(self.id, "table", name, value.to_dict("list") if hasattr(value, "to_dict") else value)

    log_confusion_matrix = log_accuracy_table = log_residuals = log_predictions = log_table

    def log_image(self, name: str, path: str | None = None, plot: Any = None, description: str = "") -> None:
        """`path`: an image file; `plot`: a figure of matplotlib, or its module pyplot."""
        if (path is None) == (plot is None):
            raise ValueError(f"log_image({name!r}): give either a path or a plot")
        METRICS.add(self.id, "image", name, artifacts.put_image(name, path, plot))

    def get_metrics(self, name: str | None = None, **others: object) -> dict[str, Any]:
        """What this processor has logged to this run: a value, or a list of those that have one name."""
        found: dict[str, list[Any]] = {}
        for line in METRICS.lines(self.id):
            kind = next((kind for kind in ("value", "list", "row", "table", "image") if kind in line), None)
            if kind is not None and name in (None, line["name"]):
                found.setdefault(line["name"], []).append(line[kind])
        return {name: values[0] if len(values) == 1 else values for name, values in found.items()}

    # Tags and properties: known to this processor; a tag stands among the metrics as well

    def tag(self, key: str, value: Any = None) -> None:
        self.tags[key] = "" if value is None else str(value)
        METRICS.add(self.id, "tag", key, self.tags[key])

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        for key, value in tags.items():
            self.tag(key, value)

    def get_tags(self) -> dict[str, str]:
        return self.tags

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        self.properties |= {key: str(value) for key, value in properties.items()}

    def get_properties(self) -> dict[str, str]:
        return self.properties

    # Files

    def upload_file(
        self, name: str, path_or_stream: str | os.PathLike[str] | IO[bytes], **others: object
    ) -> None:
        """To `artifacts/<name>` of the run folder."""
        artifacts.put(name, path_or_stream)

    def upload_files(self, names: Sequence[str], paths: Sequence[str], **others: object) -> None:
        for name, path in zip(names, paths, strict=True):
            artifacts.put(name, path)

    def upload_folder(self, name: str, path: str, **others: object) -> None:
        """All files in it, to `artifacts/<name>/` of the run folder."""
        artifacts.put_folder(name, path)

    def get_file_names(self) -> list[str]:
        """Of all processors, so far."""
        return artifacts.names()

    def download_file(self, name: str, output_file_path: str | None = None, **others: object) -> None:
        artifacts.fetch(name, output_file_path)

    # Parts

    def child_run(self, name: str | None = None, run_id: str | None = None, outputs: object = None) -> Run:
        around = EntryScript._surroundings
        mine = f"{around.node}.{around.process}." if around is not None else ""
        of_child = name or f"{mine}{os.getpid()}.{next(self._count)}"
        child = Run(run_id or f"{self.id}/{of_child}", of_child, self)
        self._children.append(child)
        return child

    def create_children(
        self, count: int | None = None, tag_key: str | None = None, tag_values: Sequence[Any] | None = None
    ) -> list[Run]:
        if (count is None) == (tag_values is None):
            raise ValueError("create_children(): give either a count or tag_key with tag_values")
        children = [self.child_run() for _ in (range(count) if count is not None else tag_values or [])]
        for child, value in zip(children, tag_values or []):
            child.tag(str(tag_key), value)
        return children

    def get_children(self, recursive: bool = False, **others: object) -> list[Run]:
        """Those that this processor has made, the newest first."""
        found = [
            child for one in self._children for child in (one, *(one.get_children(True) if recursive else []))
        ]
        return found[::-1]

    # Start and end: the processor sees to them

    def start(self) -> None:
        """It has."""

    def complete(self, _set_status: bool = True) -> None:
        """It ends when its processor does."""

    def flush(self, timeout_seconds: float = 300) -> None:
        """All is written when it is logged."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """As `complete` and `fail` in the reference, which do nothing here: the error goes on."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        refuse(f"Run.{name}")

    def __repr__(self) -> str:
        return f"Run(experiment: {_job_name()}, id: {self.id})"


class _OfflineRun(Run):
    """What `Run.get_context()` is outside of a run; its id begins with OfflineRun, as scripts look for."""


_contexts: dict[str | None, Run] = {}


def _context() -> Run:
    around = EntryScript._surroundings
    name = around.run if around is not None else None
    if name not in _contexts:
        if name is None:
            _contexts[name] = _OfflineRun(f"OfflineRun_{os.getpid()}", "OfflineRun")
        else:
            _contexts[name] = Run(name, name, Run(f"{name}-parent", f"{name}-parent"))
    return _contexts[name]


def _job_name() -> str:
    around = EntryScript._surroundings
    return around.run if around is not None else "OfflineRun"
