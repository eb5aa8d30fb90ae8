"""What the child does, which outcome follows, and in which words: one row a fault.

Each row is a real job of six mini-batches, of which one (item003) meets the fault.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import support
from cgroups import limited

HEAD = (
    support.NOTE
    + """
def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    note(name)
    if name == "item003":
        return fault()
    return [name]
"""
)


class Fault(NamedTuple):
    name: str
    script: str
    """Defines `fault`, or `init`."""
    error: str
    """Regular expression over "type: message" of the failed item."""
    attempts: int = 3
    keys: Mapping[str, Any] = MappingProxyType({})
    head: str = HEAD
    log: str = "error"
    """Folder of the log that the failure names."""
    logged: str = ""
    """Stands in that log."""


FAULTS = [
    Fault("raises", "def fault(): raise ValueError('bad pixels')", r"^ValueError: bad pixels$", logged="in fault"),
    Fault("one try", "def fault(): raise ValueError('x')", "^ValueError: x$", attempts=1, keys={"run_max_try": 1}),
    Fault("sys.exit", "def fault(): sys.exit(42)", r"^SystemExit: 42.*sys\.exit"),
    Fault("keyboard interrupt", "def fault(): raise KeyboardInterrupt", "^KeyboardInterrupt"),
    Fault("os._exit", "def fault(): os._exit(0)", r"^Died: it died: exit code 0 \(pid \d+ of rank 0", log="stderr"),
    Fault(
        "segfault", "import ctypes\ndef fault(): ctypes.string_at(0)", r"^Died: it died: SIGSEGV .*mini-batch 3,",
        log="stderr", logged="Segmentation fault",
    ),
    Fault("abort", "def fault(): os.abort()", "^Died: it died: SIGABRT", log="stderr"),
    Fault(
        "killed, as for memory", "import signal\ndef fault(): os.kill(os.getpid(), signal.SIGKILL)",
        r"^Died: it died: SIGKILL \(not sent by mpibatch: most likely the kernel, because memory ran out; its peak",
        log="stderr",
    ),
    Fault(
        "hangs", "import time\ndef fault():\n  print('hanging', file=sys.stderr, flush=True)\n  time.sleep(1000)",
        r"^TimedOut: the processor was killed: over run_invocation_timeout: 2 s", attempts=2,
        keys={"run_invocation_timeout": 2, "run_max_try": 2}, log="stderr", logged="hanging",
    ),
    Fault(
        "hangs and ignores SIGTERM",
        "import signal, time\ndef fault():\n  signal.signal(signal.SIGTERM, signal.SIG_IGN)\n  time.sleep(1000)",
        "^TimedOut", attempts=1, keys={"run_invocation_timeout": 2, "run_max_try": 1}, log="stderr",
    ),
    Fault(
        "hangs in C with the GIL held",
        "import ctypes\ndef fault(): ctypes.PyDLL(None).sleep(1000)",
        "^TimedOut", attempts=1, keys={"run_invocation_timeout": 2, "run_max_try": 1}, log="stderr",
    ),
    Fault(
        "is frozen", "import signal\ndef fault(): os.kill(os.getpid(), signal.SIGSTOP)",
        "^TimedOut: the processor was killed: over run_invocation_timeout", attempts=2,
        keys={"run_invocation_timeout": 2, "run_max_try": 2}, log="stderr",
    ),
    Fault("no memory", "def fault(): return bytearray(1 << 60)", "^MemoryError"),
    Fault("recursion", "def fault(): return fault()", "^RecursionError"),
    Fault("returns None", "def fault(): pass", r"^BadReturn: run\(\) returned None .*a list"),
    Fault("returns a number", "def fault(): return 3", r"int.*list"),
    Fault("cannot be encoded", "def fault(): return [chr(0xD800)]", r"surrogate|encod"),
    Fault("str() raises", "class A:\n  def __str__(self): raise ValueError('no')\ndef fault(): return [A()]", "no"),
    Fault("generator raises midway", "def fault():\n  yield 1\n  raise OSError('torn')", "^OSError: torn"),
    Fault(
        "writes into our socket",
        "import socket, stat\ndef fault():\n  for fd in range(3, 100):\n    try:\n"
        "      if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, b'\\xff' * 64)\n    except OSError: pass\n"
        "  import time; time.sleep(1000)",
        "^Died: the script wrote into the connection to mpibatch", attempts=1,
        keys={"run_max_try": 1}, log="stderr",
    ),
    Fault(
        "closes all files", "import time\ndef fault():\n  os.closerange(3, 100)\n  time.sleep(1000)",
        "^Died: it closed its connection to mpibatch, so it was killed", attempts=1, keys={"run_max_try": 1},
        log="stderr",
    ),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_costs_its_mini_batch_and_no_other(fault: Fault, tmp_path: Path) -> None:
    job = support.make_job(tmp_path, fault.head + textwrap.dedent(fault.script), **fault.keys)

    ended = support.mpibatch("run", job)

    output = tmp_path / "output"
    assert ended.returncode == 0, support.words(ended)
    assert support.rows(output) == [f"item00{number}" for number in (0, 1, 2, 4, 5)]
    assert support.result(output)["items"] == {"total": 6, "succeeded": 5, "failed": 1}
    (failed,) = support.failed_items(output)
    assert failed["item"] == str(tmp_path / "data" / "item003")
    assert failed["attempts"] == fault.attempts
    error = f"{failed['error']['type']}: {failed['error']['message']}"
    assert re.search(fault.error, error, re.DOTALL), error
    assert f"/{fault.log}/" in failed["log"]
    assert fault.logged in Path(failed["log"]).read_text()
    # A neighbour may run again where a processor died within a millisecond of it, but its rows stand once.
    called = support.notes(tmp_path)
    assert called.count("item003") == fault.attempts
    assert set(called) == {f"item00{number}" for number in range(6)}
    # The cause is told on the terminal, with the item and the log to look into.
    assert "item003" in ended.stdout and failed["log"] in ended.stdout
    support.wait_until(lambda: not support.processes_with(str(tmp_path)), "nothing of it lives")


GOOD = [
    ("prints 64 MiB", "def fault():\n  for _ in range(64): sys.stdout.write('x' * (1 << 20))\n  return [1]"),
    ("prints to the file descriptor", "def fault():\n  os.write(1, b'raw'); os.write(2, b'raw')\n  return [1]"),
    ("changes the folder", "def fault():\n  os.chdir('/')\n  return [1]"),
    ("leaves a thread", "import threading, time\ndef fault():\n  threading.Thread(target=time.sleep, args=(60,),"
     " daemon=True).start()\n  return [1]"),
    ("leaves a thread that is no daemon", "import threading, time\ndef fault():\n"
     "  threading.Thread(target=time.sleep, args=(600,)).start()\n  return [1]"),
    ("uses a pool", "import multiprocessing\ndef twice(x): return 2 * x\ndef fault():\n"
     "  with multiprocessing.get_context('fork').Pool(2) as pool: return [sum(pool.map(twice, [1, 2]))]"),
    ("ignores SIGTERM", "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ndef fault(): return [1]"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "script"), GOOD, ids=[name for name, _ in GOOD])
def test_what_is_odd_and_no_fault(name: str, script: str, tmp_path: Path) -> None:
    job = support.make_job(tmp_path, HEAD + script, shutdown_timeout=1)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert len(support.rows(tmp_path / "output")) == 6
    assert support.result(tmp_path / "output")["mini_batches"]["attempts"] == 6
    support.wait_until(lambda: not support.processes_with(str(tmp_path)), "nothing of it lives")


INIT_FAULTS = [
    ("raises", "def init(): note('init'); raise OSError('no model')", r"OSError: no model", {}),
    ("exits", "def init(): note('init'); sys.exit('no licence')", r"SystemExit: no licence", {}),
    ("dies", "def init(): note('init'); os._exit(7)", r"Died: it died: exit code 7 .*in init\(\)", {}),
    ("hangs", "import time\ndef init(): note('init'); time.sleep(99)", "TimedOut.*init_tim", {"init_timeout": 0.5}),
    ("import fails", "note('init')\nimport no_such_module", "ModuleNotFoundError.*no_such_module", {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "script", "error", "keys"), INIT_FAULTS, ids=[row[0] for row in INIT_FAULTS]
)
def test_where_nothing_can_begin_the_cause_is_shown(
    name: str, script: str, error: str, keys: dict[str, Any], tmp_path: Path
) -> None:
    job = support.make_job(tmp_path, HEAD + "\ndef fault(): pass\n" + script, **keys)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 4, support.words(ended)
    told = support.result(tmp_path / "output")
    assert told["verdict"] == "no_workers"
    assert re.search(error, told["first_cause"]["error"], re.DOTALL), told
    assert re.search(error, ended.stdout.splitlines()[-1]), support.words(ended)
    if name == "hangs":  # How far it comes before its time is over, is not sure.
        assert set(support.notes(tmp_path)) <= {"init"}
    else:
        assert support.notes(tmp_path) == ["init"] * 3
    (log,) = (tmp_path / "output" / "logs" / "sys" / "node").rglob("*.txt")
    assert re.findall(r"init failed \((\d+)\)", log.read_text()) == ["1", "2", "3"]
    assert told["mini_batches"]["attempts"] == 0


UNUSABLE = [
    ("run is removed", "del run", "run"),
    ("run is no function", "globals()['run'] = 3", "run"),
]


@pytest.mark.parametrize(("name", "script", "error"), UNUSABLE, ids=[row[0] for row in UNUSABLE])
def test_a_script_that_nobody_can_use_is_wrong_input(
    name: str, script: str, error: str, tmp_path: Path
) -> None:
    job = support.make_job(tmp_path, HEAD + "\ndef fault(): pass\n" + script)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 2, support.words(ended)
    assert error in ended.stdout.splitlines()[-1], support.words(ended)
    assert support.result(tmp_path / "output")["reason"].startswith("ScriptError: ")


AT_THE_END = (
    HEAD + "\ndef init(): note('init')\ndef shutdown(): note('shutdown')\ndef fault(): raise ValueError\n"
)


def test_shutdown_is_called_also_where_too_much_has_failed(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, AT_THE_END, error_threshold=0, run_max_try=1, items=4)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 3, support.words(ended)
    assert support.notes(tmp_path)[-1] == "shutdown"


def test_init_runs_again_in_the_processor_that_replaces_a_dead_one(tmp_path: Path) -> None:
    script = HEAD + "\ndef init(): note('init')\ndef shutdown(): note('shutdown')\ndef fault(): os._exit(1)\n"
    job = support.make_job(tmp_path, script, run_max_try=2)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert support.notes(tmp_path).count("init") == 3
    assert support.notes(tmp_path).count("shutdown") == 1


def test_a_processor_that_is_frozen_between_two_mini_batches_costs_nothing(tmp_path: Path) -> None:
    script = HEAD + textwrap.dedent("""
        import signal
        from mpibatch.runtime.processor import Processor
        work_off = Processor._work_off

        def freeze(self, work):
            work_off(self, work)
            if work.mini_batch == 3 and not os.path.exists("../frozen"):
                open("../frozen", "w").close()
                os.kill(os.getpid(), signal.SIGSTOP)

        Processor._work_off = freeze

        def init():
            note("init")

        def fault():
            return ["item003"]
        """)
    job = support.make_job(tmp_path, script, run_invocation_timeout=2, run_max_try=1)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == [f"item00{number}" for number in range(6)]
    assert support.notes(tmp_path).count("init") == 2
    assert support.result(tmp_path / "output")["mini_batches"]["attempts"] == 6
    support.wait_until(lambda: not support.processes_with(str(tmp_path)), "nothing of it lives")


def test_a_processor_that_the_kernel_kills_for_memory_is_named_as_that(tmp_path: Path) -> None:
    script = HEAD + "\ndef fault():\n  return [len(bytearray(b'x') * (1 << 30))]\n"
    job = support.make_job(tmp_path, script, run_max_try=2)
    with limited(400 << 20) as cgroup:
        inside = shlex.join([*support.COMMAND, "run", str(job)])
        ended = subprocess.run(
            ["/bin/sh", "-c", f"echo 0 > {cgroup}/cgroup.procs; exec {inside}"],
            capture_output=True, text=True, timeout=support.TIMEOUT_S, check=False,
        )  # fmt: skip

    assert ended.returncode == 0, support.words(ended)
    (failed,) = support.failed_items(tmp_path / "output")
    assert (failed["attempts"], failed["error"]["type"]) == (2, "OutOfMemory")
    assert re.match(
        r"the kernel killed the processor because memory ran out; its peak resident memory was (at most )?0\.[23]\d"
        r" GiB; the limit of its cgroup is 0\.39 GiB; the node has \d+\.\d\d GiB to give now.*"
        r" of rank 0 .*, in mini-batch 3,",
        failed["error"]["message"],
    ), failed
    assert len(support.rows(tmp_path / "output")) == 5


def test_a_grandchild_ends_with_its_processor(tmp_path: Path) -> None:
    script = HEAD + "\nimport subprocess\ndef fault():\n  subprocess.Popen(['sleep', '1000'])\n  return [1]\n"
    job = support.make_job(tmp_path, script, environment_variables={"TEST_MARKER": str(tmp_path)})

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    support.wait_until(lambda: not support.processes_with(str(tmp_path)), "nothing of it lives")


def test_when_its_worker_is_killed_a_processor_and_its_children_end(tmp_path: Path) -> None:
    script = (
        HEAD
        + "\nimport subprocess, time\ndef fault():\n  subprocess.Popen(['sleep', '1000'])\n"
        + "  note('cwd ' + os.getcwd())\n  note('hangs')\n  time.sleep(1000)\n"
    )
    job = support.make_job(tmp_path, script, environment_variables={"TEST_MARKER": str(tmp_path)})
    process = support.start("run", job)
    support.wait_until(lambda: "hangs" in support.notes(tmp_path), "the fourth mini-batch hangs")
    (scratch,) = [Path(line[4:]) for line in support.notes(tmp_path) if line.startswith("cwd ")]
    assert scratch.is_dir()

    process.kill()
    process.communicate()

    support.wait_until(
        lambda: not support.processes_with(str(tmp_path)), "all processes of the job have ended"
    )
    support.wait_until(lambda: not scratch.parent.exists(), "the scratch folder is removed")
    ended = support.mpibatch("run", job, "--set", "run_invocation_timeout=2", "--set", "run_max_try=1")
    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == [f"item00{number}" for number in (0, 1, 2, 4, 5)]
