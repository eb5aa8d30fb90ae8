"""slurm.script: the batch script's text, what it starts, and what it does when that ends.

Slurm's commands are small stand-ins here, which note how they were called: that the real ones do with it what is
wanted is shown in tests/slurm. What a real Slurm seldom does can be had from these at will.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import reference_scripts
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import from_anywhere, mpibatch, wait_until, words

from mpibatch.core.config import Job, parse_job
from mpibatch.core.first_words import ONLY_AT_FIRST
from mpibatch.slurm.script import batch_script, program, seen_from

ENTRY: dict[str, Any] = {"entry_script": "a.py", "inputs": [{"files": "x"}]}

SRUN = r"""
if [[ "$*" == *watch_first_node* ]]; then
    printf '%s\0' "$@" >"$STUB/watch.new"
    mv "$STUB/watch.new" "$STUB/watch"
    while [ $# -gt 0 ] && [ "$1" != bash ]; do shift; done
    exec "$@"
fi
if [[ " $* " == *" --mpi=none "* ]]; then
    printf '%s\0' "$@" >"$STUB/asked"
    if [[ "$*" == *remove_shared_memory* ]]; then exec "${@: -3}"; fi
    for node in ${NODES-n1 n2}; do echo "$node"; done
    exit
fi
number=$(find "$STUB" -name 'srun.*' | wc -l)
printf '%s\0' "$@" >"$STUB/srun.$number"
IFS='|' read -r waits tells exits < <(tail -n "+$((number + 1))" "$STUB/plan")
if [ -n "$waits" ]; then until [ -e "$waits" ]; do sleep 0.02; done; fi
if [ -n "$tells" ]; then echo "$tells" >"$MPIBATCH_END_FILE"; fi
exit "$exits"
"""
NOTED = r"""printf '%s\0' "$@" >"$STUB/$(basename "$0")"; echo "${MPIBATCH_SUCCESSIONS:-}" >"$STUB/successions"; """
STAND_INS = {
    "srun": SRUN,
    "scontrol": 'if [ "$1" = show ]; then printf "n%s\\n" ${3//[!0-9]/ }; exit; fi; '
    + NOTED
    + "exit ${REFUSES:-0}",
    "scancel": NOTED,
    "sbatch": NOTED,
    "squeue": 'case "$*" in *%B*) cat "$STUB/job" ;; *%T*) echo "${STATE-RUNNING}" ;; esac',
    "sinfo": "printf 'n1 mix\\nn2 drng\\nn3 down\\nn4 mix*\\nn1 mix\\n'",
    "sleep": 'case $1 in 5) exit ;; 30) echo >>"$STUB/looks"; exec /bin/sleep 0.05 ;; esac; exec /bin/sleep "$1"',
}


def job_of(**keys: Any) -> Job:
    return parse_job(ENTRY | keys, job_file="/j/job.yaml")


class Batch:
    """A script that is executed in a folder of its own, among the stand-ins."""

    def __init__(self, folder: Path, plan: list[str], *, job: Job | None = None, **options: Any) -> None:
        """`plan`: of each launch, "file to wait for|what rank 0 tells|exit code of srun"."""
        self.folder, self.stub = folder, folder / "stub"
        self.run_folder = folder / "out"
        self.stub.mkdir(parents=True)
        for name, text in STAND_INS.items():
            file = self.stub / name
            file.write_text(f"#!/bin/bash\n{text}\n")
            file.chmod(0o755)
        (self.stub / "job").write_text("RUNNING n1 n[1,3]\n")
        (self.stub / "plan").write_text("".join(f"{line}\n" for line in plan))
        options = {"command": ["mpibatch", "run", "job.yaml"], "run_folder": "out"} | options
        script = batch_script(job or job_of(), **options)
        (folder / "job.sh").write_text(script.text, errors="surrogateescape")

    def start(self, **variables: str) -> subprocess.Popen[bytes]:
        usual = {"SLURM_JOB_ID": "77", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "n[1-3]"}
        usual["SLURMD_NODENAME"] = "n1"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        path = f"{self.stub}:{os.environ['PATH']}"
        with (self.folder / "said").open("w") as said:
            return subprocess.Popen(
                ["bash", "job.sh"],
                cwd=self.folder,
                env=kept | usual | {"PATH": path, "STUB": str(self.stub)} | variables,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        """Wait: its exit code and all that it said."""
        try:
            code = process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert not list(self.folder.glob(".mpibatch-*")), "the end file is left behind"
        return code, self.said

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def run(self, **variables: str) -> tuple[int, str]:
        return self.end(self.start(**variables))

    def launches(self) -> list[list[str]]:
        return [self.called(file.name) for file in sorted(self.stub.glob("srun.*"))]

    def called(self, name: str) -> list[str]:
        """The arguments of a command's last call; empty if it was not called."""
        file = self.stub / name
        return os.fsdecode(file.read_bytes()).split("\0")[:-1] if file.exists() else []


FIXED = ["--no-kill", "--kill-on-bad-exit=0"]


# The reference scripts


@pytest.mark.parametrize("job_file", reference_scripts.job_files(), ids=lambda path: str(path.stem))
def test_reference_scripts_are_what_is_made_of_the_job_files(
    job_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    script = job_file.with_suffix(".sh")
    assert script.read_text() == reference_scripts.expected(job_file), "python tests/reference_scripts.py"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert max(map(len, script.read_text().splitlines())) <= 120


def test_the_command_prints_the_reference_script(tmp_path: Path) -> None:
    said = mpibatch(
        "submit", "array.yaml", "--dry-run",
        cwd=reference_scripts.FOLDER,
        env={**from_anywhere(), "XDG_CONFIG_HOME": str(tmp_path)},
    )  # fmt: skip
    assert said.returncode == 0, words(said)
    assert said.stdout == (reference_scripts.FOLDER / "array.sh").read_text()


# What it asks of Slurm


def test_keys_become_options_and_are_told_of() -> None:
    keys = {
        "partition": "long",
        "gpus_per_task": "a100:1",
        "cpus_per_task": "4",
        "extra": {"mail_type": "END"},
    }
    job = job_of(
        slurm=keys,
        node_count=3,
        process_count_per_node=2,
        drain_margin=90.5,
        array={"elements": 10, "at_once": 4},
    )
    script = batch_script(job, command=["mpibatch"], run_folder="o", work_dir="/a b")
    asked = [line.removeprefix("#SBATCH ") for line in script.text.splitlines() if line.startswith("#SBATCH")]
    assert asked == [
        *("--job-name=job", "--partition=long", "--nodes=3", "--ntasks-per-node=2", "--cpus-per-task=4"),
        *("--gpus-per-task=a100:1", "--array=0-9%4", "--signal=B:USR2@91", "--no-kill", "--requeue"),
        *("--open-mode=append", "--output=%x-%A_%a.log", '--chdir="/a b"', "--mail-type=END"),
    ]
    assert script.sources["--nodes"] == "node_count"
    assert script.sources["--signal"] == "drain_margin"
    assert script.sources["--mail-type"] == "slurm.extra"
    assert set(script.sources) == {option.partition("=")[0] for option in asked}


def test_a_key_of_the_site_is_told_with_its_file() -> None:
    job = job_of(slurm={"partition": "long", "mem": "1G", "signal": "USR1@7"})
    job = msgspec.structs.replace(job, site="/etc/site.yaml", site_keys=["slurm.mem"])
    script = batch_script(job, command=["mpibatch"], run_folder="o")
    assert script.sources["--mem"] == "slurm.mem (from the site profile /etc/site.yaml)"
    assert script.sources["--partition"] == "slurm.partition"
    assert "--signal=B:USR1@7\n" in script.text and "trap 'got USR1' USR1" in script.text


@pytest.mark.parametrize(
    ("slurm", "words"),
    [
        ({}, ["/env/bin/python", "-m", "mpibatch"]),
        ({"modules": ["gcc"]}, ["mpibatch"]),
        ({"setup": "a"}, ["mpibatch"]),
        ({"container": "x.sif"}, ["mpibatch"]),
    ],
)
def test_which_mpibatch_is_called(slurm: dict[str, Any], words: list[str]) -> None:
    assert program(job_of(slurm=slurm), "/env/bin/python") == words
    assert program(job_of(slurm=slurm), None) == ["mpibatch"]


def test_paths_below_where_one_stands_are_relative() -> None:
    assert seen_from("/a/b", "/a/b/c d") == "c d"
    assert seen_from("/a/b", "/a/c") == "/a/c"
    assert seen_from("/a/b", "/a/b/..c") == "..c"


# What it starts

ANYTHING = st.text(
    st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda word: word not in ONLY_AT_FIRST)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(ANYTHING, min_size=1, max_size=4), folder=ANYTHING, image=ANYTHING)
@example(
    words=["a\n#SBATCH --x", "$(touch bad)", "`touch bad`", "\\", "'\"'", "*"], folder="$HOME", image="~"
)
@example(words=["x"], folder="-\x80", image="x")
def test_srun_gets_the_very_words(
    words: list[str], folder: str, image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    job = job_of(slurm={"cpus_per_task": "2", "mpi": "pmix"})
    image = "i/x" + image.replace("/", "") if image.isprintable() else "x.sif"
    of_image = msgspec.structs.replace(job.slurm, container=parse_container(image))
    job = msgspec.structs.replace(job, slurm=of_image)
    batch = Batch(
        tmp_path_factory.mktemp("fuzz"),
        ["|0|0"],
        job=job,
        work_dir="/j",
        command=["mpibatch", *words],
        run_folder=folder,
    )
    assert batch.run() == (0, "")
    in_container = ["apptainer", "exec", image, "mpibatch", *words]
    assert batch.launches() == [[*FIXED, "--mpi=pmix", "--cpus-per-task=2", *in_container]]
    assert not (batch.folder / "bad").exists()


def parse_container(image: str) -> Any:
    return job_of(slurm={"container": {"image": image}}).slurm.container


@pytest.mark.parametrize(
    ("image", "folder", "word"),
    [
        ("x.sif", "/j", "x.sif"),
        ("x.sif", "/", "j/x.sif"),
        ("x.sif", "/elsewhere", "/j/x.sif"),
        ("/images/x.sif", "/j", "/images/x.sif"),
        ("docker://python", "/elsewhere", "docker://python"),
    ],
)
def test_an_image_is_where_the_job_file_says(image: str, folder: str, word: str) -> None:
    job = job_of(slurm={"container": image})
    text = batch_script(job, command=["mpibatch"], run_folder="o", folder=folder).text
    assert f"apptainer exec {word} mpibatch" in text


def test_gpus_are_given_to_the_container() -> None:
    job = job_of(slurm={"container": "x.sif", "gpus_per_node": "1"})
    assert (
        "apptainer exec --nv x.sif mpibatch"
        in batch_script(job, command=["mpibatch"], run_folder="o", folder="/j").text
    )


def test_lines_of_the_site_make_what_the_ranks_inherit(tmp_path: Path) -> None:
    job = job_of(
        slurm={"setup": 'export ANSWER="4 2"\nif true; then\n  touch "$ANSWER"\nfi\ntrue && false || true'}
    )
    assert Batch(tmp_path, ["|0|0"], job=job).run() == (0, "")
    assert (tmp_path / "4 2").exists()


def test_a_line_of_the_site_that_fails_ends_the_job(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["|0|0"], job=job_of(slurm={"setup": "true\nls /no/such/file\ntouch after"}))
    code, said = batch.run()
    assert code == 4 and "failed: ls /no/such/file" in said and "No such file" in said
    assert not batch.launches() and not (tmp_path / "after").exists()


# What it does when that ends


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 74, 130])
def test_the_exit_code_is_that_of_rank_0(code: int, tmp_path: Path) -> None:
    batch = Batch(tmp_path, [f"|{code}|143"])
    assert batch.run() == (code, "")
    assert len(batch.launches()) == 1


def test_what_never_began_ends_with_the_code_of_srun(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["||9"])
    assert batch.run() == (9, "")


def test_a_person_who_has_stopped_it_is_obeyed(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["|75 other|75"])
    assert batch.run() == (75, "")
    assert not batch.called("scontrol") and not batch.called("sbatch")


def test_the_wall_time_puts_it_back_into_the_queue(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["|75 batch|75"])
    code, said = batch.run(SLURM_RESTART_COUNT="19")
    assert code == 75 and "put back into the queue" in said
    assert batch.called("scontrol") == ["requeue", "77"] and not batch.called("sbatch")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SLURM_RESTART_COUNT": "20"}, "slurm.max_requeues"),
        ({"MPIBATCH_SUCCESSIONS": "20"}, "slurm.max_requeues"),
        ({"STATE": "COMPLETING"}, "this job is COMPLETING"),
        ({"STATE": ""}, "this job is gone"),
    ],
)
def test_when_it_is_not_put_back(variables: dict[str, str], words: str, tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["|75 batch|75"])
    code, said = batch.run(**variables)
    assert code == 75 and words in said
    assert not batch.called("scontrol") and not batch.called("sbatch")


@pytest.mark.parametrize(("before", "comes_back"), [("1", True), ("2", False)])
def test_starts_in_a_row_that_finish_nothing_come_to_an_end(
    before: str, comes_back: bool, tmp_path: Path
) -> None:
    batch = Batch(tmp_path, ["|75 batch|75"], job=job_of(max_restarts=2))
    (batch.run_folder / ".mpibatch").mkdir(parents=True)
    (batch.run_folder / ".mpibatch" / "in_vain").write_text(f"{before}\n")

    code, said = batch.run(SLURM_RESTART_COUNT="4")

    assert code == 75 and ("3 starts in a row have finished nothing" in said) == (not comes_back)
    assert bool(batch.called("scontrol")) == comes_back
    assert (batch.run_folder / ".mpibatch" / "in_vain").read_text() == f"{int(before) + 1}\n"


def test_a_start_that_finishes_something_or_is_a_persons_begins_the_count_anew(tmp_path: Path) -> None:
    for name, variables, grows in [("a", {"SLURM_RESTART_COUNT": "4"}, True), ("b", {}, False)]:
        batch = Batch(tmp_path / name, ["|75 batch|75"], job=job_of(max_restarts=2))
        (batch.run_folder / ".mpibatch").mkdir(parents=True)
        (batch.run_folder / ".mpibatch" / "in_vain").write_text("2\n")
        if grows:
            file = batch.run_folder / ".mpibatch" / "session-0001.journal"
            srun = batch.stub / "srun"
            srun.write_text(
                srun.read_text().replace("#!/bin/bash", f"#!/bin/bash\nprintf %0100d 0 >>'{file}'", 1)
            )

        assert batch.run(**variables)[0] == 75

        assert batch.called("scontrol") == ["requeue", "77"]
        assert (batch.run_folder / ".mpibatch" / "in_vain").read_text() == ("0\n" if grows else "1\n")


def test_where_requeue_is_refused_a_successor_is_submitted(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["|75 batch|75"])
    code, said = batch.run(REFUSES="1", MPIBATCH_SUCCESSIONS="2")
    assert code == 75 and "a successor" in said
    assert batch.called("sbatch") == ["--dependency=afterany:77", "job.sh"]
    assert (batch.stub / "successions").read_text() == "3\n"


def test_an_element_of_an_array_comes_back_alone(tmp_path: Path) -> None:
    variables = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3", "REFUSES": "1"}
    batch = Batch(tmp_path, ["|75 batch|75"], job=job_of(array=10))
    code, _ = batch.run(**variables)
    assert code == 75
    assert batch.called("scontrol") == ["requeue", "70_3"]
    assert batch.called("sbatch") == ["--dependency=afterany:70_3", "--array=3", "job.sh"]


def test_elements_that_run_the_whole_job_each_share_nothing(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["|75 batch|75"], job=job_of(array=False))
    assert "--array" not in batch_script(job_of(array=False), command=["mpibatch"], run_folder="o").sources
    batch.run(SLURM_ARRAY_JOB_ID="70", SLURM_ARRAY_TASK_ID="3")
    assert batch.called("scontrol") == ["requeue", "70_3"]
    assert "shares" not in (tmp_path / "job.sh").read_text()


def test_lost_ranks_are_launched_again_on_the_nodes_that_answer(tmp_path: Path) -> None:
    job = job_of(process_count_per_node=2)
    plan = ["|session|137", "|75 lost|1", "|0|0"]
    batch = Batch(tmp_path, plan, job=job, command=["mpibatch", "--fresh"])
    code, said = batch.run()
    nodes = ["--overlap", "--nodelist=n1,n2", "--nodes=2", "--ntasks=4", "--ntasks-per-node=2"]
    assert code == 0 and said.count("launching again on n1 n2") == 2
    assert "--nodelist=n1,n2" in batch.called("asked"), "a node that is down is not asked"
    # What would throw away what is finished is said at the first start only.
    assert batch.launches() == [
        [*FIXED, "mpibatch", "--fresh"],
        [*FIXED, *nodes, "mpibatch"],
        [*FIXED, *nodes, "mpibatch"],
    ]


def test_a_launch_lost_before_the_run_was_prepared_is_made_anew_in_full(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["|begun|137", "|0|0"], command=["mpibatch", "--fresh"])
    assert batch.run()[0] == 0
    assert [launch[-1] for launch in batch.launches()] == ["--fresh", "--fresh"]


def test_a_node_lost_before_anything_began(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["||1", "|0|0"])
    assert batch.run(SLURM_JOB_NUM_NODES="3")[0] == 0
    assert "--nodelist=n1,n2" in batch.launches()[1]


def test_a_later_start_leaves_out_what_is_for_the_first(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["|0|0"], command=["mpibatch", "--only-failed"])
    assert batch.run(SLURM_RESTART_COUNT="1") == (0, "")
    assert batch.launches() == [[*FIXED, "mpibatch"]]


def test_launches_that_finish_nothing_come_to_an_end(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["|session|9"] * 9, job=job_of(max_restarts=2))
    code, said = batch.run()
    assert code == 75 and "what kills them has to be found first" in said
    assert len(batch.launches()) == 3


def test_launches_that_finish_something_do_not_count(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["|session|9"] * 5 + ["|0|0"], job=job_of(max_restarts=1))
    grow = 'mkdir -p out/.mpibatch; printf %0100d 0 >>"out/.mpibatch/session-0001.journal"'
    srun = batch.stub / "srun"
    every_second = f"if [ $((number % 2)) = 1 ]; then {grow}; fi\n"
    srun.write_text(
        srun.read_text().replace(
            'printf \'%s\\0\' "$@" >"$STUB/srun.', every_second + 'printf \'%s\\0\' "$@" >"$STUB/srun.', 1
        )
    )
    assert batch.run()[0] == 0
    assert len(batch.launches()) == 6


def test_no_node_that_answers_is_the_end(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["|session|9"])
    code, said = batch.run(NODES="")
    assert code == 75 and "0 nodes answer" in said


def no_longer_than(batch: Batch, *, seconds: int, later: int | None = None) -> None:
    """Edit the script as a person would: that is how long it takes rank 0 to begin; `later`: in later launches."""
    file = batch.folder / "job.sh"
    text = file.read_text()
    assert text.count("begin_limit=600\n") == 1
    text = text.replace("begin_limit=600\n", f"begin_limit={seconds} launched=0\n")
    if later is not None:
        assert text.count("SECONDS + begin_limit") == 1
        text = text.replace("SECONDS + begin_limit", f"SECONDS + (launched++ ? {later} : begin_limit)")
    file.write_text(text)


def test_a_launch_that_does_not_begin_is_ended_and_made_again(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["never|0|0", "|0|0"], command=["mpibatch", "--fresh"])
    no_longer_than(batch, seconds=1, later=600)
    code, said = batch.run()
    assert code == 0 and "rank 0 has not begun within 1 s" in said and "TERM to srun" in said
    assert [launch[-1] for launch in batch.launches()] == ["--fresh", "--fresh"]


def test_launches_that_never_begin_come_to_an_end(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["never|0|0"] * 3, job=job_of(max_restarts=1))
    no_longer_than(batch, seconds=1)
    code, said = batch.run()
    assert code == 75 and "what kills them has to be found first" in said
    assert len(batch.launches()) == 2


def test_a_run_that_has_begun_may_take_as_long_as_it_wants(tmp_path: Path) -> None:
    """Until it has drained, as after a signal the script looks once a second."""
    batch = Batch(tmp_path, ["go|75 other|75"])
    srun = batch.stub / "srun"
    before = 'printf \'%s\\0\' "$@" >"$STUB/srun.'
    assert srun.read_text().count(before) == 1
    srun.write_text(srun.read_text().replace(before, 'echo begun >"$MPIBATCH_END_FILE"\n' + before))
    no_longer_than(batch, seconds=2)
    process = batch.start()
    reach_launch(batch)
    signalled = time.monotonic()
    process.send_signal(signal.SIGUSR2)
    wait_until(lambda: time.monotonic() > signalled + 4, "the script has looked after that")
    (tmp_path / "go").touch()
    code, said = batch.end(process)
    assert code == 75 and "has not begun" not in said
    assert batch.called("scontrol") == ["requeue", "77"]


def test_a_job_that_comes_back_removes_the_shared_memory_of_its_own_lost_ranks(tmp_path: Path) -> None:
    """Names as MPICH makes them: by a hash of job and step."""
    job = random.randrange(10**8, 10**9)
    hashes = {step: fnv_1a(f"{job}.{step}") for step in (0, 7, 42, 999)}
    ours = [Path(f"/dev/shm/mpich_{kind}_{one:x}_1") for one in hashes.values() for kind in ("shm", "vci")]
    other = Path(f"/dev/shm/mpich_shm_{fnv_1a(f'{job + 1}.0'):x}_0")
    for file in (*ours, other):
        file.touch()
    try:
        batch = Batch(tmp_path, ["|0|0"])
        assert batch.run(SLURM_JOB_ID=str(job)) == (0, "")
        assert all(file.exists() for file in ours), "there is nothing to remove at the first start"
        batch = Batch(tmp_path / "again", ["|0|0"])
        assert batch.run(SLURM_JOB_ID=str(job), SLURM_RESTART_COUNT="1") == (0, "")
        assert "--ntasks=2" in batch.called("asked"), "on each node"
        assert not any(file.exists() for file in ours)
        assert other.exists()
    finally:
        for file in (*ours, other):
            file.unlink(missing_ok=True)


def fnv_1a(text: str) -> int:
    number = 0x811C9DC5
    for byte in text.encode():
        number = (number ^ byte) * 0x01000193 % 2**32
    return number


# The watcher on the last node


def watched(batch: Batch, **variables: str) -> subprocess.Popen[bytes]:
    """The script, at a launch that waits for the file `go`, while its watcher has looked twice."""
    process = batch.start(**variables)
    wait_until(lambda: bool(batch.launches()), "srun is started")
    looks_again(batch)
    return process


def looks_again(batch: Batch) -> None:
    looks = batch.stub / "looks"
    before = looks.stat().st_size if looks.exists() else 0
    wait_until(lambda: looks.exists() and looks.stat().st_size >= before + 2, "the watcher has looked")


def ends(batch: Batch, process: subprocess.Popen[bytes]) -> str:
    (batch.folder / "go").touch()
    code, said = batch.end(process)
    assert code == 0
    return said


def job_is(batch: Batch, line: str) -> None:
    """What squeue says of the job from now on: state, node of the script, nodes."""
    (batch.stub / "job.new").write_text(f"{line}\n")
    (batch.stub / "job.new").rename(batch.stub / "job")


def test_the_last_node_watches_over_the_first(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["go|0|0"])
    process = watched(batch)
    asked = batch.called("watch")
    assert asked[: asked.index("bash")] == [
        *(
            "--overlap",
            "--mpi=none",
            "--nodelist=n3",
            "--nodes=1",
            "--ntasks=1",
            "--ntasks-per-node=1",
            "--mem=0",
        )
    ]
    job_is(batch, "RUNNING n1 n[2,3]")
    wait_until(lambda: bool(batch.called("scontrol")), "the job is put back")
    assert batch.called("scontrol") == ["requeue", "77"]
    said = ends(batch, process)
    assert said.count("the first node, n1, was lost") == 1 and "start 1 of at most 20 more" in said
    assert not batch.called("scancel")


@pytest.mark.parametrize(
    "line", ["", "RUNNING n1 n[1,2]", "COMPLETING n1 n[2]", "CANCELLED n1 n[2]", "RUNNING n1"]
)
def test_no_job_is_put_back_whose_script_is_there_or_that_has_ended(line: str, tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["go|0|0"])
    process = watched(batch)
    job_is(batch, line)
    looks_again(batch)
    assert ends(batch, process) == ""
    assert not batch.called("scontrol") and not batch.called("scancel")


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"SLURM_RESTART_COUNT": "20"}, "slurm.max_requeues"),
        ({"MPIBATCH_SUCCESSIONS": "20"}, "slurm.max_requeues"),
        ({"REFUSES": "1"}, "Slurm does not requeue this job"),
        ({}, "the run was being stopped"),
    ],
)
def test_a_job_without_its_script_that_cannot_come_back_ends(
    variables: dict[str, str], why: str, tmp_path: Path
) -> None:
    """Else it would hold its nodes for ever."""
    batch = Batch(tmp_path, ["go|0|0"])
    process = watched(batch, **variables)
    if not variables:
        batch.run_folder.joinpath(".mpibatch").mkdir(parents=True)
        batch.run_folder.joinpath(".mpibatch", "stop").touch()
    job_is(batch, "RUNNING n1 n[2,3]")
    wait_until(lambda: bool(batch.called("scancel")), "the job is ended")
    assert batch.called("scancel") == ["77"] and bool(batch.called("scontrol")) == ("REFUSES" in variables)
    assert why in ends(batch, process)


def test_an_element_without_its_script_comes_back_alone(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["go|0|0"], job=job_of(array=10))
    process = watched(batch, SLURM_ARRAY_JOB_ID="70", SLURM_ARRAY_TASK_ID="3")
    job_is(batch, "RUNNING n1 n[2,3]")
    wait_until(lambda: bool(batch.called("scontrol")), "the element is put back")
    assert batch.called("scontrol") == ["requeue", "70_3"]
    ends(batch, process)


def test_a_launch_again_has_a_watcher_again(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["lost|session|137", "go|0|0"])
    process = watched(batch)
    job_is(batch, "RUNNING n1 n[2,3]")
    wait_until(lambda: bool(batch.called("scontrol")), "the first watcher has ended")
    (batch.stub / "watch").unlink()
    job_is(batch, "RUNNING n1 n[1,2]")
    (tmp_path / "lost").touch()
    wait_until(lambda: bool(batch.called("watch")), "there is another")
    assert "--nodelist=n2" in batch.called("watch")
    ends(batch, process)


def test_a_job_of_one_node_has_no_watcher(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["|0|0"])
    assert batch.run(SLURM_JOB_NODELIST="n1", SLURM_JOB_NUM_NODES="1") == (0, "")
    assert not batch.called("watch")


# Signals


def reach_launch(batch: Batch) -> None:
    (batch.run_folder / ".mpibatch").mkdir(parents=True)
    wait_until(lambda: bool(batch.launches()), "srun is started")


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_signal_drains_the_run_and_puts_it_back(number: signal.Signals, tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["out/.mpibatch/stop|75 other|75"])
    process = batch.start()
    reach_launch(batch)
    process.send_signal(number)
    code, said = batch.end(process)
    assert code == 75 and f"got {number.name.removeprefix('SIG')}: what is running" in said
    assert batch.called("scontrol") == ["requeue", "77"]


def test_a_signal_before_there_is_a_run_folder_is_passed_on_later(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["out/.mpibatch/stop|75 other|75"])
    process = batch.start()
    wait_until(lambda: bool(batch.launches()), "srun is started")
    process.send_signal(signal.SIGUSR2)
    wait_until(lambda: "got USR2" in batch.said, "the signal is there")
    (batch.run_folder / ".mpibatch").mkdir(parents=True)
    assert batch.end(process)[0] == 75 and batch.called("scontrol") == ["requeue", "77"]


def test_a_signal_to_an_element_goes_to_its_own_share(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["out/shares/0003/.mpibatch/stop|75 other|75"], job=job_of(array=10))
    process = batch.start(SLURM_ARRAY_JOB_ID="70", SLURM_ARRAY_TASK_ID="3")
    (batch.run_folder / "shares" / "0003" / ".mpibatch").mkdir(parents=True)
    wait_until(lambda: bool(batch.launches()), "srun is started")
    process.send_signal(signal.SIGUSR2)
    assert batch.end(process)[0] == 75 and batch.called("scontrol") == ["requeue", "70_3"]


def test_who_was_there_before_the_signal_is_a_person(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ["go|75 other|75"])
    process = batch.start()
    reach_launch(batch)
    (batch.run_folder / ".mpibatch" / "stop").write_text("drain")
    process.send_signal(signal.SIGUSR2)
    (tmp_path / "go").touch()  # Else `wait` goes on until a signal has come; both orders end alike.
    code, said = batch.end(process)
    assert code == 75 and "being stopped already" in said and not batch.called("scontrol")
    assert (batch.run_folder / ".mpibatch" / "stop").read_text() == "drain"
