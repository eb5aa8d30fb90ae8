"""The survey of tables on the workers: its entry script, and the session that runs it."""
