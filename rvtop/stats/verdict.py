"""What bounds a system under load: the figures of its last seconds against the table of ``verdict_rules``.

``Judge`` takes a row of the run each second and keeps calm: another verdict has to hold for some seconds
before it takes the place of the one that stands. Pure: rows in, verdicts out."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from rvtop.stats.verdict_figures import WINDOW_S, Figures, LowerBatches, Row, Server, figures_of, is_loaded
from rvtop.stats.verdict_knobs import Knob, knob_of
from rvtop.stats.verdict_rules import RULES, STEADY_S, Rule
from rvtop.stats.verdict_said import NOT_KNOWN, Judged, Verdict
from rvtop.stats.verdict_told import TOLD

#: Seconds in a row that have to say the same before it takes the place of what was said before.
AGREE_S = 5
_KEPT_S = 3 * STEADY_S
#: Seconds without load after which there is no verdict; it begins anew with the load.
_IDLE_S = 3

#: What a figure is called where it is missing.
_WORDS: Mapping[str, str] = {
    "worst_engine": "a second engine",
    "deployments": "how many replicas there are",
    "queued": "Serve's queue",
    "places": "the engines' places",
    "running": "the batch",
    "waiting": "what waits in engines",
    "kv": "the KV cache",
    "step": "tokens a step",
    "ttft_ms": "a TTFT",
    "outside_ms": "the engine's part of the TTFT",
    "itl_ms": "the engine's ITL",
    "lower": "an ITL at half the batch or less",
}


def verdict_of(f: Figures, server: Server) -> Verdict:
    """What the figures say."""
    judged = [_judge(rule, f) for rule in RULES]
    shown = tuple(judged)
    enough = f.seconds >= WINDOW_S
    for rule, one in zip(RULES, judged, strict=True):
        if one.state == "holds" and (enough or not rule.needs):
            told = [TOLD[name](f) for name in rule.shows]
            numbers = {name: value for _, found in told for name, value in found.items()}
            knob = knob_of(rule.name, f, server)
            return _named(rule, tuple(text for text, _ in told), numbers, knob, shown)
    return _unknown(f, _not_known(f), shown)


def _unknown(f: Figures, why: str, judged: tuple[Judged, ...]) -> Verdict:
    told = [TOLD[name](f) for name in ("ttft", "batch", "wait")]
    numbers = {name: value for _, found in told for name, value in found.items()}
    return Verdict(NOT_KNOWN, why, tuple(text for text, _ in told), numbers, rules=judged)


def _named(
    rule: Rule, figures: tuple[str, ...], numbers: Mapping[str, float], knob: Knob, judged: tuple[Judged, ...]
) -> Verdict:
    return Verdict(
        rule.name, rule.words, figures, numbers, knob.text, rule.source, knob.topology, knob.arguments,
        knob.line, judged,
    )  # fmt: skip


def _judge(rule: Rule, f: Figures) -> Judged:
    missing = [need for need in rule.needs if getattr(f, need) in (None, ())]
    if missing:
        return Judged(rule.name, "unknown", f"not told: {', '.join(_WORDS[need] for need in missing)}")
    if rule.steady and f.steady_s < STEADY_S:
        return Judged(rule.name, "unknown", f"needs {STEADY_S} s of one rate, has {f.steady_s}")
    holds = rule.holds(f)
    return Judged(rule.name, "holds" if holds else "no", " · ".join(TOLD[name](f)[0] for name in rule.shows))


def _not_known(f: Figures) -> str:
    if f.seconds < WINDOW_S:
        return f"needs {WINDOW_S} s of load, has {f.seconds}"
    if f.waiting is None and f.inside_ms is None:
        return "needs the server's own figures (/metrics), and none are told"
    if f.ttft_ms is None:
        return "needs first tokens, and none came in the last 10 s"
    if f.steady_s < STEADY_S:
        return f"needs {STEADY_S} s of one rate, has {f.steady_s}"
    return "the figures fit no rule; v shows which are missing"


class Judge:
    """The verdict of a run, second by second. ``now`` is the one that stands, None before there was load."""

    def __init__(self) -> None:
        self.now: Verdict | None = None
        self._server = Server()
        self._rows: deque[Row] = deque(maxlen=_KEPT_S)
        self._lower = LowerBatches()
        self._other = ""  # what has been said in the last seconds in a row, and for how many
        self._agreed = 0

    def begin_at(self, server: Server) -> None:
        """The load goes to ``server`` from now on: what was seen of another one says nothing of it."""
        if server != self._server:
            self._server, self.now = server, None
            self._rows.clear()
            self._lower = LowerBatches()
            self._other, self._agreed = "", 0

    def look(self, row: Row) -> Verdict | None:
        """Takes one second in; the verdict if another one takes the place of what stood, else None."""
        self._rows.append(row)
        if not any(is_loaded(one) for one in list(self._rows)[-_IDLE_S:]):  # paused, held or over
            self._rows.clear()
            self.now, self._other, self._agreed = None, "", 0
            return None
        f = figures_of(tuple(self._rows), self._server)
        f = replace(f, lower=self._lower.below(f.running))
        self._lower.add(f)
        found = replace(verdict_of(f, self._server), since_s=float(row["t_s"]))
        if self.now is None:  # the first one has to hold as long as any other
            self.now = found
            if found.binds:
                why = f"needs {AGREE_S} s that say the same"
                self.now = replace(_unknown(f, why, found.rules), since_s=found.since_s)
            self._other, self._agreed = found.name, 1
            return None
        if found.name == self.now.name:
            self.now, self._agreed = replace(found, since_s=self.now.since_s), 0
            return None
        self._agreed = self._agreed + 1 if found.name == self._other else 1
        self._other = found.name
        if self._agreed < AGREE_S:
            return None
        self.now, self._agreed = found, 0
        return found
