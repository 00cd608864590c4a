"""The one error of retrieval: bad input of any kind, told in one clear line."""

from __future__ import annotations


class RagError(Exception):
    """What is wrong, where, and how to mend it: ``str(error)`` is a single line for the user."""
