"""httpx without its command line, whose rich, Pygments and click take most of the time of importing it.

httpx goes without it where ``httpx._main`` can't be imported.
"""

import sys

_COMMAND_LINE = "httpx._main"
_hidden = _COMMAND_LINE not in sys.modules
if _hidden:
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]  # importing it is an ImportError

import httpx  # noqa: E402

if _hidden:
    del sys.modules[_COMMAND_LINE]

__all__ = ["httpx"]
