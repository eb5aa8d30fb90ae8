"""What a step has made: rows, and files that its script has written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from mpibatch.api.datastores import copy_file, files_below
from mpibatch.api.refusals import NotFoundError, refuse
from mpibatch.api.step_jobs import Made
from mpibatch.core.row_keys import RESERVED_NAMES


class StepRunOutput:
    """`run.get_output_data(name)`: `download(folder)` gives `<folder>/<path_on_datastore>/<rows file>`."""

    def __init__(self, made: Made, folder: str, run_id: str, check: Callable[[], None]) -> None:
        """`folder`: the step's run folder. `check` raises where what is in it is not this run's any more."""
        self._made = made
        self._folder = Path(folder)
        self._run_id = run_id
        self._check = check

    @property
    def name(self) -> str:
        return self._made.output

    @property
    def registered_as(self) -> str | None:
        """The dataset's name that it gets in the workspace, once a run of it is waited for that is complete."""
        return self._made.registered_as

    @property
    def path_on_datastore(self) -> str:
        """Below the folder that it is downloaded to."""
        return f"azureml/{self._run_id}/{self.name}"

    @property
    def datastore_name(self) -> NoReturn:
        refuse("datastore_name", "outputs lie in the folder of their step: .folder says where")

    @property
    def folder(self) -> str:
        """Where it lies."""
        if not self._made.is_folder:
            return str(self._folder)
        return self._made.destination or str(self._folder / self.name)

    def get_port_data_reference(self) -> StepRunOutput:
        return self

    def files(self) -> dict[str, str]:
        """Paths below the output, and where each file lies. NotFoundError where there is none."""
        self._check()
        found = dict(self._files())
        if not found:
            raise NotFoundError(
                f"the output {self.name} of step {self._made.step} is empty: there are no files in {self.folder}."
                " As long as the step is not complete there are no rows: wait_for_completion() waits for that"
            )
        return found

    def _files(self) -> Iterator[tuple[str, str]]:
        rows = self._made.rows_file
        if self._made.is_folder:
            if os.path.isdir(self.folder):
                for file in files_below(self.folder):
                    yield os.path.relpath(file, self.folder), file
            return
        if rows is not None and (self._folder / rows).is_file():
            yield rows, str(self._folder / rows)
        # The script may have written beside it: it is told of the run folder as its output_dir.
        for entry in sorted(self._folder.iterdir()) if self._folder.is_dir() else []:
            if entry.name in (*RESERVED_NAMES, rows) or entry.name.startswith("."):
                continue
            for file in [str(entry)] if entry.is_file() else files_below(str(entry)):
                yield os.path.relpath(file, self._folder), file

    def download(
        self,
        local_path: str | os.PathLike[str],
        overwrite: bool | None = None,
        show_progress: bool | None = None,
    ) -> int:
        """Copy all of it; how many files. ExistsError where one is there already, without `overwrite`."""
        target = os.path.join(os.path.abspath(os.path.expanduser(local_path)), self.path_on_datastore)
        found = self.files()
        for name, file in found.items():
            copy_file(file, os.path.join(target, name), overwrite=bool(overwrite))
        return len(found)

    def __repr__(self) -> str:
        return f"StepRunOutput({self.name}, {self.folder})"
