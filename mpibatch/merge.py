"""`mpibatch merge`: one output of all shares of a job array; and what an element does when it is the last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mpibatch.core.array_keys import ArrayKeys
from mpibatch.errors import EXIT_COMPLETE, EXIT_INTERRUPTED, EXIT_STOPPED, RunFolderError
from mpibatch.monitor.array_status import ShareStatus, read_array
from mpibatch.monitor.figures import counted, one_line, shown
from mpibatch.monitor.summary import summary
from mpibatch.results import JobResult
from mpibatch.runtime.merging import complete_shares, merge_shares, recorded_division
from mpibatch.runtime.run_folder import RunFolder

NAMED = 20
"""Shares that a message names, of those that have not been complete."""


def merge(folder: Path, say: Callable[[str], None]) -> tuple[str, int]:
    """Merge the shares in `folder`, or tell which are not complete: words, and the exit code."""
    whole = RunFolder(folder)
    division = recorded_division(whole)
    array = read_array(folder)
    if array is None:
        raise RunFolderError(f"the array in {folder} has just been removed.")
    lacking = [one for one in array.shares if one.state != "complete"]
    if lacking:
        return _lacking_words(folder, lacking, len(array.shares)), _lacking_code(lacking)
    result = merge_shares(whole, division, say)
    return _merged_words(whole, result), result.exit_code


def merge_if_last(
    whole: RunFolder, keys: ArrayKeys | None, say: Callable[[str], None], asked: Callable[[], None]
) -> tuple[str, int]:
    """After a share was complete: merge if all are, and the job wants it. Words, and the exit code. `asked` raises
    where somebody asks to stop.

    Each element looks after its own result is there. So of two that end at the same moment at least one finds all
    complete; where both do, the second waits for the first, and finds all done, or, if the first was lost, does it.
    """
    division = recorded_division(whole)
    if keys is not None and keys.merge == "manual":
        return f"This share is complete. When all are: mpibatch merge {whole.root}", EXIT_COMPLETE
    complete = len(complete_shares(whole, division))
    if complete < division.count:
        return (
            f"This share is complete, as {complete} of {division.count} are now; the last one to be merges them.",
            EXIT_COMPLETE,
        )
    result = merge_shares(whole, division, say, wait=True, asked=asked)
    words = _merged_words(whole, result)
    return f"The {division.count} shares of the array, merged:\n{words}", result.exit_code


def _merged_words(whole: RunFolder, result: JobResult) -> str:
    going_on = (
        "shares that are complete stay as they are: repair the cause, remove the folders below"
        f" {shown(str(whole.root / 'shares'))} whose failed_items.jsonl is not empty, and start these elements again."
        f" Where only finalize() has failed: mpibatch merge {shown(str(whole.root))}"
    )
    return summary(result, [], continue_command="", going_on=going_on)


def _lacking_words(folder: Path, lacking: list[ShareStatus], shares: int) -> str:
    lines = [f"Of {counted(shares, 'share')} in {folder} these are not complete, so that nothing was merged:"]
    lines += [f"  {one.number}: {_why(one)}" for one in lacking[:NAMED]]
    if len(lacking) > NAMED:
        lines.append(f"  ... and {len(lacking) - NAMED} more (mpibatch status {folder})")
    again = [one.number for one in lacking if one.state != "running"]
    if again:
        names = ",".join(map(str, again[:NAMED])) + (",..." if len(again) > NAMED else "")
        lines.append(f"Start these again (sbatch --array={names}); the last one to be complete merges all.")
    else:
        lines.append("They are running; the last one to be complete merges all.")
    return "\n".join(lines)


def _why(share: ShareStatus) -> str:
    result = share.result
    match share.state:
        case "missing":
            return "missing: its element has never begun"
        case "running":
            return "running"
        case "dead":
            return "unfinished: it was broken off without a result"
        case "ended" | "complete":
            assert result is not None
            reason = f": {one_line(result.reason)}" if result.reason else ""
            return f"{result.verdict.replace('_', ' ')}{reason}"


def _lacking_code(lacking: list[ShareStatus]) -> int:
    """The first that a share has failed with; else 75, as starting again is all that is to do."""
    codes = [one.result.exit_code for one in lacking if one.result is not None]
    failed = [code for code in codes if code not in (EXIT_COMPLETE, EXIT_STOPPED, EXIT_INTERRUPTED)]
    return failed[0] if failed else EXIT_STOPPED
