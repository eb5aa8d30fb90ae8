"""`RunDetails(run).show()`: how a run stands, as text that is kept up to date, in a notebook as well.

Source: Microsoft's public reference of azureml.widgets.RunDetails.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from mpibatch.api.run_state import OVER
from mpibatch.api.runs import PipelineRun
from mpibatch.api.step_runs import StepRun

_LOOK_S = 0.5


class RunDetails:
    """Of a pipeline's run, or of one step's."""

    def __init__(self, run_instance: PipelineRun | StepRun) -> None:
        self._run = run_instance.parent if isinstance(run_instance, StepRun) else run_instance

    def show(self, render_lib: Any = None, widget_settings: Any = None, *, wait: bool = True) -> None:
        """Until the run has ended; with `wait=False`, how it stands now. Ctrl-C stops the looking, not the run."""
        display = _in_notebook() or _as_lines()
        try:
            while wait and self._run.get_status() not in OVER:
                display(self._run.progress_text())
                time.sleep(_LOOK_S)
        except KeyboardInterrupt:
            return
        display(self._run.progress_text())

    def get_widget_data(self, widget_settings: Any = None) -> dict[str, Any]:
        return self._run.get_details()


def _in_notebook() -> Callable[[str], None] | None:
    """Shows each text in the place of the last; None where this is no notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    show_it: Callable[..., Any] = display
    handle = show_it({"text/plain": ""}, raw=True, display_id=True)

    def show(text: str) -> None:
        handle.update({"text/plain": text}, raw=True)

    return show


def _as_lines() -> Callable[[str], None]:
    """Prints what differs from the last text."""
    said: set[str] = set()

    def show(text: str) -> None:
        for line in text.splitlines():
            if line not in said:
                print(line, flush=True)
        said.clear()
        said.update(text.splitlines())

    return show
