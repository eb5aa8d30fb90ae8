"""A worker in a process of its own, for tests that kill it: the folder is its argument, rank 0's words lie in it.

    python worker_alone.py FOLDER

FOLDER/setup, a WorkerSetup, is its first word; FOLDER/grants, a list of them, come next. What it says is appended
to FOLDER/said by the names of the messages. When FOLDER/release appears it is released at once, when FOLDER/abandon
does it is abandoned, and its process ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from mpibatch.core.framing import decoder, encode
from mpibatch.messages import Grant, Release, ToCoordinator, WorkerSetup
from mpibatch.runtime.transport import LocalPort
from mpibatch.runtime.waiting import Backoff
from mpibatch.runtime.worker import Worker


def main(folder: Path) -> None:
    ours, theirs = LocalPort.pair()
    worker = Worker(theirs, rank=1, host="here")
    setup = msgspec.msgpack.decode((folder / "setup").read_bytes(), type=WorkerSetup)
    grants = msgspec.msgpack.decode((folder / "grants").read_bytes(), type=list[Grant])
    for message in (setup, *grants):
        ours.send(0, encode(message))
    backoff = Backoff()
    released = False
    with open(folder / "said", "a", buffering=1) as said:
        while not os.path.exists(folder / "abandon"):
            if not released and os.path.exists(folder / "release"):
                released = True
                ours.send(0, encode(Release(True)))
            found = worker.step()
            for _, body in ours.receive():
                print(type(decoder(ToCoordinator)(body)).__name__, file=said)
            backoff.rest(found, worker.fds(), patience_s=worker.patience_s)
    worker.abandon()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
