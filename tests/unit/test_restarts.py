"""The parent of a world that was started here: what it makes of the world's end, and when it starts it again.

`mpiexec` is a shell script of the test that does what rank 0 would.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import support

from mpibatch import local_world, restarts
from mpibatch.errors import LaunchError
from mpibatch.restarts import Restarts
from mpibatch.runtime.journal import HEADER_SIZE
from mpibatch.runtime.lease import process_started
from mpibatch.runtime.local_processes import processes_of


def program(file: Path, script: str) -> None:
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.fixture
def mpiexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the test writes the script. The handlers of the signals are put back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    file = tmp_path / "mpiexec"
    program(tmp_path / "mpiexec.hydra", "")
    monkeypatch.setattr(restarts, "find_mpiexec", lambda: str(file))
    monkeypatch.setattr(local_world, "LOOK_S", 0.05)
    yield file
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def run_world(folder: Path, *words: str, most: int = 0, patience_s: float = 60.0) -> int:
    return restarts.run_world(
        ["run", "my job.yaml", *words], 2, 1.5,
        Restarts(most=most, patience_s=patience_s, run_folder=str(folder / "output")),
    )  # fmt: skip


SIGNALS_UNTIL = 'lines() { wc -l < "$MPIBATCH_LOCAL/signals" 2>/dev/null || echo 0; }\n'
"""`kill` its parent, wait until `lines` says that it has taken note."""


@pytest.mark.parametrize("code", [0, 2, 3, 4, 74, 75, 130])
def test_the_exit_code_is_that_of_rank_0(code: int, mpiexec: Path, tmp_path: Path) -> None:
    program(mpiexec, f'echo {code} > "$MPIBATCH_LOCAL/exit_code"; exit 9')

    assert run_world(tmp_path) == code


def test_what_the_ranks_are_given(mpiexec: Path, tmp_path: Path) -> None:
    program(
        mpiexec,
        f'env > {tmp_path}/environment; printf "%s\\n" "$@" > {tmp_path}/words\n'
        f'cut -d" " -f5 /proc/$$/stat > {tmp_path}/group; echo $$ >> {tmp_path}/group\n'
        'echo 0 > "$MPIBATCH_LOCAL/exit_code"',
    )

    run_world(tmp_path)

    words = (tmp_path / "words").read_text().splitlines()
    assert words[:3] == ["-n", "2", sys.executable] and words[-2:] == ["run", "my job.yaml"]
    environment = dict(
        line.partition("=")[::2] for line in (tmp_path / "environment").read_text().splitlines()
    )
    assert environment["MPIBATCH_STARTED"] == environment["MPIBATCH_FIRST_STARTED"] == "1.5"
    assert environment["MPIBATCH_PARENT"].startswith(f"{os.getpid()}:")
    assert not os.path.exists(environment["MPIBATCH_LOCAL"]), "the folder between them is left"
    # A group of its own: what a terminal sends to the group of this process does not reach it.
    group, process = (tmp_path / "group").read_text().split()
    assert group == process


def test_ranks_that_are_lost(mpiexec: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program(mpiexec, 'touch "$MPIBATCH_LOCAL/begun"; exit 9')

    assert run_world(tmp_path) == 75
    assert "ranks were lost (mpiexec ended with 9)" in capfd.readouterr().err


def test_ranks_that_never_begin(mpiexec: Path, tmp_path: Path) -> None:
    program(mpiexec, "exit 213")

    with pytest.raises(LaunchError, match=r"mpiexec ended with 213 before rank 0 had begun.* 'my job.yaml'$"):
        run_world(tmp_path)


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 75), ("USR2", 75)])
def test_a_signal_is_told_of_in_the_folder(name: str, code: int, mpiexec: Path, tmp_path: Path) -> None:
    program(
        mpiexec,
        SIGNALS_UNTIL
        + f"kill -{name} $PPID; until [ $(lines) -eq 1 ]; do sleep 0.01; done\n"
        + "kill -TERM $PPID; until [ $(lines) -eq 2 ]; do sleep 0.01; done\n"
        + f'cp "$MPIBATCH_LOCAL/signals" {tmp_path}; echo 75 > "$MPIBATCH_LOCAL/exit_code"',
    )

    assert run_world(tmp_path) == code
    assert (tmp_path / "signals").read_text().split() == [f"SIG{name}", "SIGTERM"]


@pytest.mark.parametrize("code", [0, 3])
def test_an_end_in_order_is_not_changed_by_a_late_ctrl_c(code: int, mpiexec: Path, tmp_path: Path) -> None:
    program(
        mpiexec,
        SIGNALS_UNTIL
        + "kill -INT $PPID; until [ $(lines) -eq 1 ]; do sleep 0.01; done\n"
        + f'echo {code} > "$MPIBATCH_LOCAL/exit_code"',
    )

    assert run_world(tmp_path) == code


def test_the_third_signal_kills(mpiexec: Path, tmp_path: Path) -> None:
    program(
        mpiexec,
        SIGNALS_UNTIL
        + 'touch "$MPIBATCH_LOCAL/begun"; for n in 1 2; do\n'
        + "  kill -INT $PPID; until [ $(lines) -eq $n ]; do sleep 0.01; done\ndone\n"
        + "kill -INT $PPID; sleep 60",
    )

    assert run_world(tmp_path) == 130


# A lost world is started again


WORLDS = """
number=$(cat {0}/worlds 2>/dev/null || echo 0); echo $((number + 1)) > {0}/worlds
cat "$MPIBATCH_LOCAL/signals" >> {0}/signals 2>/dev/null
printf "%s " "$@" >> {0}/words; echo >> {0}/words
env | grep STARTED | sort | tr '\\n' ' ' >> {0}/started; echo >> {0}/started
touch "$MPIBATCH_LOCAL/begun"
private={0}/output/.mpibatch; mkdir -p $private
finish() {{ head -c $(({1} + 64 * $1)) /dev/zero > $private/session-000$number.journal; }}
"""
"""What each does first: counts itself, and notes what it was given. `finish N`: N mini-batches."""


def worlds(mpiexec: Path, script: str) -> None:
    program(mpiexec, WORLDS.format(mpiexec.parent, HEADER_SIZE) + script)


def started(folder: Path) -> int:
    return int((folder / "worlds").read_text())


def test_it_is_started_again_and_continues(
    mpiexec: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    worlds(mpiexec, 'finish 1; [ $number -lt 2 ] && exit 9; echo 3 > "$MPIBATCH_LOCAL/exit_code"')

    assert run_world(tmp_path, most=3) == 3

    assert started(tmp_path) == 3
    assert capfd.readouterr().err.splitlines() == [
        f"mpibatch: the MPI ranks were lost (mpiexec ended with 9); starting again ({n} of 3):"
        " what was finished is kept"
        for n in (1, 2)
    ]
    times = [line.split() for line in (tmp_path / "started").read_text().splitlines()]
    assert [first for first, _ in times] == ["MPIBATCH_FIRST_STARTED=1.5"] * 3
    assert times[0][1] == "MPIBATCH_STARTED=1.5"
    assert all(float(own.partition("=")[2]) > 1.5 for _, own in times[1:])


def test_only_so_often(mpiexec: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    worlds(mpiexec, "finish 1; exit 9")

    assert run_world(tmp_path, most=4) == 75

    assert started(tmp_path) == 5
    last = capfd.readouterr().err.splitlines()[-1]
    assert "ranks were lost (mpiexec ended with 9)" in last and "after 4 restarts" in last, last
    assert "start the same command again to continue" in last, last


def test_not_if_it_gets_nowhere(mpiexec: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A journal of its own, with nothing in it, is nothing."""
    worlds(mpiexec, "finish $((number == 2)); exit 9")

    assert run_world(tmp_path, most=9) == 75

    assert started(tmp_path) == 5, "two that got nowhere after the one that finished something"
    assert "2 of which have finished nothing" in capfd.readouterr().err.splitlines()[-1]


def test_one_that_ends_by_itself_is_not_started_again(mpiexec: Path, tmp_path: Path) -> None:
    worlds(mpiexec, 'echo 75 > "$MPIBATCH_LOCAL/exit_code"; exit 9')

    assert run_world(tmp_path, most=3) == 75
    assert started(tmp_path) == 1


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 75), ("HUP", 75), ("USR2", 75)])
def test_who_asked_for_an_end_gets_no_other_world(
    name: str, code: int, mpiexec: Path, tmp_path: Path
) -> None:
    worlds(
        mpiexec,
        SIGNALS_UNTIL
        + f"finish 1; kill -{name} $PPID; until [ $(lines) -eq 1 ]; do sleep 0.01; done; exit 9",
    )

    assert run_world(tmp_path, most=3) == code
    assert started(tmp_path) == 1


def test_the_stop_file_asks_too(mpiexec: Path, tmp_path: Path) -> None:
    """But not one that was there before, which the start itself removes."""
    worlds(mpiexec, "finish 1; [ $number -eq 1 ] && sleep 0.01 && touch $private/stop; exit 9")
    (tmp_path / "output" / ".mpibatch").mkdir(parents=True)
    (tmp_path / "output" / ".mpibatch" / "stop").touch()

    assert run_world(tmp_path, most=3) == 75
    assert started(tmp_path) == 2


def test_a_signal_between_two_worlds_reaches_the_next(
    mpiexec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worlds(mpiexec, '[ $number -eq 0 ] && exit 9; echo 75 > "$MPIBATCH_LOCAL/exit_code"')
    monkeypatch.setattr(restarts, "_say", lambda text: signal.raise_signal(signal.SIGTERM))

    assert run_world(tmp_path, most=3) == 75
    assert started(tmp_path) == 2
    assert (tmp_path / "signals").read_text() == "SIGTERM\n"


@pytest.mark.parametrize("word", ["--fresh", "--only-failed"])
def test_what_is_kept_is_not_thrown_away(
    word: str, mpiexec: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The second world is lost before it has begun on the run, the third after."""
    worlds(mpiexec, 'finish 1; [ $number -eq 1 ] && touch "$MPIBATCH_LOCAL/session"; exit 9')

    assert run_world(tmp_path, word, most=2) == 75

    given = [word in line.split() for line in (tmp_path / "words").read_text().splitlines()]
    assert given == [True, True, False]
    last = capfd.readouterr().err.splitlines()[-1]
    assert "start the same command again (without --fresh and --only-failed)" in last


def test_once_it_works_the_launcher_is_trusted(mpiexec: Path, tmp_path: Path) -> None:
    """It may fail to start a world as the last one is still being cleared away."""
    worlds(
        mpiexec,
        'finish 1; [ $number -eq 1 ] && rm "$MPIBATCH_LOCAL/begun"\n'
        '[ $number -eq 2 ] && echo 0 > "$MPIBATCH_LOCAL/exit_code"',
    )

    assert run_world(tmp_path, most=3) == 0
    assert started(tmp_path) == 3


# Worlds that do not end


BEAT = 'echo "$$:$(cut -d" " -f22 /proc/$$/stat)" | tr -d "\\n" > "$MPIBATCH_LOCAL/beat"\n'
"""This script is rank 0, as far as its parent can see."""


def test_a_frozen_rank_0_is_killed(mpiexec: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    worlds(
        mpiexec,
        '[ $number -eq 1 ] && echo 0 > "$MPIBATCH_LOCAL/exit_code" && exit\n'
        + f"finish 1; echo $$ > {tmp_path}/frozen\n{BEAT}kill -STOP $$",
    )  # fmt: skip

    assert run_world(tmp_path, most=3, patience_s=0.3) == 0

    assert started(tmp_path) == 2
    assert (
        "(rank 0 was frozen for 0.3 s, and has been killed); starting again (1 of 3)"
        in capfd.readouterr().err
    )
    assert process_started(int((tmp_path / "frozen").read_text())) is None


def test_one_that_beats_is_not_frozen(mpiexec: Path, tmp_path: Path) -> None:
    """As it is looked at ten times as often as one that does not would be."""
    program(mpiexec, f"{BEAT}sleep 1000")
    world = local_world.World(
        [str(mpiexec)], {**os.environ, "MPIBATCH_LOCAL": str(tmp_path)}, tmp_path, patience_s=0.3
    )
    beat = tmp_path / "beat"
    try:
        support.wait_until(lambda: beat.exists() and beat.read_text().count(":") == 1, "rank 0 has begun")
        for number in range(60):
            os.utime(beat, (number, number))
            assert world._running() == ""
        assert [bool(world._running()) for _ in range(6)] == [False] * 5 + [True]
    finally:
        world.kill()
        world.wait()


def test_a_launcher_without_rank_0_is_killed(
    mpiexec: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    worlds(mpiexec, 'printf 4194304:1 > "$MPIBATCH_LOCAL/beat"; sleep 60')

    assert run_world(tmp_path) == 75
    assert "rank 0 has died, and mpiexec lived on" in capfd.readouterr().err


def test_a_launcher_that_is_frozen_in_the_end_is_killed(
    mpiexec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ranks wait for it."""
    monkeypatch.setattr(local_world, "MOST_LOOKS_AT_ENDING", 10**6)
    worlds(mpiexec, 'PMI_RANK=1 sleep 1000 & echo 3 > "$MPIBATCH_LOCAL/exit_code"; kill -STOP $$')

    assert run_world(tmp_path) == 3


def test_ranks_that_do_not_end_are_killed(
    mpiexec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_world, "MOST_LOOKS_AT_ENDING", 20)
    worlds(
        mpiexec,
        f'PMI_RANK=1 sh -c "kill -STOP \\$\\$" & echo $! > {tmp_path}/frozen\n'
        'echo 0 > "$MPIBATCH_LOCAL/exit_code"; wait',
    )

    assert run_world(tmp_path) == 0
    assert process_started(int((tmp_path / "frozen").read_text())) is None


def test_nothing_outlives_the_launcher(mpiexec: Path, tmp_path: Path) -> None:
    """Neither a frozen rank, nor a guardian that was frozen before it could tidy up, which it then does. But what
    belongs to another world is left alone."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    program(tmp_path / "rm", "sleep 0.3; exec /bin/rm $*")  # It has much to remove.
    worlds(
        mpiexec,
        f"setsid sleep 60 & echo $! > {tmp_path}/rank\n"
        f"sh -c 'kill -STOP $$; exec {tmp_path}/rm -rf {scratch}' mpibatch-guardian &\n"
        'until grep -q "State:.T" /proc/$!/status; do sleep 0.01; done\n'
        "exit 9",
    )
    other = {**os.environ, "MPIBATCH_LOCAL": str(tmp_path / "another")}
    with support.Started(tmp_path, "status", tmp_path, env=other) as process:
        assert run_world(tmp_path) == 75
        assert process.wait_to_end() >= 0, "it was killed with a world that is not its own"

    assert process_started(int((tmp_path / "rank").read_text())) is None
    assert not scratch.exists()


def test_processes_of_a_world_are_told_apart(tmp_path: Path) -> None:
    with support.Started(
        tmp_path, "--help", env={**os.environ, "MPIBATCH_LOCAL": "/x", "PMI_RANK": "1"}
    ) as started_one:
        os.kill(started_one.process.pid, signal.SIGSTOP)
        support.wait_until(lambda: bool(processes_of("/x")), "it is found")
        (found,) = processes_of("/x")
        assert found == (started_one.process.pid, False, True)
        assert processes_of("/") == []
