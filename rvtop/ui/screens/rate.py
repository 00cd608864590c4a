"""A small box to type a rate into: at once, as a ramp or as a spike."""

from __future__ import annotations

from collections.abc import Sequence

from rvtop.contract.command import SetRate
from rvtop.ui.format import rate
from rvtop.ui.rate_phrase import Bounds, parse_phrase, preview
from rvtop.ui.screens.dialog import Asked, TypedDialog


class RateScreen(TypedDialog[SetRate]):
    """Returns the command that was typed. ``begin`` stands in the box already; ``missed``: rates at which
    the SLO was missed before."""

    def __init__(self, bounds: Bounds, missed: Sequence[float] = (), begin: str = "") -> None:
        hint = f"requests a second, now {rate(bounds.now)}"
        if bounds.most is not None:
            hint += f", at most {rate(bounds.most)}"
        examples = "12.5   +10%   x2   40 in 30s   90 for 10s"
        asked = Asked("set the rate", "enter sets it   esc leaves it", hint, examples, 48, begin)
        super().__init__(
            asked,
            lambda text: parse_phrase(text, bounds),
            preview=lambda command: preview(command, bounds.now, missed),
        )
