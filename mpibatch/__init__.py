"""mpibatch runs a Python entry script over a large input on an HPC cluster, as an MPI program."""

__version__ = "0.1.0"
