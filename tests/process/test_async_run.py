"""`async def run`: what a processor does with several mini-batches at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from process.child import Child
from support import TIMEOUT_S, wait_until

from mpibatch.core.framing import frame
from mpibatch.messages import Outcomes, PassedOver
from mpibatch.work import Failed, Succeeded

TOGETHER = """
    import asyncio, os
    inside, full = 0, None

    async def init():
        global full, loop
        full, loop = asyncio.Event(), asyncio.get_running_loop()

    async def together(count):
        global inside
        assert asyncio.get_running_loop() is loop
        inside += 1
        if inside == count:
            full.set()
        await full.wait()
"""
"""For entry scripts: `together(count)` waits until so many are in it at a time."""


def outcomes(child: Child, count: int) -> dict[int, Succeeded | Failed]:
    return {outcome.attempt: outcome for outcome in (child.outcome() for _ in range(count))}


def failures(child: Child, count: int) -> dict[int, Failed]:
    return {number: one for number, one in outcomes(child, count).items() if isinstance(one, Failed)}


def test_as_many_as_may_run_at_a_time(tmp_path: Path) -> None:
    script = TOGETHER + "    async def run(batch):\n        await together(32)\n        return batch\n"
    with Child(tmp_path, script, concurrency=32) as child:
        child.ready()
        attempts = child.grant(*[[f"item{n}"] for n in range(40)])
        ended = outcomes(child, 40)
        assert sorted(ended) == attempts
        assert all(isinstance(one, Succeeded) for one in ended.values())
        assert child.finish() == 0


def test_never_more(tmp_path: Path) -> None:
    script = """
        import asyncio
        now = most = 0
        async def run(batch):
            global now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            return [most]
    """
    with Child(tmp_path, script, concurrency=3) as child:
        child.ready().grant(*[["x"]] * 20)
        assert (
            max(one.fragment for one in outcomes(child, 20).values() if isinstance(one, Succeeded)) == b"3\n"
        )
    with Child(tmp_path, script) as child:
        child.ready().grant(*[["x"]] * 20)
        assert (
            max(one.fragment for one in outcomes(child, 20).values() if isinstance(one, Succeeded)) == b"1\n"
        )


def test_an_outcome_comes_when_it_is_there(tmp_path: Path) -> None:
    script = (
        TOGETHER + "    async def run(batch):\n        await together(int(batch[0]))\n        return batch\n"
    )
    with Child(tmp_path, script, concurrency=4) as child:
        child.ready()
        child.grant(["9"], ["9"], ["3"])
        first = outcomes(child, 3)
        assert len(first) == 3, "the third opened the gate"
        child.grant(["5"], ["4"])
        assert list(outcomes(child, 2)) == [4, 5]


FORMS = {
    "context": "async def run(batch, context):\n    return [context.minibatch_index]",
    "generator": "async def run(batch):\n    for item in batch:\n        await asyncio.sleep(0)\n        yield 10",
    "callable": "class Run:\n    async def __call__(self, batch):\n        return [10]\nrun = Run()",
    "partial": "async def score(value, batch):\n    return [value]\nrun = functools.partial(score, 10)",
    "wrapper": "@plain\nasync def run(batch):\n    return [10]",
    "sync generator": "async def run(batch):\n    return (10 for _ in batch)",
}


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("name", FORMS)
def test_forms_of_run(name: str, concurrency: int, tmp_path: Path) -> None:
    script = "import asyncio, functools\ndef plain(function):\n    @functools.wraps(function)\n"
    script += (
        "    def wrapper(*arguments):\n        return function(*arguments)\n    return wrapper\n"
        + FORMS[name]
    )
    with Child(tmp_path, script, concurrency=concurrency) as child:
        assert child.ready().rows("a") == b"10\n"
        assert child.finish() == 0
        assert child.stderr == ""


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("decorator", ["", "@plain"])
def test_the_number_of_the_mini_batch_is_known_in_it(
    decorator: str, concurrency: int, tmp_path: Path
) -> None:
    """By which `Run.log` names it."""
    script = f"""
        import functools
        from mpibatch.entry import MINI_BATCH
        def plain(function):
            return functools.wraps(function)(lambda *arguments: function(*arguments))
        {decorator}
        async def run(batch):
            return [MINI_BATCH.get()]
    """
    with Child(tmp_path, script, concurrency=concurrency) as child:
        assert child.ready().rows("a") == b"10\n"
        assert child.rows("b") == b"11\n"


def test_a_wrapper_that_awaits_by_itself(tmp_path: Path) -> None:
    """What it wraps is async; it is not."""
    script = """
        import asyncio, functools
        def awaited(function):
            @functools.wraps(function)
            def wrapper(*arguments):
                return asyncio.run(function(*arguments))
            return wrapper
        @awaited
        async def run(batch):
            return batch
    """
    with Child(tmp_path, script) as child:
        assert child.ready().rows("a") == b"a\n"


@pytest.mark.parametrize("run", ["def run(batch): return batch", "async def run(batch): return batch"])
def test_async_init_and_shutdown(run: str, tmp_path: Path) -> None:
    script = f"""
        import asyncio, contextvars
        kept = contextvars.ContextVar("kept")
        async def init():
            global loop
            loop = asyncio.get_running_loop()
            kept.set("kept")
        {run.replace("return batch", "return [kept.get(None), loop.is_closed()]")}
        async def shutdown():
            assert asyncio.get_running_loop() is loop
            await asyncio.sleep(0)
            print("shut down")
    """
    with Child(tmp_path, script) as child:
        rows = child.ready().rows("a")
        assert rows == (b"kept\nFalse\n" if run.startswith("async") else b"None\nFalse\n")
        assert child.finish() == 0
        assert (child.stdout, child.stderr) == ("shut down\n", "")


def test_init_that_fails(tmp_path: Path) -> None:
    with Child(tmp_path, "async def init(): raise OSError('no server')\nasync def run(x): pass") as child:
        failed = child.init_failed()
        assert (failed.error.type, failed.error.message, failed.unusable) == ("OSError", "no server", False)


def test_several_at_a_time_need_an_async_run(tmp_path: Path) -> None:
    with Child(tmp_path, "def run(batch): return batch", concurrency=8) as child:
        failed = child.init_failed()
        assert failed.unusable
        assert "is not async, so that no 8 mini-batches can run" in failed.error.message
        assert "raise process_count_per_node" in failed.error.message


def test_a_plain_function_that_returns_a_coroutine(tmp_path: Path) -> None:
    script = "async def score(batch): return batch\ndef run(batch): return score(batch)"
    with Child(tmp_path, script) as child:
        failed = child.ready().fails("a")
        assert "run() returned a coroutine (it is never awaited: make run() itself an async def)" in (
            failed.error.message
        )


# What fails fails alone

FAILS = {
    "raises": ("raise ValueError('bad')", "raised", "ValueError", "bad"),
    "exits": ("sys.exit(3)", "raised", "SystemExit", "3: the script called sys.exit(3) in run()"),
    "interrupts": ("raise KeyboardInterrupt", "raised", "KeyboardInterrupt", "in run(), line"),
    "a child exits": (
        "await asyncio.gather(exits())",
        "raised",
        "SystemExit",
        "3: the script called sys.exit(3)",
    ),
    "cancels itself": ("asyncio.current_task().cancel()", "raised", "CancelledError", "in run(), line"),
    "a future is cancelled": (
        "f = loop.create_future(); f.cancel(); await f",
        "raised",
        "CancelledError",
        "in run(), line",
    ),
    "nothing": ("pass", "bad_return", "BadReturn", "run() returned None"),
    "surrogate": ("return ['\\ud800']", "not_encodable", "NotEncodable", "element 0"),
    "hangs": (
        "await asyncio.sleep(100)",
        "timed_out",
        "TimedOut",
        "over run_invocation_timeout: 0.5 s (pid ",
    ),
    "hangs and says something else": (
        "try: await asyncio.sleep(100)\n    finally: raise ValueError('broken off')",
        "timed_out",
        "TimedOut",
        "it was cancelled: over run_invocation_timeout: 0.5 s",
    ),
    "hangs and returns": (
        "try: await asyncio.sleep(100)\n    except asyncio.CancelledError: return ['late']",
        "timed_out",
        "TimedOut",
        "in mini-batch 11, attempt 2)",
    ),
}


@pytest.mark.parametrize("name", FAILS)
def test_a_failure_is_that_of_one(name: str, tmp_path: Path) -> None:
    body, cause, kind, words = FAILS[name]
    script = (
        "import asyncio, sys\nasync def init():\n    global loop\n    loop = asyncio.get_running_loop()\n"
    )
    script += "async def exits(): sys.exit(3)\n"
    script += (
        "async def run(batch):\n    await asyncio.sleep(0.02)\n    if batch[0] == 'good': return batch\n"
    )
    script += f"    {body}\n    await asyncio.sleep(0)\n"
    with Child(tmp_path, script, concurrency=3, run_timeout_s=0.5 if kind == "TimedOut" else 600.0) as child:
        child.ready().grant(["good"], ["bad"], ["good"])
        ended = outcomes(child, 3)
        failed = ended[2]
        assert isinstance(failed, Failed)
        assert (failed.cause, failed.error.type) == (cause, kind)
        assert words in failed.error.message
        assert "_step_by_step" not in failed.error.details
        assert "mini-batch 11, attempt 2 (retry 0), items 0 to 0 of it\n    bad\n" in child.errors
        assert [ended[number].attempt for number in (1, 3) if isinstance(ended[number], Succeeded)] == [1, 3]
        assert child.rows("good") == b"good\n"
        assert child.finish() == 0


def test_a_timeout_says_for_what_it_waited(tmp_path: Path) -> None:
    script = """
        import asyncio
        async def asks_the_server():
            await asyncio.sleep(100)
        async def run(batch):
            await asks_the_server()
    """
    with Child(tmp_path, script, concurrency=2, run_timeout_s=0.1) as child:
        assert "in asks_the_server\n" in child.ready().fails("a").error.details


def test_full_memory_ends_it_after_a_success(tmp_path: Path) -> None:
    """Its worker starts another one; what is not its fault is told before."""
    script = "async def run(batch):\n    if batch[0] == 'bad': raise MemoryError\n    return batch"
    with Child(tmp_path, script, concurrency=2) as child:
        assert child.ready().rows("good") == b"good\n"
        assert child.fails("bad").error.type == "MemoryError"
        assert child.ends()


def test_what_a_mini_batch_leaves_running_is_cancelled_at_the_end(tmp_path: Path) -> None:
    script = """
        import asyncio
        kept = []
        async def stays():
            try:
                await asyncio.sleep(100)
            finally:
                print("cancelled")
        async def run(batch):
            kept.append(asyncio.create_task(stays()))
            await asyncio.sleep(0)
            return batch
        def shutdown():
            print("shut down")
    """
    with Child(tmp_path, script, concurrency=2) as child:
        assert child.ready().rows("a") == b"a\n"
        assert child.finish() == 0
        assert child.stdout == "shut down\ncancelled\n"


def test_what_is_taken_back_is_passed_over(tmp_path: Path) -> None:
    script = """
        import asyncio, os
        async def run(batch):
            while not os.path.exists(batch[0]):
                await asyncio.sleep(0.005)
            return batch
    """
    gate = tmp_path / "gate"
    with Child(tmp_path, script, concurrency=2) as child:
        child.ready().grant([str(gate)], [str(gate)])
        wait_until(lambda: child.latest() == 2, "both run")
        child.grant([str(gate)], [str(gate)], [str(gate)])
        assert child.revoke(4, 5) == 2
        gate.touch()
        told: list[int] = []
        passed_over: list[int] = []
        while len(told) + len(passed_over) < 5:
            match child.first():
                case Outcomes(ended):
                    told += [outcome.attempt for outcome in ended]
                case PassedOver(attempt):
                    passed_over.append(attempt)
        assert (sorted(told), passed_over) == ([1, 2, 3], [4, 5])
        assert child.rows(str(gate)) == f"{gate}\n".encode()


def test_one_that_is_alone_begins_after_all_before_it_and_before_all_behind_it(tmp_path: Path) -> None:
    script = """
        import asyncio
        now = 0
        async def run(batch):
            global now
            now += 1
            beside = now
            await asyncio.sleep(0.02)
            beside = max(beside, now)
            now -= 1
            return [beside]
    """
    with Child(tmp_path, script, concurrency=4) as child:
        child.ready().grant(["a"], ["b"], alone=False)
        child.grant(["c"], alone=True)
        child.grant(["d"], ["e"], alone=False)
        rows = {n: one.fragment for n, one in outcomes(child, 5).items() if isinstance(one, Succeeded)}
        assert rows == {1: b"2\n", 2: b"2\n", 3: b"1\n", 4: b"2\n", 5: b"2\n"}


def test_the_clock_tells_all_that_runs(tmp_path: Path) -> None:
    script = TOGETHER + "    async def run(batch):\n        await together(4)\n        return batch\n"
    with Child(tmp_path, script, concurrency=4) as child:
        child.ready().grant(["a"], ["b"], ["c"])
        wait_until(lambda: child.running() == [1, 2, 3], "three run")
        child.grant(["d"])
        outcomes(child, 4)
        wait_until(lambda: child.running() == [], "nothing runs")


def test_nonsense_ends_it(tmp_path: Path) -> None:

    with Child(tmp_path, "async def run(batch): return batch") as child:
        child.ready().send_raw(frame(child.spec))
        assert child.ends()
        assert child.process.wait(30) == 1
        assert "ProcessorSpec came twice" in child.stderr


def test_who_cannot_be_told_ends_it(tmp_path: Path) -> None:
    """A script that closes what is not its own. The loop itself would only tell of it, and go on for ever."""
    script = """
        import asyncio, os
        async def run(batch):
            for name in map(int, os.listdir("/proc/self/fd")):
                try:
                    if os.readlink(f"/proc/self/fd/{name}").startswith("socket"):
                        os.close(name)
                except FileNotFoundError:  # That of the folder itself.
                    pass
            return batch
    """
    with Child(tmp_path, script) as child:
        child.ready().grant(["a"])
        assert child.process.wait(TIMEOUT_S) == 1
        assert "Bad file descriptor" in child.stderr


@pytest.mark.parametrize("way", ["return ['child']", "await asyncio.sleep(0); print('went on', flush=True)"])
def test_a_child_that_comes_out_of_run_speaks_for_nobody(way: str, tmp_path: Path) -> None:
    script = f"""
        import asyncio, os
        async def run(batch):
            pid = os.fork()
            if not pid:
                {way}
            return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]
    """
    with Child(tmp_path, script, concurrency=2) as child:
        assert child.ready().rows("a") == b"1\n"
        assert "a process that the script forked returned from run()" in child.stderr
        assert child.stdout == ""


def test_many_short_ones_come_together(tmp_path: Path) -> None:
    with Child(tmp_path, "async def run(batch): return batch", concurrency=64) as child:
        child.ready().grant(*[["x"]] * 640)
        assert len(outcomes(child, 640)) == 640
        assert child.messages < 200
