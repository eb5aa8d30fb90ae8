"""Plans inputs whose items lie within files: tables and archives. What is in them is found by their survey."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import assert_never

import msgspec

from mpibatch.core.config import ArchiveInput, Job, TableInput
from mpibatch.core.path_columns import columns_of_paths
from mpibatch.core.tables import (
    BySize,
    CsvOptions,
    Hdf5Options,
    JsonlOptions,
    MiniBatchSize,
    ParquetOptions,
    TableOptions,
)
from mpibatch.inputs.files import find_files
from mpibatch.inputs.origin import Origin, shown
from mpibatch.inputs.survey import Ask, Surveyed, TableFile
from mpibatch.inputs.walk import Remarks
from mpibatch.runtime import key_planner
from mpibatch.runtime.table_plan import PlannedFile, TablePlanWriter


class Found:
    """The files of one input, as they are now."""

    def __init__(self, one: TableInput | ArchiveInput, origin: Origin, output: str | None) -> None:
        """`output`: the run folder, which is no input. Raises InputError."""
        self.remarks = Remarks()
        self.files: list[TableFile] = []
        self.times: list[int] = []
        for folder, names in find_files(one.files, origin, self.remarks, output):
            for name in names:
                # As Spark and its like leave them: notes about a table beside its files.
                if not (name.startswith(b"_") and isinstance(one, TableInput) and one.kind == "parquet"):
                    self._add(folder + name, origin)

    def _add(self, path: bytes, origin: Origin) -> None:
        try:
            status = os.stat(path)
        except OSError as error:
            raise origin.error(f"{shown(path)} cannot be read: {error.strerror}.") from error
        self.files.append(TableFile(path, status.st_size, path))
        self.times.append(status.st_mtime_ns)

    def planned(self, paths: Sequence[bytes] | None) -> list[PlannedFile]:
        """`paths`: where each is read, if it is not where it was found."""
        return [
            PlannedFile(path=path, name=file.name, size=file.size, mtime_ns=time)
            for path, file, time in zip(
                paths or [file.path for file in self.files], self.files, self.times, strict=True
            )
        ]

    def state(self) -> list[tuple[bytes, int, int]]:
        return [(file.name, file.size, time) for file, time in zip(self.files, self.times, strict=True)]


def find_all(job: Job) -> list[Found]:
    """The files of all inputs. Raises InputError."""
    found = []
    for number, one in enumerate(job.inputs):
        assert isinstance(one, TableInput | ArchiveInput)
        found.append(Found(one, _origin(job, number), job.output))
    return found


def state_of(found: Sequence[Found]) -> str:
    """Digest of which files there are, with their sizes and times: as long as it stays, the plan holds."""
    digest = hashlib.blake2b(digest_size=16)
    for one in found:
        digest.update(msgspec.msgpack.encode(one.state()))
    return digest.hexdigest()


def write_plan(job: Job, path: Path, *, ask: Ask, unpacked: Path) -> None:
    """Survey all inputs and write the plan. Raises InputError, StorageError, and what `ask` raises."""
    found = find_all(job)
    remarks: list[str] = []
    with TablePlanWriter(path) as writer:
        for number, (one, files) in enumerate(zip(job.inputs, found, strict=True)):
            origin = _origin(job, number)
            key = origin.key.partition(": ")[2]
            if isinstance(one, ArchiveInput):
                warnings = _add_archives(writer, one, files, origin, job, ask)
            else:
                assert isinstance(one, TableInput)
                warnings = _add_table(writer, one, files, origin, job, ask, unpacked)
            # Surveys put the job file in front too, as in errors.
            warnings = [text.removeprefix(f"{origin.key}: ") for text in warnings]
            remarks += [f"{key}: {text}" for text in [*files.remarks.texts(), *warnings]]
        size = [msgspec.to_builtins(job.table_size), job.mini_batch_size, job.partition_keys, job.shuffle]
        of_members = all(isinstance(one, ArchiveInput) for one in job.inputs)
        header = {"mini_batch_size": job.mini_batch_size if of_members else 0}
        writer.finish({**header, "remarks": remarks, "state": state_of(found)}, size)


def _origin(job: Job, number: int) -> Origin:
    one = job.inputs[number]
    kind = one.kind if isinstance(one, TableInput) else "files"
    return Origin(f"{os.path.basename(job.job_file)}: inputs.{number}.{kind}", one.text)


def _add_table(
    writer: TablePlanWriter, one: TableInput, found: Found, origin: Origin, job: Job, ask: Ask, unpacked: Path
) -> list[str]:
    """Survey one table and put it into the plan; warnings."""
    unpack_to = _names_in(unpacked, found)
    if job.partition_keys:
        keyed = _survey_keys(one, found, origin, job, ask, unpacked, unpack_to)
        _add_keyed(writer, one, found, job, keyed)
        return keyed.surveyed.warnings
    assert job.table_size is not None
    surveyed = survey_table(one.options, found.files, job.table_size, ask, origin, unpack_to)
    writer.add_table(
        kind=one.kind,
        text=one.text,
        options=_plain(one.options),
        setup=surveyed.setup,
        files=found.planned(surveyed.paths),
        cuts=surveyed.cuts,
        keys=None,
    )
    if any(len(cut.rows) for cut in surveyed.cuts):
        return surveyed.warnings
    count = len(found.files)
    where = "the only file" if count == 1 else f"any of {count:,} files"
    return [*surveyed.warnings, f"there are no rows in {where}"]


def _names_in(unpacked: Path, found: Found) -> Callable[[TableFile], bytes]:
    """Where each file is unpacked to: a name of its own for each state of it, so that an older copy is never taken
    for it."""
    times = {file.path: time for file, time in zip(found.files, found.times, strict=True)}

    def unpack_to(file: TableFile) -> bytes:
        state = (file.name, file.size, times[file.path])
        digest = hashlib.blake2b(msgspec.msgpack.encode(state), digest_size=12).hexdigest()
        unpacked.mkdir(parents=True, exist_ok=True)
        return os.fsencode(unpacked / digest)

    return unpack_to


def _survey_keys(
    one: TableInput,
    found: Found,
    origin: Origin,
    job: Job,
    ask: Ask,
    unpacked: Path,
    unpack_to: Callable[[TableFile], bytes],
) -> key_planner.KeySurvey:
    """First the parts of the files, then which keys they hold."""
    options = key_planner.survey_options(one.options, job.partition_keys)
    size = BySize(key_planner.PART_BYTES)
    return key_planner.survey_keys(
        found.files,
        one.options,
        survey_table(options, found.files, size, ask, origin, unpack_to),
        job.partition_keys,
        ask,
        origin=origin.key,
        shuffle=job.shuffle,
        sorted_to=key_planner.SortedTo(os.fsencode(unpacked / "sorted"), found.times),
    )


def _add_keyed(
    writer: TablePlanWriter, one: TableInput, found: Found, job: Job, keyed: key_planner.KeySurvey
) -> None:
    surveyed = keyed.surveyed
    files = found.planned(surveyed.paths)
    writer.add_keyed_table(
        kind=one.kind,
        text=one.text,
        options=_plain(one.options),
        setup=surveyed.setup,
        files=files,
        cuts=surveyed.cuts,
        copies=[
            msgspec.structs.replace(files[copies.number], path=segment.path)
            for copies in keyed.copies
            for segment, _ in copies.segments
        ],
        names=job.partition_keys,
        batches=keyed.batches,
    )


def survey_table(
    options: TableOptions,
    files: list[TableFile],
    size: MiniBatchSize,
    ask: Ask,
    origin: Origin,
    unpack_to: Callable[[TableFile], bytes] | None,
) -> Surveyed:
    """Where the files are cut. `unpack_to`: where copies go; None: nothing is unpacked. Raises InputError."""
    if columns_of_paths(options):
        from mpibatch.inputs.path_survey import check_free, check_paths
        from mpibatch.inputs.path_values import of_files

        check_paths(files, options, origin.key)
        surveyed = survey_table(of_files(options), files, size, ask, origin, unpack_to)
        check_free(surveyed.setup, options, origin.key)
        return surveyed
    match options:
        case CsvOptions():
            from mpibatch.inputs import csv_survey

            return csv_survey.survey(files, options, size, ask, origin=origin.key, unpack_to=unpack_to)
        case JsonlOptions():
            from mpibatch.inputs import lines_survey

            return lines_survey.survey(files, options, size, ask, origin=origin.key, unpack_to=unpack_to)
        case ParquetOptions():
            from mpibatch.inputs import parquet_survey

            return parquet_survey.survey(files, options, size, ask, origin=origin.key)
        case Hdf5Options():
            from mpibatch.inputs import hdf5_survey

            return hdf5_survey.survey(files, options, size, ask, origin=origin.key)
        case _:
            assert_never(options)


def _plain(options: TableOptions) -> dict[str, object]:
    plain: dict[str, object] = msgspec.to_builtins(options)
    del plain["type"]
    for name in ("path_column", "path_columns"):
        if plain[name] is None:
            del plain[name]  # As in plans of versions that did not know them, which are continued.
    return plain


def _add_archives(
    writer: TablePlanWriter, one: ArchiveInput, found: Found, origin: Origin, job: Job, ask: Ask
) -> list[str]:
    from mpibatch.inputs import archives

    surveyed = archives.survey(found.files, one.members, ask, origin=origin.key)
    writer.add_archives(
        text=one.text,
        options={"as": one.as_},
        files=found.planned(None),
        surveyed=surveyed,
        mini_batch_size=job.mini_batch_size,
    )
    return surveyed.warnings
