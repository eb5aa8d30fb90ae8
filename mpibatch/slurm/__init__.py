"""Slurm: the batch script of a job, and its submission."""
