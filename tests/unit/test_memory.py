"""What the kernel tells of memory: its files as they are in v1 and v2, and a real kill in a real cgroup."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cgroups import limited
from support import wait_until

from mpibatch.runtime.memory import LOOK_S, MemoryWatch

PID = 77
EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill {kills}\noom_group_kill 9\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"


class Kernel:
    """What a kernel shows in /proc and /sys/fs/cgroup."""

    def __init__(self, folder: Path, cgroup: str) -> None:
        self.proc, self.cgroups = folder / "proc", folder / "cgroup"
        self.put(self.proc / str(PID) / "cgroup", cgroup)
        self.cgroups.mkdir()
        self.node(0)

    @staticmethod
    def put(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def node(self, kills: int) -> None:
        self.put(self.proc / "vmstat", f"nr_free_pages 5\noom_kill {kills}\nnr_oom_killer 99\n")

    def v2(self, path: str, kills: int, mount: str = "") -> None:
        self.put(self.cgroups / mount / path / "memory.events", EVENTS.format(kills=kills))

    def v1(self, path: str, kills: int) -> None:
        self.put(self.cgroups / "memory" / path / "memory.oom_control", V1.format(kills=kills))

    def watch(self) -> MemoryWatch:
        watch = MemoryWatch(str(self.proc), str(self.cgroups))
        watch.begin(PID, 0.0)
        return watch


V2_JOB = "0::/slurm/job_1/step_0\n"
V1_JOB = "5:cpu,cpuacct:/else\n4:memory:/slurm/job_1\n0::/\n"


def test_a_kill_in_its_own_cgroup(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, V2_JOB)
    kernel.v2("slurm/job_1/step_0", 2)
    watch = kernel.watch()
    assert not watch.killed(), "earlier kills are nobody's of ours"
    kernel.v2("slurm/job_1/step_0", 3)
    assert watch.killed()


def test_a_kill_in_a_cgroup_above_it(tmp_path: Path) -> None:
    """As in a container that shows only a part of the hierarchy: the path is not there, what is above it is."""
    kernel = Kernel(tmp_path, V2_JOB)
    kernel.v2("", 0)
    watch = kernel.watch()
    kernel.v2("", 1)
    assert watch.killed()


def test_a_kill_in_a_cgroup_of_version_1(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, V1_JOB)
    kernel.v1("slurm/job_1", 0)
    kernel.v1("else", 0)
    watch = kernel.watch()
    kernel.v1("else", 1)
    assert not watch.killed(), "that is another controller's"
    kernel.v1("slurm/job_1", 1)
    assert watch.killed()


def test_version_2_beside_version_1(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "3:cpu:/x\n0::/job\n")
    kernel.v2("job", 0, "unified")
    watch = kernel.watch()
    kernel.v2("job", 1, "unified")
    assert watch.killed()


def test_a_kill_on_the_node_where_no_cgroup_counts(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, V2_JOB)
    watch = kernel.watch()
    kernel.node(1)
    assert watch.killed()


def test_a_kill_of_another_job_on_the_node_is_not_ours(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, V2_JOB)
    kernel.v2("slurm/job_1/step_0", 0)
    watch = kernel.watch()
    kernel.node(1)
    assert not watch.killed()


def test_a_kernel_that_tells_nothing(tmp_path: Path) -> None:
    watch = MemoryWatch(str(tmp_path), str(tmp_path))
    watch.begin(PID, 0.0)
    watch.look(LOOK_S)
    assert not watch.killed()
    assert watch.limit_bytes() is watch.available_bytes() is None


def test_a_kill_of_long_ago_is_forgotten_and_a_recent_one_is_not(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, V2_JOB)
    kernel.v2("slurm/job_1/step_0", 0)
    watch = kernel.watch()
    kernel.v2("slurm/job_1/step_0", 1)
    for now, killed in ((LOOK_S - 1, True), (LOOK_S, True), (2 * LOOK_S - 1, True), (2 * LOOK_S, False)):
        watch.look(now)
        assert watch.killed() == killed, now
    kernel.v2("slurm/job_1/step_0", 2)
    assert watch.killed()


def test_a_successor_begins_anew(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, V2_JOB)
    kernel.v2("slurm/job_1/step_0", 0)
    watch = kernel.watch()
    kernel.v2("slurm/job_1/step_0", 1)
    watch.begin(PID, 1.0)
    assert not watch.killed()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"slurm": "max", "slurm/job_1": "9000"}, 9000),
        ({"slurm": "5000\n", "slurm/job_1": "9000"}, 5000),
        ({"slurm": "max"}, None),
        ({}, None),
    ],
)
def test_the_lowest_limit_counts(tmp_path: Path, limits: dict[str, str], expected: int | None) -> None:
    kernel = Kernel(tmp_path, V2_JOB)
    for path, text in limits.items():
        kernel.put(kernel.cgroups / path / "memory.max", text)
    assert kernel.watch().limit_bytes() == expected


def test_a_limit_of_version_1_that_is_none(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, V1_JOB)
    kernel.put(kernel.cgroups / "memory" / "memory.limit_in_bytes", "9223372036854771712\n")
    assert kernel.watch().limit_bytes() is None
    kernel.put(kernel.cgroups / "memory/slurm/job_1/memory.limit_in_bytes", "4096\n")
    assert kernel.watch().limit_bytes() == 4096


def test_what_the_node_could_give(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, V2_JOB)
    kernel.put(kernel.proc / "meminfo", "MemTotal: 9000 kB\nMemFree: 1 kB\nMemAvailable:     2048 kB\n")
    assert kernel.watch().available_bytes() == 2048 * 1024


def test_a_real_kill() -> None:
    with limited(64 << 20) as cgroup:
        go = f"import sys; open('{cgroup}/cgroup.procs', 'w').write('0'); sys.stdin.read(1); "
        greedy = subprocess.Popen([sys.executable, "-c", f"{go}b'x' * (1 << 30)"], stdin=subprocess.PIPE)
        wait_until(lambda: bool((cgroup / "cgroup.procs").read_text()), "it is in the cgroup")
        watch = MemoryWatch()
        watch.begin(greedy.pid, 0.0)
        assert not watch.killed()
        assert watch.limit_bytes() == 64 << 20
        assert (watch.available_bytes() or 0) > 0
        greedy.communicate(b"x")
        assert greedy.returncode == -signal.SIGKILL
        assert watch.killed()


def test_a_real_kill_that_was_not_the_kernels() -> None:
    sleeper = subprocess.Popen(["sleep", "1000"])
    watch = MemoryWatch()
    watch.begin(sleeper.pid, 0.0)
    sleeper.kill()
    sleeper.wait()
    assert not watch.killed()
