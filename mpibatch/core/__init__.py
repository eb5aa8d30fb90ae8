"""Decisions. No clock, file, process, MPI, thread, randomness or logging here: a test reads the imports."""
