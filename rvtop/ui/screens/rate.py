"""A small box to type a rate into: at once, as a ramp or as a spike; or a closed loop."""

from __future__ import annotations

from collections.abc import Sequence

from rvtop.contract.command import SetConcurrency, SetRate
from rvtop.ui.format import rate
from rvtop.ui.rate_phrase import Bounds, parse_phrase, preview
from rvtop.ui.screens.dialog import Asked, TypedDialog


class RateScreen(TypedDialog[SetRate | SetConcurrency]):
    """Returns the command that was typed. ``begin`` stands in the box already; ``missed``: rates at which
    the SLO was missed before."""

    def __init__(self, bounds: Bounds, missed: Sequence[float] = (), begin: str = "") -> None:
        now = f"{bounds.at_once} at once" if bounds.at_once else rate(bounds.now)
        hint = f"requests a second, now {now}"
        if bounds.most is not None:
            hint += f", at most {rate(bounds.most)}"
        examples = "12.5   x2   40 in 30s   90 for 10s   closed 32"
        if bounds.at_once:
            examples = "12.5   closed 64"
        asked = Asked("set the rate", "enter sets it   esc leaves it", hint, examples, 48, begin)
        super().__init__(
            asked,
            lambda text: parse_phrase(text, bounds),
            preview=lambda command: preview(command, bounds, missed),
        )
