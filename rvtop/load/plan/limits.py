"""Bounds of a plan that the command line checks too, before anything that plans is imported."""

#: Requests of a closed loop are numbered by each worker for itself, this far apart.
MAX_WORKERS = 4096
