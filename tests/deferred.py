"""Modules that take long to import, for the process that runs their tests, not for all that collect them."""

from __future__ import annotations

import importlib
from typing import Any


class Deferred:
    """Stands for the module ``name``, and imports it when something of it is first used.

    Raises ``ImportError`` then, where the module cannot be imported. It has no names that begin with an
    underscore: pytest asks for some of those when it collects."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)
