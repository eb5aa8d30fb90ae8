"""The truths that all tests of this folder compare with, and the table of `make faults`."""

from __future__ import annotations

from faults.table import pytest_terminal_summary
from faults.truths import truths

__all__ = ["pytest_terminal_summary", "truths"]
