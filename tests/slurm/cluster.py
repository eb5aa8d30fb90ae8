"""A real Slurm of four nodes on this machine, in a folder of its own: for tests, and by hand (`make slurm-up`).

Needs root, and what `tests/slurm/install` installs. Each cluster has its own key, ports and folder, so that
several may be up at once. Its processes are known by SLURM_CONF in their environment, or by a file of a
node's folder that they have open; so nothing of it is left after `stop`, and a node can be lost whole.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import support
from slurm.processes import has_open, in_environment, kill, others, with_descendants

NODES = ("n1", "n2", "n3", "n4")
DAEMONS = ("munged", "slurmctld", "slurmd", "srun", "sbatch")
REQUEUE_S = 8
"""About how long a requeued job waits before it starts again: the lifetime of a credential, 120 in general."""
LOST_S = 10
"""After how many seconds of silence a node is taken for lost."""
UP_S = 60
GPUS = 2
"""Of each node: names that stand for devices, so that Slurm gives out numbers."""

CONF = """\
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire={requeue_s}
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/%n/spool
SlurmdPidFile={folder}/%n/slurmd.pid
SlurmdLogFile={folder}/%n/slurmd.log
TmpFS={folder}/%n/tmp
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
ReturnToService=2
FirstJobId={first_job}
JobRequeue=1
KillWait=5
SlurmdTimeout={lost_s}
MessageTimeout=10
MaxArraySize=10001
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
{nodes}
PartitionName=debug Nodes=n[1-4] Default=YES MaxTime=INFINITE
PartitionName=short Nodes=n[1-4] MaxTime=1
PartitionName=urgent Nodes=n[1-4] PriorityTier=10 PreemptMode=OFF
"""
NODE = "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=4000 Gres=gpu:{gpus}"


def missing() -> str | None:
    """Why no cluster can be started here; None if one can."""
    absent = [name for name in DAEMONS if _found(name) is None]
    if absent:
        return f"no Slurm is installed ({', '.join(absent)} not found): see tests/slurm/install"
    return None if os.geteuid() == 0 else "the daemons of Slurm have to be started by root"


class Cluster:
    """Four nodes, n1 to n4, of 4 CPUs and 2 GPUs each. Partitions: debug; short, one minute at most; urgent,
    which preempts the others by requeue."""

    def __init__(self, folder: Path) -> None:
        """Of `folder`, which `start` fills, or has filled in another process."""
        self.folder = folder
        self.conf = folder / "slurm.conf"

    @classmethod
    def started(cls, folder: Path | None = None) -> Cluster:
        """A new one, with all nodes idle. Its folder is removed by `stop`."""
        cluster = cls(folder or Path(tempfile.mkdtemp(prefix="slurm-")))
        try:
            cluster.start()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def environment(self, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """`base`, cleaned of another Slurm job's variables, by which Slurm's commands speak to this cluster."""
        kept = {
            name: value for name, value in base.items() if not name.startswith(("SLURM", "SBATCH", "SRUN"))
        }
        return {**kept, "SLURM_CONF": str(self.conf)}

    def start(self) -> None:
        """Start all daemons, and wait until each node is idle."""
        self.folder.chmod(0o755)
        for name in ("munge", "state", *(f"{node}/{part}" for node in NODES for part in ("spool", "tmp"))):
            (self.folder / name).mkdir(parents=True, mode=0o755)
        self._write_conf()
        self._start_munged()
        self._daemon("slurmctld", "-f", str(self.conf))
        for node in NODES:
            self._start_node(node)
        self.wait_for_nodes(dict.fromkeys(NODES, "idle"), UP_S)

    def stop(self) -> None:
        """Cancel all jobs and end all that has been started, the tasks of jobs as well; remove the folder."""
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            self.command("scancel", "--signal=KILL", "--full", "--user=root", check=False, timeout_s=10)
        support.wait_until(self._kill_all, "all processes of the cluster have ended")
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(
        self,
        *words: object,
        check: bool = True,
        timeout_s: float = 60,
        environment: Mapping[str, str] = os.environ,
    ) -> str:
        """What a command of Slurm says on stdout."""
        ended = subprocess.run(
            list(map(str, words)),
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert ended.returncode == 0 or not check, f"{words}: {support.words(ended)}"
        return ended.stdout

    def states(self) -> dict[str, str]:
        """The state of each node, as `sinfo` has it: idle, alloc, mix, down*, ..."""
        lines = self.command("sinfo", "-h", "-N", "-p", "debug", "-o", "%N %t", check=False).splitlines()
        return dict(line.split() for line in lines)

    def wait_for_nodes(self, states: Mapping[str, str], timeout_s: float = UP_S) -> None:
        """Until these nodes are in these states."""
        support.wait_until(
            lambda: states.items() <= self.states().items(), f"nodes are {dict(states)}", timeout_s
        )

    def job(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says of a job, or of one element of an array: `ExitCode`, `Restarts`, ..."""
        words = self.command("scontrol", "show", "--oneliner", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def job_state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, FAILED, ..."""
        return self.job(job)["JobState"]

    def lose(self, node: str) -> None:
        """A node dies: SIGKILL to its slurmd, its slurmstepds and all tasks on it, at once."""
        while found := self._of_node(node):
            kill(found)

    def bring_back(self, node: str) -> None:
        """Start a lost node again, and wait until it is idle."""
        # As a reboot does. Slurm's plugin for PMIx cannot start a step (that of a requeued job) which has the number
        # of one that has left its socket and folder.
        for left in (self.folder / node / "spool").glob("stepd.slurm.pmix.*"):
            left.unlink()
        shutil.rmtree(self.folder / node / "tmp")
        (self.folder / node / "tmp").mkdir()
        self._start_node(node)
        self.wait_for_nodes({node: "idle"})

    def _write_conf(self) -> None:
        host = socket.gethostname().partition(".")[0]
        port, *ports = _free_ports(1 + len(NODES))
        nodes = [
            NODE.format(node=node, host=host, port=at, gpus=GPUS)
            for node, at in zip(NODES, ports, strict=True)
        ]
        self.conf.write_text(
            CONF.format(
                name=f"mpibatch{port}",
                # MPICH names shared memory by the job, and what killed ranks have left of it stays.
                first_job=random.randrange(10_000, 60_000_000),
                host=host,
                port=port,
                folder=self.folder,
                requeue_s=REQUEUE_S,
                lost_s=LOST_S,
                nodes="\n".join(nodes),
            )
        )
        for number in range(GPUS):
            (self.folder / f"gpu{number}").symlink_to("/dev/null")  # Slurm wants a device.
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-{GPUS - 1}]\n")

    def _start_munged(self) -> None:
        munge = self.folder / "munge"
        key = munge / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = {"key": key, "pid": munge / "pid", "log": munge / "log", "seed": munge / "seed"}
        words = [f"--{name}-file={file}" for name, file in files.items()]
        self._daemon("munged", "--force", f"--socket={munge / 'socket'}", *words)

    def _start_node(self, node: str) -> None:
        self._daemon("slurmd", "-N", node, "-f", str(self.conf))

    def _daemon(self, name: str, *words: str) -> None:
        """Start what goes into the background by itself. Without the variables by which tests know their own."""
        variables = {"PATH": os.environ.get("PATH", ""), "SLURM_CONF": str(self.conf), "LANG": "C.UTF-8"}
        with (self.folder / f"{name}.err").open("a+") as err:
            ended = subprocess.run(
                [_found(name) or name, *words],
                env=variables,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=err,
                start_new_session=True,
                timeout=60,
                check=False,
            )
            err.seek(0)
            said = err.read()
        assert ended.returncode == 0, f"{name} did not start, exit code {ended.returncode}:\n{said}"

    def _of_node(self, node: str) -> set[int]:
        """slurmd and slurmstepds of a node have its log open; what they have started is below them."""
        folder = f"{self.folder}/{node}/"
        marks = (f"\0SLURMD_NODENAME={node}\0", f"\0SLURM_CONF={self.conf}\0")
        return with_descendants(
            pid
            for pid in others()
            if has_open(pid, folder) or all(in_environment(pid, mark) for mark in marks)
        )

    def _kill_all(self) -> bool:
        """Whether nothing of the cluster was left; SIGKILL to what was. Not to shells that only speak to it."""
        marks, folder = (f"\0SLURM_CONF={self.conf}\0", "\0SLURM_JOB_ID="), f"{self.folder}/"
        left = with_descendants(
            pid
            for pid in others()
            if has_open(pid, folder) or all(in_environment(pid, mark) for mark in marks)
        )
        kill(left)
        return not left


def _found(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_ports(count: int) -> list[int]:
    """Below those that the kernel gives to outgoing connections, as a node needs its port again later."""
    with contextlib.ExitStack() as bound:
        found: list[int] = []
        while len(found) < count:
            port = random.randrange(20000, 32000)
            test = bound.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                test.bind(("", port))
                found.append(port)
        return found
