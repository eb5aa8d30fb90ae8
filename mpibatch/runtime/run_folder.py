"""Where everything of a run lies (DESIGN section 5)."""

from __future__ import annotations

import re
from pathlib import Path

_JOURNAL = re.compile(r"session-(\d+)\.journal")


class RunFolder:
    """Names only; nothing is made or read but the list of sessions."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.private = self.root / ".mpibatch"
        self.run_file = self.private / "run.json"
        self.lease = self.private / "lease.json"
        self.lock = self.private / "lock"
        self.stop = self.private / "stop"
        self.progress = self.private / "progress.json"
        self.lost = self.private / "lost"
        """A folder a session, in which guardians tell of workers that have died."""
        self.finalize = self.private / "finalize"
        """A folder a session, in which the rows lie while `finalize()` of the script has them."""
        self.survey = self.private / "survey"
        """What a survey of the inputs asks and finds, until the plan is made."""
        self.unpacked = self.private / "unpacked"
        """Copies of compressed inputs that are cut, until the run is complete."""
        self.copies_removed = self.private / "unpacked.removed"
        """There were such copies, and the plan still names them."""
        self.only_failed = self.private / "only_failed"
        """There while what failed in a complete run is tried again: so long it is not complete."""
        self.models = self.private / "models"
        """Links to the job's models: AZUREML_MODEL_DIR."""
        self.own_metrics = self.private / "metrics"
        """What each processor's script has logged by `Run.log` and the like: a file a processor."""
        self.metrics = self.root / "metrics.jsonl"
        """All of it, in the order of time: made at the end of a session."""
        self.result = self.root / "job_result.json"
        self.failed_items = self.root / "failed_items.jsonl"
        self.logs = self.root / "logs"

    def journal(self, session: int) -> Path:
        return self.private / f"session-{session:04d}.journal"

    def rows(self, session: int) -> Path:
        """The row segment of a session: fragments, and error reports of failed attempts."""
        return self.private / f"session-{session:04d}.rows"

    def partial_output(self, session: int) -> Path:
        """The output file of a session while it grows. A file of its own, as an earlier session may not be dead."""
        return self.private / f"output-{session:04d}.partial"

    def about(self, session: int) -> Path:
        """What a session wrote of itself when it began."""
        return self.private / f"session-{session:04d}.json"

    def sessions(self) -> list[int]:
        """The numbers of all sessions so far, in order."""
        if not self.private.is_dir():
            return []
        found = (_JOURNAL.fullmatch(entry.name) for entry in self.private.iterdir())
        return sorted(int(match[1]) for match in found if match)
