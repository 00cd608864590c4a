"""What serving takes beside time, as the screen shows it: power, energy and money."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spending:
    """Of the GPUs that serve, or where there is none (``on_cpu``) of this machine's processors. Power in W,
    energy in J. ``watts_idle`` is ``measured`` or else what the settings say. Figures a token, a request and
    a million tokens are of the last half minute; ``joules`` are all since the server is watched. Money is in
    the currency of the prices in the settings; without prices there is none."""

    watts: float | None = None
    watts_idle: float | None = None
    measured: bool = False
    on_cpu: bool = False
    joules: float | None = None
    joules_per_token: float | None = None
    joules_per_request: float | None = None
    money_per_hour: float | None = None
    money_per_mtok: float | None = None  # of input and output tokens alike
    money_per_mtok_in: float | None = None
    money_per_mtok_out: float | None = None
