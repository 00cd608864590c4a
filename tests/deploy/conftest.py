"""Fixtures that the tests of written files share with those of backends."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """The local model, built on first use and cached beyond the session."""
    from backends.models.tiny.tiny import ensure_model

    return ensure_model("tiny")
