"""How long a request may wait for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timeouts:
    """Seconds; None waits for ever. Connect: until the connection stands. TTFT: from the send to the first
    token. Stall: without a byte once tokens flow."""

    connect_s: float = 5.0
    ttft_s: float | None = None
    stall_s: float | None = 60.0
