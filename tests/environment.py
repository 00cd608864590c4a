"""The environment of all tests, the same on every machine: nothing that runs, ran or is configured there
changes what a test sees."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: All that a test sees of the caller's environment: where programs, libraries, the source documents and CRDs
#: are, and pytest's own.
KEPT = ("PATH", "LD_LIBRARY_PATH", "CC", "RVTOP_SOURCES", "RVTOP_CRDS")
KEPT_PREFIXES = ("PYTEST_", "TEXTUAL_SNAPSHOT_", "COV_", "COVERAGE_")


def clean(given: Mapping[str, str], folder: Path, cache: Path) -> dict[str, str]:
    """The environment of a test run: what is kept of ``given``, an empty home and places in ``folder``, what
    takes long to build in ``cache``; no GPU, model hub, proxy or cluster, and nothing that reports home."""
    kept = {name: value for name, value in given.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
    return kept | {
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(cache / "xdg"),
        "RVTOP_CACHE": str(cache / "rvtop"),
        "RVTOP_SHARED": str(folder / "shared"),  # not there: the experiment's layout is a test's own affair
        "RAY_TMPDIR": str(folder),  # a path with sockets below it, so a short one
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "120",  # 30 are too few beside other work
        # Threads of torch wait for each other by spinning: beside other tests 51 CPU-s for what takes one 3.
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",  # torch's CPU build would be given GPUs by Ray
        "HF_HUB_OFFLINE": "1",
        "TERM": "xterm-256color",
        "LC_ALL": "C.UTF-8",
    }


@contextlib.contextmanager
def surroundings() -> Iterator[None]:
    """Sets them for this process and its children: environment, umask, working folder; afterwards sets back
    what was."""
    before, umask, here = dict(os.environ), os.umask(0o022), os.getcwd()
    folder = Path(tempfile.mkdtemp(prefix="rvt-", dir="/tmp"))
    try:
        (folder / "home").mkdir()
        cache = ROOT / ".pytest_cache" if os.access(ROOT, os.W_OK) else folder / "cache"
        _replace(clean(before, folder, cache))
        tempfile.tempdir = None  # or a TMPDIR that was read before stays
        os.chdir(ROOT)
        yield
    finally:
        _replace(before)
        tempfile.tempdir = None
        os.umask(umask)
        with contextlib.suppress(OSError):  # it may be gone
            os.chdir(here)
        shutil.rmtree(folder, ignore_errors=True)


def _replace(environ: Mapping[str, str]) -> None:
    """Touches only what differs."""
    for name in [name for name in os.environ if name not in environ]:
        del os.environ[name]
    for name, value in environ.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


@contextlib.contextmanager
def unchanged() -> Iterator[None]:
    """Whatever happens to the environment inside is undone."""
    before = dict(os.environ)
    try:
        yield
    finally:
        _replace(before)
