"""The loop of rvc's autoscaling, which one odd answer does not end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from backends.scaling import scaler
from backends.settings.autoscale import Autoscale


async def test_one_odd_answer_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaler, "STEP_S", 0.0)
    looked, twice = 0, asyncio.Event()

    async def in_flight() -> Mapping[str, int]:
        nonlocal looked
        looked += 1
        if looked == 1:
            raise KeyError("what the router did not say")
        twice.set()
        return {}

    made = scaler.Scaler(Autoscale(), [], in_flight, cast("Any", None), {}, {})
    made.start()
    async with asyncio.timeout(10):
        await twice.wait()
    await made.close()
