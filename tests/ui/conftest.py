from __future__ import annotations

import time
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Event times are local times: fix the zone, and what else of the environment shows on the screen."""
    monkeypatch.setenv("TZ", "UTC")
    for name in ("RVTOP_THEME", "COLORFGBG", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
