"""What a processor does with mini-batches, signals, ends and nonsense."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from process.child import HOME, TO_CSV, Child
from support import wait_until

from mpibatch.core.framing import frame
from mpibatch.messages import Finish, Outcomes, PassedOver
from mpibatch.work import WARN_MORE_ROWS, WARN_NEWLINE, Failed, Succeeded

ECHO = "def run(batch):\n    return batch"


def test_paths_come_as_the_file_system_spells_them(tmp_path: Path) -> None:
    with Child(tmp_path, ECHO) as child:
        child.ready()
        items: list[str | bytes] = ["a b", "line\nbreak", "\u00e4", b"not\xffutf8", "-x"]
        assert child.rows(*items) == b"a b\nline\nbreak\n\xc3\xa4\nnot\xffutf8\n-x\n"
        assert child.rows("only") == b"only\n"


def test_counts_of_a_success(tmp_path: Path) -> None:
    script = """
        def run(batch):
            return {"less": ["x"], "more": ["x"] * 9, "none": [], "line": ["x\\ny", "z"]}[batch[0]]
    """
    expected = {
        "less": (1, 1, 0),
        "more": (2, 9, WARN_MORE_ROWS),
        "none": (0, 0, 0),
        "line": (2, 2, WARN_NEWLINE),
    }
    with Child(tmp_path, script) as child:
        child.ready()
        for case, counts in expected.items():
            outcome = child.does(case, "other")
            assert isinstance(outcome, Succeeded)
            assert (outcome.succeeded, outcome.rows, outcome.warnings) == counts, case


def test_what_the_script_does_to_its_list_changes_no_count(tmp_path: Path) -> None:
    script = """
        def run(batch):
            rows = list(batch)
            batch.clear()
            return rows
    """
    with Child(tmp_path, script) as child:
        outcome = child.ready().does("a", "b")
        assert isinstance(outcome, Succeeded)
        assert (outcome.succeeded, outcome.fragment) == (2, b"a\nb\n")


def test_summary_only(tmp_path: Path) -> None:
    script = "def run(batch):\n    return (x for x in batch if x != 'b')"
    with Child(tmp_path, script, output_action="summary_only") as child:
        outcome = child.ready().does("a", "b", "c")
        assert isinstance(outcome, Succeeded)
        assert (outcome.succeeded, outcome.rows, outcome.fragment) == (2, 0, b"")


@pytest.mark.parametrize("header", [False, True])
def test_a_data_frame(header: bool, tmp_path: Path) -> None:
    script = """
        import pandas as pd
        def run(batch):
            return pd.DataFrame({"name": batch, "value": [0.1, 1e-7], "text": ["x y", None]})
    """
    with Child(tmp_path, script, append_row={**TO_CSV, "sep": ",", "header": header}) as child:
        outcome = child.ready().does("a b", "c")
        assert isinstance(outcome, Succeeded)
        frame = pd.DataFrame({"name": ["a b", "c"], "value": [0.1, 1e-7], "text": ["x y", None]})
        assert outcome.fragment == frame.to_csv(sep=",", header=header, index=False).encode()
        assert outcome.header == (len(b"name,value,text\n") if header else 0)
        assert outcome.rows == outcome.succeeded == 2


def test_an_array(tmp_path: Path) -> None:
    script = "import numpy as np\ndef run(batch):\n    return np.linspace(0, 1, len(batch))"
    with Child(tmp_path, script) as child:
        expected = "".join(f"{value!s}\n" for value in np.linspace(0, 1, 4))
        assert child.ready().rows(*"abcd") == expected.encode()


RUN_FAILS = {
    "raises": ("raise ValueError('bad file ' + batch[0])", "raised", "ValueError", "bad file a"),
    "no message": (
        "assert batch == []",
        "raised",
        "AssertionError",
        "line 4 of entry.py: assert batch == []",
    ),
    "exits": ("sys.exit(3)", "raised", "SystemExit", "3: the script called sys.exit(3) in run()"),
    "interrupts": ("raise KeyboardInterrupt", "raised", "KeyboardInterrupt", "in run(), line 4"),
    "base": ("raise BaseException('odd')", "raised", "BaseException", "odd"),
    "generator": (
        "return (1 / (len(x) - 1) for x in batch)",
        "raised",
        "ZeroDivisionError",
        "division by zero",
    ),
    "recursion": ("return run(batch)", "raised", "RecursionError", "maximum recursion depth exceeded"),
    "nothing": ("pass", "bad_return", "BadReturn", "run() returned None (is a `return` missing?)"),
    "string": ("return batch[0]", "bad_return", "BadReturn", "run() returned a str"),
    "surrogate": (
        "return ['x', '\\ud800']",
        "not_encodable",
        "NotEncodable",
        "element 1 (counting from 0; a str)",
    ),
    "unprintable": ("return [Bad()]", "not_encodable", "NotEncodable", "its __str__ raised OSError: never"),
}


@pytest.mark.parametrize("name", RUN_FAILS)
def test_a_failed_attempt_says_why_and_the_next_one_goes_on(name: str, tmp_path: Path) -> None:
    body, cause, kind, words = RUN_FAILS[name]
    script = f"import sys\ndef run(batch):\n    if batch[0] == 'good': return batch\n    {body}\n"
    script += "class Bad:\n    def __str__(self): raise OSError('never')\n"
    with Child(tmp_path, script) as child:
        failed = child.ready().fails("a", "b")
        assert (failed.cause, failed.error.type) == (cause, kind)
        assert words in failed.error.message
        assert "mpibatch/" not in failed.error.details, "our frames are cut off"
        assert failed.run_s >= 0
        assert child.rows("good") == b"good\n"
        assert child.clock()[0] == 0
        assert (
            "process007: mini-batch 10, attempt 1 (retry 0), items 0 to 1 of it\n    a\n    b\n"
            in child.errors
        )
        assert kind in child.errors
        assert child.finish() == 0


def test_a_traceback_begins_in_the_script(tmp_path: Path) -> None:
    script = """
        def inner(x):
            return 1 / 0
        def run(batch):
            return [inner(x) for x in batch]
    """
    with Child(tmp_path, script) as child:
        lines = child.ready().fails("a").error.details.splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[1] == f'  File "{child.script}", line 5, in run'
        assert lines[-1] == "ZeroDivisionError: division by zero"


def test_printing_does_not_disturb_and_is_in_the_log_at_once(tmp_path: Path) -> None:
    script = """
        import os, subprocess, sys
        print("imported")
        def run(batch):
            print("out", batch[0])
            print("err", batch[0], file=sys.stderr)
            subprocess.run(["echo", "from a subprocess"])
            os.write(1, b"raw\\n")
            print("x" * 1_000_000)
            os.write(1, b"end\\n")
            return batch
        def shutdown():
            print("shut down", end="")
    """
    with Child(tmp_path, script) as child:
        assert child.ready().rows(b"f\xff") == b"f\xff\n"
        expected = ["imported", "out f\\udcff", "from a subprocess", "raw", "x" * 1_000_000, "end"]
        assert child.stdout.splitlines() == expected
        assert child.stderr == "err f\\udcff\n"
        assert child.finish() == 0
        assert child.stdout.endswith("end\nshut down")


def test_the_clock_tells_what_is_running_and_since_when(tmp_path: Path) -> None:
    script = f"""
        import os, time
        def gate(name):
            open(os.path.join({str(tmp_path)!r}, name + ".in"), "w").close()
            while not os.path.exists(os.path.join({str(tmp_path)!r}, name + ".go")):
                time.sleep(0.001)
        class Slow:
            def __str__(self):
                gate("encode")
                return "slow"
        def init():
            gate("init")
        def run(batch):
            gate("run")
            return [Slow()]
    """

    def reached(child: Child, name: str) -> tuple[int, int]:
        wait_until((tmp_path / f"{name}.in").exists, f"{name} is reached")
        clock = child.clock()
        (tmp_path / f"{name}.go").touch()
        return clock

    with Child(tmp_path, script) as child:
        assert reached(child, "init") == (0, 0), "import and init() have a timeout of their own"
        child.ready()
        before = time.monotonic_ns()
        child.grant(["a"])
        attempt, started = reached(child, "run")
        assert attempt == 1
        assert before <= started <= time.monotonic_ns()
        assert reached(child, "encode") == (1, started), "making rows is part of the attempt"
        outcome = child.outcome()
        assert isinstance(outcome, Succeeded)
        assert outcome.process_s >= outcome.run_s > 0
        assert child.clock() == (0, started)


def test_what_is_taken_back_is_passed_over_and_told_of(tmp_path: Path) -> None:
    script = f"""
        import os, time
        def run(batch):
            while not os.path.exists(os.path.join({str(tmp_path)!r}, "go")):
                time.sleep(0.001)
            return batch
    """
    with Child(tmp_path, script) as child:
        child.ready()
        child.grant(["a"], ["b"], ["c"], ["d"])
        wait_until(lambda: child.clock()[0] == 1, "the first is running")
        assert child.revoke(2, 3) == 1, "the first was begun last"
        (tmp_path / "go").touch()
        passed_over, ended = [], []
        while 4 not in ended:
            message = child.first()
            if isinstance(message, PassedOver):
                passed_over.append(message.attempt)
            else:
                assert isinstance(message, Outcomes)
                ended += [outcome.attempt for outcome in message.outcomes]
        assert (passed_over, ended) == ([2, 3], [1, 4])


def test_many_short_mini_batches_share_messages_and_keep_their_order(tmp_path: Path) -> None:
    with Child(tmp_path, ECHO) as child:
        child.ready()
        attempts = child.grant(*([str(number)] for number in range(2000)))
        outcomes = [child.outcome() for _ in attempts]
        assert [outcome.attempt for outcome in outcomes] == attempts
        assert child.messages < 500
        fragments = [outcome.fragment for outcome in outcomes if isinstance(outcome, Succeeded)]
        assert fragments == [f"{number}\n".encode() for number in range(2000)]


def test_what_is_finished_is_sent_before_long_work_that_may_kill(tmp_path: Path) -> None:
    script = """
        import os, time
        def run(batch):
            if batch[0] == "die":
                os._exit(9)
            time.sleep(0.003)
            return batch
    """
    with Child(tmp_path, script) as child:
        child.ready()
        child.grant(["a"], ["b"], ["c"], ["die"], ["never"])
        assert [child.outcome().attempt for _ in "abc"] == [1, 2, 3]
        assert child.ends()
        assert child.process.wait(30) == 9
        assert child.clock()[0] == 4, "its worker sees which attempt was running"


def test_a_large_fragment(tmp_path: Path) -> None:
    script = "def run(batch):\n    return ['x' * 1000] * 50_000"
    with Child(tmp_path, script) as child:
        outcome = child.ready().does("a")
        assert isinstance(outcome, Succeeded)
        assert len(outcome.fragment) == 50_050_000
        assert (outcome.rows, outcome.succeeded) == (50_000, 1)


def test_shutdown_comes_once_after_failures_too(tmp_path: Path) -> None:
    script = """
        import atexit
        atexit.register(print, "atexit")
        def init():
            print("init")
        def run(batch):
            raise ValueError
        def shutdown():
            print("shutdown")
    """
    with Child(tmp_path, script) as child:
        child.ready()
        for _ in range(3):
            assert isinstance(child.does("a"), Failed)
        assert child.finish() == 0
        assert child.stdout == "init\nshutdown\natexit\n"


@pytest.mark.parametrize("body", ["1 / 0", "raise SystemExit(7)"])
def test_an_error_in_shutdown_is_told_and_changes_nothing(body: str, tmp_path: Path) -> None:
    with Child(tmp_path, f"{ECHO}\ndef shutdown():\n    {body}") as child:
        assert child.ready().rows("a") == b"a\n"
        assert child.finish() == 0
        assert "in shutdown()" in child.errors
        assert "mpibatch: shutdown() raised " in child.stderr


def test_outcomes_are_sent_before_shutdown(tmp_path: Path) -> None:
    with Child(tmp_path, ECHO + "\nimport os\ndef shutdown():\n    os._exit(5)") as child:
        child.ready()
        child.grant(["a"], ["b"])
        child.send_raw(frame(Finish()))
        assert [child.outcome().attempt, child.outcome().attempt] == [1, 2]
        assert child.process.wait(30) == 5


def test_the_end_of_its_worker_ends_it(tmp_path: Path) -> None:
    script = ECHO + "\ndef shutdown():\n    print('not reached')"
    with Child(tmp_path, script) as child:
        assert child.ready().rows("a") == b"a\n"
        child.socket.close()
        assert child.process.wait(30) == 1
        assert child.stdout == child.stderr == ""


def test_the_end_of_its_worker_ends_it_while_it_has_something_to_say(tmp_path: Path) -> None:
    script = f"""
        import os, time
        def run(batch):
            while not os.path.exists({str(tmp_path / "go")!r}):
                time.sleep(0.001)
            return batch
    """
    with Child(tmp_path, script) as child:
        child.ready().grant(["a"])
        child.socket.close()
        (tmp_path / "go").touch()
        assert child.process.wait(30) == 1
        assert child.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_signals_of_batch_systems_are_ignored(number: signal.Signals, tmp_path: Path) -> None:
    script = """
        import os, time
        def run(batch):
            os.kill(os.getpid(), int(batch[0]))
            time.sleep(0.01)
            return batch
    """
    with Child(tmp_path, script) as child:
        assert child.ready().rows(str(int(number))) == f"{int(number)}\n".encode()
        child.process.send_signal(number)  # While it waits for work.
        assert child.rows("0") == b"0\n"
        assert child.finish() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_forked_children_and_subprocesses_die_of_signals(number: signal.Signals, tmp_path: Path) -> None:
    script = """
        import os, signal, subprocess, time
        def ended(pid):
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        def run(batch):
            number = int(batch[0])
            pid = os.fork()
            if pid == 0:
                while True:
                    time.sleep(1)
            os.kill(pid, number)  # Most likely before it has begun.
            process = subprocess.Popen(["sleep", "1000"])
            process.send_signal(number)
            return [ended(pid), process.wait()]
    """
    with Child(tmp_path, script) as child:
        first, second = map(int, child.ready().rows(str(int(number))).split())
        assert (first, second) == (-number, -number)
        assert child.finish() == 0


@pytest.mark.parametrize("end", ["return ['from the copy']", "raise ValueError"])
def test_a_forked_copy_does_not_speak_for_the_processor(end: str, tmp_path: Path) -> None:
    script = f"""
        import os, time
        def run(batch):
            pid = os.fork()
            if pid == 0:
                {end}
            status = os.waitpid(pid, 0)[1]
            open({str(tmp_path / "ended")!r}, "w").close()
            while not os.path.exists({str(tmp_path / "go")!r}):
                time.sleep(0.001)
            return [os.waitstatus_to_exitcode(status)]
    """
    with Child(tmp_path, script) as child:
        child.ready().grant(["a"])
        wait_until((tmp_path / "ended").exists, "the copy has ended")
        assert child.clock()[0] == 1, "the copy has not stopped the clock"
        (tmp_path / "go").touch()
        outcome = child.outcome()
        assert isinstance(outcome, Succeeded)
        assert outcome.fragment == b"1\n"
        assert "a process that the script forked returned from run()" in child.stderr
        assert not child.error_file.exists()
        assert child.finish() == 0


def test_a_process_that_is_left_behind_does_not_hold_the_connection(tmp_path: Path) -> None:
    script = """
        import os, time
        def run(batch):
            if os.fork() == 0:
                time.sleep(1000)
                os._exit(0)
            return batch
    """
    with Child(tmp_path, script) as child:
        assert child.ready().rows("a") == b"a\n"
        child.process.kill()
        assert child.ends()  # Although what it forked lives on.
        os.killpg(child.process.pid, signal.SIGKILL)


def test_files_of_a_forked_child_stay_open_when_it_forks_again(tmp_path: Path) -> None:
    script = """
        import os
        def status(pid):
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        def run(batch):
            pid = os.fork()
            if pid:
                return [status(pid)]
            files = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
            pid = os.fork()
            if pid:
                os._exit(status(pid))
            for file in files:
                os.fstat(file)
            os._exit(42)
    """
    with Child(tmp_path, script) as child:
        assert child.ready().rows("a") == b"42\n"


def test_neither_socket_nor_clock_is_inherited(tmp_path: Path) -> None:
    script = """
        import os, subprocess
        def run(batch):
            done = subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True)
            return [line for line in done.stdout.splitlines() if "memfd" in line or "socket" in line]
    """
    with Child(tmp_path, script) as child:
        assert child.ready().rows("a") == b""


def test_a_crash_in_c_leaves_a_python_traceback(tmp_path: Path) -> None:
    script = "import ctypes\ndef run(batch):\n    ctypes.string_at(0)"
    with Child(tmp_path, script) as child:
        child.ready().grant(["a"])
        assert child.ends()
        assert child.process.wait(30) == -signal.SIGSEGV
        assert "Fatal Python error: Segmentation fault" in child.stderr
        assert 'entry.py", line 3 in run' in child.stderr
        assert child.clock()[0] == 1


def test_threads_of_the_script_are_waited_for(tmp_path: Path) -> None:
    script = """
        import threading
        def run(batch):
            threading.Thread(target=lambda: (ended.wait(), print("thread"))).start()
            return batch
        def shutdown():
            ended.set()
        ended = threading.Event()
    """
    with Child(tmp_path, script) as child:
        assert child.ready().rows("a") == b"a\n"
        assert child.finish() == 0
        assert child.stdout == "thread\n"


def test_the_files_job_s_processor_loads_no_heavy_module(tmp_path: Path) -> None:
    script = """
        import sys
        HEAVY = {"numpy", "pandas", "mpi4py", "yaml", "rich", "click", "asyncio", "socket", "subprocess", "logging"}
        def run(batch):
            return sorted(HEAVY & set(sys.modules))
    """
    with Child(tmp_path, script) as child:
        assert child.ready().rows("a") == b""


def test_it_needs_nothing_but_msgspec_and_the_standard_library() -> None:
    code = (
        f"import sys; sys.path.append({str(HOME)!r}); before = set(sys.modules); import mpibatch.runtime.processor; "
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert set(eval(done.stdout)) <= {"mpibatch", "msgspec", "typing_extensions"}


def test_a_second_spec_is_nonsense(tmp_path: Path) -> None:
    with Child(tmp_path, ECHO) as child:
        child.ready().send_raw(frame(child.spec))
        assert child.ends()
        assert child.process.wait(30) == 1
        assert "ProcessorSpec came twice" in child.stderr


def test_what_the_script_has_left_open_is_closed_at_the_end(tmp_path: Path) -> None:
    script = f"""
        import builtins, zipfile
        folder = {str(tmp_path)!r}
        file = open(folder + "/rows.txt", "w")
        archive = zipfile.ZipFile(folder + "/rows.zip", "w")
        builtins.kept_elsewhere = open(folder + "/elsewhere.txt", "w")
        class Sink:
            def __init__(self):
                self.name = folder + "/sink.txt"
            def __del__(self):
                with open(self.name, "w") as file:
                    file.write("gone")
            def __call__(self):
                pass
        sink = Sink()
        def run(batch):
            for path in batch:
                print(path, file=file)
                print(path, file=builtins.kept_elsewhere)
                archive.writestr(path, "row")
            return batch
    """
    with Child(tmp_path, script) as child:
        child.ready()
        child.does("a", "b")
        assert child.finish() == 0
    assert (tmp_path / "rows.txt").read_text() == (tmp_path / "elsewhere.txt").read_text() == "a\nb\n"
    with zipfile.ZipFile(tmp_path / "rows.zip") as archive:
        assert archive.namelist() == ["a", "b"]
    assert (tmp_path / "sink.txt").read_text() == "gone"
