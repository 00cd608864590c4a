"""What makes a process of ours start sooner. Called before anything else is imported, so it imports next to
nothing."""

import gc
import os
import sys

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


def collect_seldom() -> None:
    """Has the garbage collector look after 50 000 new objects, not 700: importing makes hundreds of thousands
    that stay, and a fifth of its time went into looking through them."""
    gc.set_threshold(50_000, 50, 100)


def import_numpy() -> None:
    """Imports NumPy without the threads of its linear algebra, which nothing of ours uses. Starting them
    takes a quarter of its import, and system calls of a process with threads cost more. The environment of
    what this process starts stays as it is."""
    if "numpy" in sys.modules or _BLAS_THREADS in os.environ:
        return
    os.environ[_BLAS_THREADS] = "1"  # read once, while NumPy is loaded
    try:
        import numpy  # noqa: F401
    finally:
        del os.environ[_BLAS_THREADS]
