"""`mpibatch submit` without a Slurm: where things lie, what its words are about, how ends become an exit code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import support
from support import make_job

from mpibatch.slurm.following import PATIENCE, End, Following, exit_code
from mpibatch.slurm.queue import Seen
from mpibatch.slurm.refusals import refusal, waits_for_ever
from mpibatch.slurm.submit import Beside, Submitted, for_a_new_job

SCRIPT = "def run(mini_batch):\n    return mini_batch\n"
SOURCES = {
    "--partition": "slurm.partition",
    "--account": "slurm.account (from the site profile /x/mpibatch.site.yaml)",
    "--qos": "slurm.qos",
    "--time": "slurm.time",
    "--nodes": "node_count",
    "--array": "array",
}
TEXT = """#!/bin/bash
#SBATCH --partition=long
#SBATCH --account=physics
#SBATCH --qos=high
#SBATCH --time=5-00
#SBATCH --nodes=9
#SBATCH --array=0-9
"""


@pytest.mark.parametrize(
    ("said", "keys"),
    [
        ("invalid partition specified: long", ["slurm.partition: long"]),
        (
            "Batch job submission failed: Invalid account or account/partition combination specified",
            ["slurm.account (from the site profile /x/mpibatch.site.yaml): physics", "slurm.partition: long"],
        ),
        ("Batch job submission failed: Invalid qos specification", ["slurm.qos: high"]),
        ("Requested time limit is invalid (missing or exceeds some limit)", ["slurm.time: 5-00"]),
        ("Node count specification invalid", ["node_count: 9", "slurm.partition: long"]),
        ("Invalid --time specification", ["slurm.time: 5-00"]),
        ("Batch job submission failed: Invalid job array specification", ["array: 0-9"]),
        (
            "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
            [
                "slurm.qos: high",
                "slurm.account (from the site profile /x/mpibatch.site.yaml): physics",
                "slurm.partition: long",
                "slurm.time: 5-00",
                "node_count: 9",
            ],
        ),
        ("something that no version has said yet", []),
    ],
)
def test_what_slurm_says_is_about_a_key(said: str, keys: list[str]) -> None:
    told = refusal(f"sbatch: error: {said}", TEXT, SOURCES, {})

    assert f"  sbatch: error: {said}" in told.splitlines()
    assert [
        line.strip() for line in told.splitlines() if line.strip().startswith(("slurm.", "node", "array"))
    ] == keys


def test_the_hint_of_sbatch_itself_is_no_option() -> None:
    told = refusal(
        "sbatch: unrecognized option '--oh'\nTry \"sbatch --help\" for more",
        TEXT,
        {"--oh": "slurm.extra"},
        {},
    )

    assert told.endswith("\n  slurm.extra")


def test_reasons_that_pass_are_not_told() -> None:
    assert waits_for_ever("Priority", TEXT, SOURCES) is None
    told = waits_for_ever("PartitionTimeLimit", TEXT, SOURCES)
    assert told is not None
    assert "slurm.time: 5-00" in told


def test_no_sbatch(tmp_path: Path) -> None:
    tmp_path /= "a-folder-with-a-name-that-is-so-long-that-messages-would-cut-it-in-its-middle" * 2
    tmp_path.mkdir()
    job = make_job(tmp_path, SCRIPT)

    ended = support.mpibatch("submit", job, env={**os.environ, "PATH": str(tmp_path)})

    assert ended.returncode == 2, support.words(ended)
    assert "there is no sbatch on this machine" in ended.stderr
    assert str(tmp_path / ".output.slurm" / "batch.sh") in ended.stderr
    assert not (tmp_path / "output").exists()


def test_a_dry_run_prints_the_script_and_nothing_else(tmp_path: Path) -> None:
    make_job(tmp_path, SCRIPT, slurm={"time": 5})
    before = sorted(tmp_path.iterdir())

    ended = support.mpibatch(
        "submit", "job.yaml", "--dry-run", "--set", "name=other-one", "--fresh",
        cwd=tmp_path, env=support.from_anywhere(),
    )  # fmt: skip

    assert ended.returncode == 0, support.words(ended)
    assert ended.stdout.startswith("#!/bin/bash\n")
    assert "#SBATCH --job-name=other-one\n" in ended.stdout
    assert "command=(mpibatch run job.yaml --set name=other-one)\n" in ended.stdout
    assert "\nfirst_words=(--fresh)\n" in ended.stdout
    assert str(tmp_path) not in ended.stdout, "it is the same on any machine"
    assert ended.stderr == ""
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("words", [["--fresh", "--only-failed"], ["--dry-run", "--wait"]])
def test_words_that_contradict_each_other(tmp_path: Path, words: list[str]) -> None:
    assert support.mpibatch("submit", make_job(tmp_path, SCRIPT), *words).returncode == 2


def test_where_things_lie() -> None:
    beside = Beside("/runs/50% done")

    assert str(beside.script) == "/runs/.50% done.slurm/batch.sh"
    assert beside.log_pattern(array=False) == "/runs/.50%% done.slurm/%j.log"
    assert beside.log_pattern(array=True) == "/runs/.50%% done.slurm/%A_%a.log"
    assert str(beside.log("41_3")) == "/runs/.50% done.slurm/41_3.log"


@pytest.mark.parametrize("command", ["status", "stop"])
@pytest.mark.parametrize(("elements", "log"), [(None, "41.log"), (3, "41_0.log")])
def test_a_job_that_has_not_begun_is_named(
    tmp_path: Path, command: str, elements: int | None, log: str
) -> None:
    beside = Beside(str(tmp_path / "one"))
    beside.folder.mkdir()
    beside.keep(Submitted(job="41", elements=elements))

    ended = support.mpibatch(command, str(tmp_path / "one"))

    assert ended.returncode == 2
    assert "Slurm job 41 was submitted for it: squeue --jobs=41" in ended.stderr
    assert str(beside.folder / log) in ended.stderr
    assert "no run at" in support.mpibatch(command, str(tmp_path / "two")).stderr


def test_what_a_job_inherits() -> None:
    mine = {"PATH": "/bin", "SLURM_CONF": "/c", "SLURM_MPI_TYPE": "pmix", "MPIBATCH_END_FILE": "/e"}

    assert for_a_new_job(mine) == {"PATH": "/bin", "SLURM_CONF": "/c", "SLURM_MPI_TYPE": "pmix"}
    assert for_a_new_job({**mine, "SLURM_JOB_ID": "1"}) == {"PATH": "/bin", "SLURM_CONF": "/c"}


def test_a_job_does_not_inherit_what_a_launcher_has_told_the_shell() -> None:
    """As within `srun --mpi=pmix --pty bash`: MPICH refuses to begin where it finds PMI_SIZE and PMIX_NAMESPACE."""
    settings = dict.fromkeys(
        ("PMI_NO_FORK", "PMIX_MCA_gds", "OMPI_MCA_btl", "OMPI_ALLOW_RUN_AS_ROOT", "I_MPI_FABRICS"), "mine"
    )
    told = dict.fromkeys(
        (
            "PMI_FD",
            "PMI_RANK",
            "PMI_SIZE",
            "PMIX_NAMESPACE",
            "PMIX_RANK",
            "OMPI_COMM_WORLD_SIZE",
            "PALS_RANKID",
        ),
        "0",
    )

    assert for_a_new_job({**settings, **told}) == settings


class Queue:
    """Answers that are given one after the other; the last one again and again."""

    def __init__(self, *answers: list[Seen] | None) -> None:
        self.answers = list(answers)
        self.asked: list[list[str]] = []

    def __call__(self, jobs: Sequence[str]) -> list[Seen] | None:
        self.asked.append(list(jobs))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def seen(job: str, state: str, *, code: int = 0, starts: int = 0) -> Seen:
    return Seen(job, state, code << 8, starts, "None")


def follow(
    queue: Queue, folder: Path, elements: int | None = None, patience: int = PATIENCE
) -> tuple[Following, list[str]]:
    said: list[str] = []
    submitted = Submitted(job="41", elements=elements)
    following = Following(
        submitted, queue=queue, log=lambda job: folder / f"{job}.log", say=said.append, patience=patience
    )
    return following, said


def test_a_job_is_followed_over_requeues(tmp_path: Path) -> None:
    queue = Queue(
        [seen("41", "PENDING")],
        [seen("41", "RUNNING")],
        None,
        None,
        [seen("41", "PENDING", starts=1)],
        [seen("41", "FAILED", code=3, starts=1)],
    )
    following, said = follow(queue, tmp_path)

    assert [following.look() for _ in range(6)] == [False] * 5 + [True]
    assert following.ends == [End("41", 3, "exit code 3")]
    assert said == [
        "job 41 is pending",
        "job 41 is running",
        "Slurm does not answer (squeue): still waiting",
        "job 41 was put back into the queue (once by now)",
        "job 41 is pending",
    ]


def test_a_successor_is_followed(tmp_path: Path) -> None:
    (tmp_path / "41.log").write_text("rows\nSubmitted batch job 57\n")
    (tmp_path / "57.log").write_text("complete\n")
    queue = Queue([seen("41", "FAILED", code=75)], [seen("57", "COMPLETED")])
    following, said = follow(queue, tmp_path)

    assert (following.look(), following.look()) == (False, True)
    assert queue.asked == [["41"], ["57"]]
    assert following.ends == [End("57", 0, "exit code 0")]
    assert said == ["job 41 is followed by job 57"]


def test_a_job_that_has_failed_has_no_successor(tmp_path: Path) -> None:
    (tmp_path / "41.log").write_text("Submitted batch job 57\n")
    following, _ = follow(Queue([seen("41", "FAILED", code=3)]), tmp_path)

    assert following.look()
    assert following.ends == [End("41", 3, "exit code 3")]


def test_elements_are_followed_each_for_itself(tmp_path: Path) -> None:
    (tmp_path / "41_1.log").write_text("Submitted batch job 57\n")
    queue = Queue(
        [seen("41_0", "COMPLETED"), seen("41_1", "FAILED", code=75)],
        [seen("57_1", "RUNNING")],
        [seen("57_1", "COMPLETED")],
    )
    following, _ = follow(queue, tmp_path, elements=2)

    assert following.look() is False
    assert following.waiting == ["57"]
    assert (following.look(), following.look()) == (False, True)
    assert following.ends == [End("41_0", 0, "exit code 0", "0"), End("57_1", 0, "exit code 0", "1")]


def test_whether_all_is_over_is_seen_at_once(tmp_path: Path) -> None:
    """What Slurm has forgotten has ended, and a successor may have as well."""
    (tmp_path / "41_1.log").write_text("Submitted batch job 57\n")
    ended = [seen("41_1", "FAILED", code=75), seen("41_2", "COMPLETED")]

    def over(*answers: list[Seen] | None) -> bool:
        following, _ = follow(Queue(*answers), tmp_path, elements=3, patience=1)
        return following.over()

    assert over(ended, [seen("57_1", "COMPLETED")])
    assert over(ended, [])
    assert not over(ended, [seen("57_1", "PENDING")])
    assert not over([*ended, seen("41_0", "RUNNING")], [seen("41_0", "RUNNING")])
    assert not over(None)


def test_what_slurm_has_forgotten_ends(tmp_path: Path) -> None:
    following, _ = follow(Queue([]), tmp_path)

    assert [following.look() for _ in range(PATIENCE)] == [False] * (PATIENCE - 1) + [True]
    assert following.ends[0].code is None


@pytest.mark.parametrize(
    ("codes", "left", "code"),
    [
        ([0], None, 0),
        ([75], None, 75),
        ([0, 75, 3, 0], None, 3),
        ([None], 0, 0),
        ([None], 3, 3),
        ([None], None, 75),
        ([0, None], None, 75),
    ],
)
def test_the_exit_code(codes: list[int | None], left: int | None, code: int) -> None:
    assert exit_code([End("41", one, "") for one in codes], lambda end: left) == code


def test_the_exit_code_of_a_batch_script() -> None:
    assert seen("41", "COMPLETED").exit_code == 0
    assert seen("41", "FAILED", code=74).exit_code == 74
    assert Seen("41", "FAILED", 9, 0, "").exit_code is None, "killed"
    assert seen("41", "CANCELLED", code=75).exit_code is None
    assert not seen("41", "COMPLETING").ended
