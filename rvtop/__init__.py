"""rvtop: a live load tester and dashboard for LLM serving on Ray and vLLM."""

from pathlib import Path as _Path


def _built() -> str:
    """The version that the build wrote down: the tag's (pyproject.toml). ``importlib.metadata`` would cost
    each start 50 ms. A checkout in which nothing was built has none."""
    try:
        return _Path(__file__).with_name("_version.txt").read_text("ascii").strip()
    except OSError:
        return "0.1.dev0"


__version__ = _built()
