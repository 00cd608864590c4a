"""Which panels are folded because they have nothing to say: seldom changed, so that the screen stands still.
Pure: the time is the snapshot's."""

from __future__ import annotations

from collections.abc import Mapping

#: A panel that had nothing to say for so long is folded, seconds.
QUIET_S = 30.0
#: At most one panel is folded or unfolded in so many seconds.
APART_S = 10.0


class Folding:
    """Folds panels that are quiet, and unfolds them as soon as they are not."""

    def __init__(self) -> None:
        self.folded: frozenset[str] = frozenset()
        self._spoke_at: dict[str, float] = {}  # when each panel last had something to say
        self._unheard: set[str] = set()  # folded from the begin, and quiet ever since
        self._changed_at: float | None = None
        self._now: float | None = None

    def observe(self, t_s: float, quiet: Mapping[str, bool], *, hold: bool) -> frozenset[str]:
        """Takes in which panels have nothing to say at ``t_s``, and returns those that are folded.

        ``hold``: nothing changes now. What is quiet when it is first seen is folded from the begin, and
        unfolded with its first words, however soon after another change: when a load begins all panels begin
        to speak within seconds, and would be unfolded one in ten seconds.
        """
        if self._now is not None and t_s < self._now:  # another session
            self.folded, self._changed_at = frozenset(), None
            self._spoke_at.clear()
            self._unheard.clear()
        self._now = t_s
        first = {name for name, still in quiet.items() if name not in self._spoke_at}
        for name, still in quiet.items():
            if not still:
                self._spoke_at[name] = t_s
            elif name in first:
                self._spoke_at[name] = t_s - QUIET_S
        self._unheard |= {name for name in first if quiet[name]}
        self.folded |= {name for name in first if quiet[name]}
        self.folded &= set(self._spoke_at)
        if hold:
            return self.folded
        begin = {name for name in self._unheard if not quiet.get(name, True)}
        self._unheard -= begin
        self.folded -= begin
        if begin or (self._changed_at is not None and t_s - self._changed_at < APART_S):
            return self.folded
        # To see what begins matters more than to save rows.
        speaks = next((n for n in sorted(self.folded) if not quiet.get(n, True)), None)
        silent = next((n for n in sorted(quiet) if self._silent(n, quiet, t_s)), None)
        if speaks is not None:
            self.folded -= {speaks}
        elif silent is not None:
            self.folded |= {silent}
        else:
            return self.folded
        self._changed_at = t_s
        return self.folded

    def _silent(self, name: str, quiet: Mapping[str, bool], t_s: float) -> bool:
        return quiet[name] and name not in self.folded and t_s - self._spoke_at[name] >= QUIET_S
