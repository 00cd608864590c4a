"""Bounds that the command line checks too, before anything that plans or sends is imported."""

import resource

#: Requests of a closed loop are numbered by each worker for itself, this far apart.
MAX_WORKERS = 4096

#: Descriptors of a worker that are no connections: pipes, the poller, files, libraries.
_OWN_FILES = 64


def worker_files(limit: int) -> int:
    """Connections that one worker may hold whose limit of open files is ``limit``."""
    unlimited = limit == resource.RLIM_INFINITY
    return 1 << 30 if unlimited else max(1, limit - _OWN_FILES)
