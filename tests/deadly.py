"""Files, and readers, that kill the process which looks at them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import support

_OPTIONAL, _REQUIRED = b"%\x02\x18\x01x", b"%\x00\x18\x01x"
"""What the footer says of the column x in front of its name."""


def deadly_parquet(path: Path) -> None:
    """A Parquet file with one flipped bit, of which pyarrow aborts (seen with 26.0): its column has fewer levels
    than its statistics tell of, and no C++ code catches the exception. Skips where it does not abort."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [1, 2, None]}), path)
    whole = path.read_bytes()
    assert whole.count(_OPTIONAL) == 1
    path.write_bytes(whole.replace(_OPTIONAL, _REQUIRED))
    look = (
        "import sys\nfrom mpibatch.inputs.parquet_footers import Footers, answer\n"
        "answer(Footers([sys.argv[1].encode()], None))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", look, str(path)], env=support.from_anywhere(), capture_output=True, check=False
    )
    if ended.returncode >= 0:
        pytest.skip("this pyarrow does not die of the file")


def deadly_reader(folder: Path, deed: str) -> dict[str, str]:
    """Variables for processes in which looking at the footer of a Parquet file whose name has "deadly" in it does
    `deed`: Python statements, in which `path` is that file."""
    folder.mkdir()
    deed = textwrap.indent(textwrap.dedent(deed), " " * 12)
    (folder / "sitecustomize.py").write_text(f"""
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != "mpibatch.inputs.parquet_survey":
            return None
        sys.meta_path.remove(self)
        from mpibatch.inputs import parquet_footers
        before = parquet_footers._footer
        def footer(path, *more):
            if b"deadly" not in path:
                return before(path, *more)
            import os, signal, time
{deed}
            return before(path, *more)
        parquet_footers._footer = footer
        return None

sys.meta_path.insert(0, Finder())
""")
    variables = support.from_anywhere()
    return {**variables, "PYTHONPATH": f"{folder}:{variables['PYTHONPATH']}"}
