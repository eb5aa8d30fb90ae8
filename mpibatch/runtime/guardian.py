"""Who outlives a worker, however that dies, and clears up after it."""

from __future__ import annotations

import subprocess

_PATIENCE_S = 1.0
"""How long a guardian that is dismissed has to end."""

# The file in a shell of its own: where it cannot be made, a shell that reads a script ends.
# The folder more than once: what was killed may make its last file while it is emptied.
_GUARDIAN = """
trap '' TERM INT HUP USR1 USR2
group=0
while read -r line; do group=$line; done
[ "$group" = end ] && exit 0
[ "$group" -gt 0 ] 2>/dev/null && kill -9 "-$group"
[ -n "$2" ] && (: > "$2")
tries=0
while ! rm -rf -- "$1" && [ $tries -lt 50 ]; do tries=$((tries + 1)); sleep 0.1; done
"""


class Guardian:
    """A tiny process that kills the processor, with all its group, when its worker has died. It then makes
    `lost_file`, so that rank 0 can know, and removes the scratch folder. The end of a pipe tells it."""

    def __init__(self, scratch: str, lost_file: bytes = b"") -> None:
        """`lost_file`: in a folder that is there; empty: none."""
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _GUARDIAN, "mpibatch-guardian", scratch, lost_file],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            start_new_session=True, bufsize=0,
        )  # fmt: skip

    def watch(self, group: int) -> None:
        """From now on this is the group to kill; 0: none."""
        self._tell(f"{group}\n")

    def dismiss(self) -> None:
        """The worker ends in order: nothing is to be killed, and nobody is lost."""
        self._tell("end\n")
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:  # Somebody has stopped it.
            self._process.kill()
            self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode())
        except BrokenPipeError:  # Somebody killed it; the processor still ends by its socket's end.
            pass
