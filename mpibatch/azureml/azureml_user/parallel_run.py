"""`EntryScript().logger`, `log_dir`, `agent_name`, `output_dir`, as Azure ML's scripts ask for them.

Outside of a processor, as in a notebook or a test at home, the logger writes to stderr, both folders are below
`mpibatch_outputs` in the current one, and the agent is called process000.
"""

from mpibatch.entry import EntryScript

__all__ = ["EntryScript"]
