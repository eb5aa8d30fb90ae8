"""A pipeline's folder while one start owns it: the lease, how its steps stand, and what is begun anew in it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence

import msgspec

from mpibatch.core.pipeline import Pipeline, Step
from mpibatch.errors import OtherRunError, RunFolderError, StoppedError
from mpibatch.runtime.begin import Reused, begin, is_used, make_folder
from mpibatch.runtime.files import storing
from mpibatch.runtime.lease import Lease
from mpibatch.runtime.pipeline_record import (
    PipelineRecord,
    PipelineResult,
    StepState,
    begin_record,
    is_ours,
    is_stale,
    note_made_from,
    read_pipeline_record,
    refuse_run,
    result_file,
    save_pipeline_record,
    save_pipeline_result,
    versions,
)
from mpibatch.runtime.record import Begun
from mpibatch.runtime.refusals import refuse_foreign
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.surveying.rounds import RunRound

Say = Callable[[str], None]


@contextlib.contextmanager
def owned(pipeline: Pipeline, *, fresh: bool, say: Say) -> Iterator[Home]:
    """Own the pipeline's folder. Raises errors of `errors`; where no step has begun by then, nothing new is left."""
    folder = RunFolder(pipeline.output)
    refuse_foreign(folder)
    refuse_run(folder)
    made = make_folder(folder)
    lease = Lease(folder)
    home = None
    owns = False
    try:
        lease.acquire(say)
        owns = True
        made = [] if is_used(folder) else made
        home = Home(pipeline, folder, lease, fresh=fresh)
        yield home
    except BaseException:
        if made and owns and (home is None or not home.has_begun):
            # While the lease is ours: what another start makes there then is not ours to remove.
            shutil.rmtree(folder.private, ignore_errors=True)
            result_file(folder).unlink(missing_ok=True)
        raise
    finally:
        lease.release()
        for place in made:
            with contextlib.suppress(OSError):  # There is something in it.
                place.rmdir()


class Home:
    """What `owned` gives."""

    def __init__(self, pipeline: Pipeline, folder: RunFolder, lease: Lease, *, fresh: bool) -> None:
        """Begin this start: from here on, what `fresh` asks for is noted, and need not be asked again."""
        self._pipeline = pipeline
        self._lease = lease
        self.folder = folder
        self.has_begun = False
        self.record: PipelineRecord = begin_record(read_pipeline_record(folder), pipeline, fresh=fresh)
        with storing(str(folder.private)):
            folder.stop.unlink(missing_ok=True)
            save_pipeline_record(folder, self.record)
            result_file(folder).unlink(missing_ok=True)  # It is that of an earlier start.

    def set_state(self, name: str, state: StepState) -> None:
        self._save(self.record.with_state(name, state))

    def _save(self, record: PipelineRecord) -> None:
        self._lease.check()
        self.record = record
        save_pipeline_record(self.folder, record)

    def leave(self, result: PipelineResult) -> None:
        """All is over. StorageError where that cannot be written."""
        if result.verdict == "complete":
            self._save(msgspec.structs.replace(self.record, over=True))
        self._lease.check()
        save_pipeline_result(self.folder, result)

    def refuse_stop(self) -> None:
        """Raises StoppedError where somebody has asked the pipeline to stop between two steps."""
        if self.folder.stop.exists():
            raise StoppedError(f"stopped before any of its work was begun (asked to by {self.folder.stop})")

    def begin(
        self, step: Step, *, say: Say, no_return: Callable[[], None], run_round: RunRound | None
    ) -> Begun | Reused:
        """Like `begin.begin`; a run that no longer is what the step would do now is begun anew."""
        needed = [one for one in self._pipeline.steps if one.name in step.needs]
        made_from = versions(needed)
        # That it is to be made anew is decided by the round, and here: see `begin_record`.
        job = msgspec.structs.replace(step.job, allow_reuse=True)
        anew = self._why_anew(step, needed)

        def start(*, fresh: bool) -> Begun | Reused:
            return begin(job, fresh=fresh, say=say, no_return=no_return, run_round=run_round)

        if anew is not None:
            say(f"step {step.name} is begun anew: {anew}")
            begun = start(fresh=True)
        else:
            try:
                begun = start(fresh=False)
            except OtherRunError as error:
                if not is_ours(step, self._pipeline):
                    raise
                say(f"step {step.name} is begun anew, as these have changed: {error.changed}")
                begun = start(fresh=True)
        self.has_begun = True
        if isinstance(begun, Begun):
            self._begun(step, begun, made_from)
        return begun

    def _why_anew(self, step: Step, needed: Sequence[Step]) -> str | None:
        there = RunFolder(step.job.output).run_file.exists()
        why = None
        if step.name in self.record.anew:
            why = "as was asked" if step.job.allow_reuse else "allow_reuse is false"
        elif is_stale(step, needed):
            why = f"what it takes of {' and '.join(step.needs)} is not what it was"
        if why is not None and there and not is_ours(step, self._pipeline):
            raise RunFolderError(
                f"the run in {step.job.output} is that of another job than this step, which is to be begun anew"
                f" ({why}). Give the step another output, or remove that folder."
            )
        return why if there else None

    def _begun(self, step: Step, begun: Begun, made_from: dict[str, str]) -> None:
        try:
            # Before it leaves the list: until then, whatever is in its folder is thrown away by the next start.
            note_made_from(begun.folder, made_from)
            if step.name in self.record.anew:
                left = [name for name in self.record.anew if name != step.name]
                self._save(msgspec.structs.replace(self.record, anew=left))
        except BaseException:
            begun.plan.close()
            begun.lease.release()
            raise
