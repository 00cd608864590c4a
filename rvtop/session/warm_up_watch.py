"""Says while a run goes on that its first measured phase began with a warm-up (``stats.warm_up``).

The summary finds it by each request; this is by the means of seconds, and only in phases that last."""

from __future__ import annotations

import numpy as np

from rvtop.load.plan.schedule import PhasePlan
from rvtop.session.live import LiveState
from rvtop.session.load_parts import Parts, Second
from rvtop.session.player import Player
from rvtop.stats.warm_up import BATCH, LEAST_BATCHES, warm_up
from rvtop.text import digits, phase_words

#: Seconds between two looks, and before the first.
_EVERY = 10
_FIRST = BATCH * LEAST_BATCHES


class WarmUpWatch:
    """Looks at the load of ``parts``, whose figures are ``live``, as ``player`` plays it."""

    def __init__(self, parts: Parts, live: LiveState, player: Player) -> None:
        self._parts = parts
        self._live = live
        self._player = player
        self._index: int | None = None  # of the phase that is looked at
        self._planned: float | None = None
        self._means: list[float] = []  # of TTFT, ms a second
        self._over = False

    def look(self, second: Second) -> None:
        """Once a second."""
        phase, planned = self._player.phase, second.row["target_rps"]
        if self._over or phase is None or (self._index is None and (phase.warmup or not planned)):
            return
        if self._index is None:
            self._index, self._planned, self._over = self._player.index, planned, not _is_even(phase)
            return  # of the second in which it began a part is of what was before
        if self._player.index != self._index or planned != self._planned:
            self._over = True  # the load is another one from here on
            return
        last = self._live.last_full(second.now_ns)
        if last is not None and last.ttft.count:
            self._means.append(last.ttft.mean_ns / 1e6)
        if len(self._means) >= _FIRST and len(self._means) % _EVERY == 0:
            self._judge(phase)

    def _judge(self, phase: PhasePlan) -> None:
        means = np.array(self._means)
        cut = warm_up(means)
        if not cut or 4 * cut > means.size:  # what is steady has to be seen for long
            return
        self._over = True
        self._parts.feed.say(
            f"warm-up: TTFT of {phase_words(phase.name)} is steady since its second {cut}: mean "
            f"{digits(means[:cut].mean())} ms before, {digits(means[cut:].mean())} ms since; "
            "--exclude-warm-up auto leaves it out",
            kind="phase",
        )


def _is_even(phase: PhasePlan) -> bool:
    """Whether the phase plans one rate from its beginning to its end."""
    return phase.rate_from == phase.rate_to and not (phase.changes or phase.trace or phase.burst)
