"""Loops and devices: the coordinator, the workers, the processors and what they run on."""
