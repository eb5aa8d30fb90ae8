"""What rank 0 makes of bad workers, of what hangs, of want of memory and of time: whole runs in local worlds."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import support
from cgroups import limited

pytestmark = pytest.mark.mpi

HEAD = (
    support.NOTE
    + """
WORKER = os.path.basename(os.getcwd()).partition("-")[0]  # process000 and so on, as in the names of logs.

def first(what):
    \"\"\"Whether nobody has asked this before, in whichever process.\"\"\"
    try:
        os.close(os.open(os.path.join(FOLDER, what), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

def named(mini_batch):
    return [os.path.basename(path) for path in mini_batch]
"""
)
NO_MORE_WORK = "gets no more work"


def names(count: int) -> list[str]:
    return [f"item{number:03d}" for number in range(count)]


def coordinator_log(folder: Path) -> str:
    return (folder / "output" / "logs" / "sys" / "coordinator.txt").read_text()


# Bad workers


MINI_BATCHES = 60
FAILURES = 6
"""So many in a row are due to a bad worker, once some mini-batches have succeeded elsewhere."""
BAD_WORKER = (
    HEAD
    + """
def run(mini_batch):
    if WORKER == "process000":
        gate("others_are_at_work")
        note("bad")
        raise OSError("no such device")
    open(os.path.join(FOLDER, "others_are_at_work"), "a").close()
    while failures() < FAILURES:  # So the bad one has its share, however late it is.
        time.sleep(0.005)
    return named(mini_batch)

def failures():
    with open(os.path.join(FOLDER, "notes"), "a+") as file:
        file.seek(0)
        return len(file.readlines())
""".replace("FAILURES", str(FAILURES))
)


@pytest.mark.parametrize("workers", [2, 3])
def test_a_worker_that_fails_everything_costs_nothing(workers: int, tmp_path: Path) -> None:
    job = support.make_job(
        tmp_path, BAD_WORKER, items=2 * MINI_BATCHES, mini_batch_size=2, run_max_try=2, isolate_failures=True,
        process_count_per_node=workers,
    )  # fmt: skip

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    output = tmp_path / "output"
    assert support.rows(output) == names(2 * MINI_BATCHES)
    assert support.result(output)["items"]["failed"] == 0
    bad = len(support.notes(tmp_path))
    assert support.result(output)["mini_batches"]["attempts"] == MINI_BATCHES + bad
    assert FAILURES <= bad <= 15, f"it failed {bad} times"
    for told in (ended.stderr, coordinator_log(tmp_path)):
        (line,) = [line for line in told.splitlines() if NO_MORE_WORK in line]
        assert re.search(rf"\brank 0 on \S+ {NO_MORE_WORK}: \d+ attempts in a row failed there", line), line


def test_where_all_items_are_bad_no_worker_is(tmp_path: Path) -> None:
    script = HEAD + "\ndef run(mini_batch):\n  time.sleep(0.005)\n  raise OSError('no such device')\n"
    job = support.make_job(
        tmp_path, script, items=2 * MINI_BATCHES, mini_batch_size=2, run_max_try=2, isolate_failures=True,
        process_count_per_node=2,
    )  # fmt: skip

    ended = support.mpibatch("run", job)

    assert NO_MORE_WORK not in ended.stderr + coordinator_log(tmp_path)
    output = tmp_path / "output"
    assert support.result(output)["items"]["failed"] == 2 * MINI_BATCHES, support.words(ended)
    failed = {Path(line["item"]).name for line in support.failed_items(output)}
    assert sorted(failed) == names(2 * MINI_BATCHES)


# Stragglers


STRAGGLERS = (
    HEAD
    + """
def run(mini_batch):
    (name,) = named(mini_batch)
    if name == "item005" and first("slow"):
        gate("copy")
    elif name == "item005":
        first("copy")
    elif name == "item006" and first("hang"):
        time.sleep(1000)
    elif name == "item006":
        gate()
    return [name]
"""
)


def test_a_copy_saves_waiting_for_what_hangs(tmp_path: Path) -> None:
    """Of two copies that both end, one counts."""
    job = support.make_job(
        tmp_path, STRAGGLERS, items=20, straggler_copies=True, process_count_per_node=4, logging_level="DEBUG",
        run_invocation_timeout=1000,
    )  # fmt: skip
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until((tmp_path / "copy").exists, "what is slow has a copy")
        run.wait_until(lambda: "dropped an answer" in coordinator_log(tmp_path), "both of them are through")
        support.open_gate(tmp_path)

        assert run.wait_to_end() == 0, run.said  # In vain, if what hangs is waited for.
    output = tmp_path / "output"
    assert support.rows(output) == names(20)
    told = support.result(output)
    assert (told["items"]["succeeded"], told["mini_batches"]["attempts"]) == (20, 20)
    support.wait_until(lambda: not support.processes_with(str(tmp_path)), "what hangs has been killed")


# Memory


def test_a_node_that_runs_out_of_memory_gets_on_with_one_worker_less(tmp_path: Path) -> None:
    script = (
        HEAD
        + """
def run(mini_batch):
    (name,) = named(mini_batch)
    note(f"{name} {WORKER}")
    if name == "item000":
        while not others():  # It has somebody else to go to.
            time.sleep(0.005)
        return [len(bytearray(b"x") * (1 << 30))]
    time.sleep(0.05)  # So long that there is work left, for the other one as well, after the second kill.
    return [name]

def others():
    with open(os.path.join(FOLDER, "notes")) as file:
        return {line.split()[1] for line in file} - {WORKER}

def shutdown():
    note(f"shutdown {WORKER}")
"""
    )
    items = 240
    job = support.make_job(
        tmp_path, script, items=items, run_max_try=2, process_count_per_node=2, logging_level="DEBUG"
    )
    with limited(700 << 20) as cgroup:
        inside = shlex.join([*support.COMMAND, "run", str(job)])
        ended = subprocess.run(
            ["/bin/sh", "-c", f"echo 0 > {cgroup}/cgroup.procs; exec {inside}"],
            capture_output=True, text=True, timeout=support.TIMEOUT_S, check=False,
        )  # fmt: skip

    assert ended.returncode == 0, support.words(ended)
    output = tmp_path / "output"
    (failed,) = support.failed_items(output)
    assert (failed["attempts"], failed["error"]["type"]) == (2, "OutOfMemory")
    assert re.search(
        r"peak resident memory was \d\.\d\d GiB; .*; processors on this node: 2 .*Run fewer processes on a node",
        failed["error"]["message"],
    ), failed
    assert support.rows(output) == names(items)[1:]
    for told in (ended.stderr, coordinator_log(tmp_path)):
        assert told.count("one worker there is not used any more") == 1, told
    # The worker whose processor was killed last is given nothing any more; what it has already it may do.
    began = [line.split() for line in support.notes(tmp_path)]
    kills = [worker for name, worker in began if name == "item000"]
    assert len(kills) == 2 and kills[0] != kills[1]
    _, _, after = coordinator_log(tmp_path).partition("one worker there is not used any more")
    granted = [f"process{int(worker):03d}" for worker in re.findall(r"granted worker (\d+)", after)]
    assert granted and kills[1] not in granted


# Time


def test_what_runs_when_the_wall_time_ends_is_kept(tmp_path: Path) -> None:
    """Nothing new starts, and a start does what is left."""
    script = (
        HEAD
        + '\ndef run(mini_batch):\n  note(named(mini_batch)[0])\n  gate("a")\n  return named(mini_batch)\n'
    )
    job = support.make_job(
        tmp_path, script, items=10, process_count_per_node=2, time_limit=45, drain_margin=15
    )
    with support.Started(tmp_path, "run", job) as run:
        run.wait_to_say("stopping (less than 15 s of the wall time are left (drain_margin))")
        support.open_gate(tmp_path, "a")

        assert run.wait_to_end() == 75, run.said
    output = tmp_path / "output"
    # On a slow machine fewer than two stand at the gate; one more each, if it was open before more was asked for.
    begun = len(support.notes(tmp_path))
    assert support.result(output)["items"]["succeeded"] == begun <= 4

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(output) == names(10)
    assert sorted(support.notes(tmp_path)) == names(10), "something was done twice"


REST_S = 6.0
HANDED_AHEAD = 8
"""More than two workers have in hand when the first mini-batch fails."""


def test_while_one_mini_batch_rests_the_others_go_on(tmp_path: Path) -> None:
    script = (
        HEAD
        + """
def run(mini_batch):
    (name,) = named(mini_batch)
    note(f"{name} {time.monotonic()}")
    if name == "item000" and first("failure"):
        raise OSError("busy")
    gate("failure")
    return [name]
"""
    )
    job = support.make_job(
        tmp_path, script, items=20, retry_backoff={"initial": REST_S, "jitter": False}, process_count_per_node=2,
    )  # fmt: skip

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == names(20)
    began = [(name, float(at)) for name, at in map(str.split, support.notes(tmp_path))]
    order = [name for name, _ in began]
    assert sorted(order) == sorted([*names(20), "item000"])
    failed_at, again_at = (at for name, at in began if name == "item000")
    assert again_at - failed_at >= REST_S, "it did not rest"
    meanwhile = [name for name, at in began if failed_at < at < again_at]
    assert len(meanwhile) > HANDED_AHEAD, "the others waited for it"


# Progress


BEATS = (
    HEAD
    + """
from mpibatch import EntryScript

def run(mini_batch):
    for _ in range({steps}):
        time.sleep(0.1)
        {beat}
    note("through")
    return named(mini_batch)
"""
)


def test_a_heartbeat_is_progress(tmp_path: Path) -> None:
    script = BEATS.format(steps=70, beat="EntryScript().heartbeat()")
    job = support.make_job(tmp_path, script, items=2, progress_update_timeout=5, process_count_per_node=2)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == names(2)


def test_without_heartbeats_it_is_stopped(tmp_path: Path) -> None:
    script = BEATS.format(steps=300, beat="pass")
    job = support.make_job(tmp_path, script, items=2, progress_update_timeout=1, process_count_per_node=2)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 75, support.words(ended)
    assert "progress_update_timeout" in support.result(tmp_path / "output")["reason"]
    assert "progress_update_timeout" in ended.stdout.splitlines()[-1], support.words(ended)
    assert not support.notes(tmp_path)


# Processors that die before they are ready


@pytest.mark.parametrize(("workers", "ranks"), [(1, 2), (2, None)], ids=["one worker", "two workers"])
def test_a_processor_may_die_before_it_is_ready(workers: int, ranks: int | None, tmp_path: Path) -> None:
    script = (
        HEAD
        + f"""
def init():
    if first("death"):
        os._exit(1)
    note("ready")

def run(mini_batch):
    while len(open(os.path.join(FOLDER, "notes")).readlines()) < {workers}:
        time.sleep(0.005)
    return named(mini_batch)
"""
    )
    job = support.make_job(tmp_path, script, process_count_per_node=workers)

    ended = support.mpibatch("run", job, ranks=ranks)

    assert ended.returncode == 0, support.words(ended)
    assert (tmp_path / "death").exists() and support.notes(tmp_path) == ["ready"] * workers
    output = tmp_path / "output"
    assert support.rows(output) == names(6)
    assert support.result(output)["mini_batches"]["attempts"] == 6
