"""The one error of retrieval: bad input of any kind, as one clear line."""

from __future__ import annotations


class RagError(Exception):
    """What is wrong, where, and the fix: ``str(error)`` is a single line for the user."""
