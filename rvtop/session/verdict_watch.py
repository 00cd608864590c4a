"""Says each second of a load what binds the system (``stats.verdict``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from rvtop.session.live import LiveState
from rvtop.session.load_parts import Second
from rvtop.session.load_target import LoadTarget
from rvtop.session.view import limited_since
from rvtop.stats.comb import Comb
from rvtop.stats.verdict import Judge
from rvtop.stats.verdict_figures import Server
from rvtop.stats.verdict_said import Verdict


class VerdictWatch:
    """``verdict`` is what there is to show. ``say(text, level, kind)`` adds an event where one that names
    something begins. ``workers`` is as ``--workers`` has it."""

    def __init__(self, say: Callable[[str, str, str], None], target: LoadTarget, workers: str) -> None:
        self._say = say
        self._target = target
        self._workers = workers
        self._judge = Judge()

    @property
    def verdict(self) -> Verdict | None:
        """The one that stands; None while there is no load."""
        return self._judge.now

    def look(self, live: LiveState, since_ns: int, second: Second, comb: Comb | None) -> None:
        """Once a second, before it is written: what is found becomes a part of its row. ``since_ns``: when
        the phase began; ``comb``: as tokens come now."""
        row = second.row
        row["comb_ms"] = None if comb is None else comb.period_ms
        row["client_limited"] = limited_since(live, second.now_ns, since_ns, self._workers)
        self._judge.begin_at(self._server())
        changed = self._judge.look(row)
        now = self._judge.now
        row["verdict"] = None if now is None else _as_row(now)
        if changed is not None and changed.binds:
            self._say(said(changed), "warn", "verdict")

    def _server(self) -> Server:
        target, info = self._target, self._target.info
        own = target.own
        knobs = info.knobs if info is not None else ()
        steps = [n for knob in knobs if isinstance(n := knob.get("step_tokens"), int)]
        return Server(
            topology=target.topology or (info.topology if info is not None else None),
            owned=own is not None,
            engine=info.engine if info is not None else None,
            arguments=tuple(own.options.arguments) if own is not None else (),
            places=dict(info.places) if info is not None else {},
            step_tokens=min(steps, default=None),
            gpus=any(knob.get("devices") for knob in knobs),
            replicas=max(Counter(knob.get("model") for knob in knobs).values(), default=None),
        )


def said(verdict: Verdict) -> str:
    """A verdict in one line: what binds, the figures that say so, what changes it."""
    figures = " · ".join(verdict.figures)
    return f"{verdict.title}: {figures}" + (f"; {verdict.knob}" if verdict.knob else "")


def _as_row(verdict: Verdict) -> dict[str, object]:
    if not verdict.binds:
        return {"name": verdict.name}
    return {
        "name": verdict.name,
        "text": " · ".join(verdict.figures),
        "why": verdict.why,
        "figures": dict(verdict.numbers),
        "knob": verdict.knob,
    }
