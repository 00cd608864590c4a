"""What is known of one way while it runs: rows, tokens, how full its engines' batches were, how long it will
take. Pure: its clock is handed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["waits", "starts", "runs", "done", "failed", "interrupted"]
#: Points of the strip that are kept; where there are more, two become one.
_POINTS = 2048
#: Rows that have to be done before a time is foretold.
_FORETELLS = 3


@dataclass
class Strip:
    """The share of places that were taken, over time: equal spans of ``span_s`` seconds, each with the sum of
    busy places × seconds and of places × seconds."""

    span_s: float = 0.25
    spans: list[list[float]] = field(default_factory=list)

    def add(self, start: float, end: float, busy: float, places: float) -> None:
        """What was measured from ``start`` to ``end``, in seconds after the first row began."""
        start, end = max(0.0, start), max(0.0, end)
        if end <= start:
            return
        while int(end / self.span_s) >= _POINTS:
            pairs = [self.spans[i : i + 2] for i in range(0, len(self.spans), 2)]
            self.spans = [[sum(part) for part in zip(*pair, strict=True)] for pair in pairs]
            self.span_s *= 2
        for place in range(int(start / self.span_s), int(end / self.span_s) + 1):
            within = min(end, (place + 1) * self.span_s) - max(start, place * self.span_s)
            if within <= 0:
                continue
            while len(self.spans) <= place:
                self.spans.append([0.0, 0.0])
            self.spans[place][0] += busy * within / (end - start)
            self.spans[place][1] += places * within / (end - start)

    def shares(self, width: int) -> list[float | None]:
        """``width`` shares over all of the time so far; None where nothing was measured."""
        count = len(self.spans)
        made: list[float | None] = []
        for column in range(width if count else 0):
            start = column * count // width
            part = self.spans[start : max(start + 1, (column + 1) * count // width)]
            busy, places = (sum(values) for values in zip(*part, strict=True))
            made.append(min(1.0, busy / places) if places else None)
        return made


@dataclass
class Lane:
    """One way. ``total`` rows there are to be had, of them ``before`` were there when this began. Times are
    seconds of one clock."""

    how: str
    total: int
    engines: int = 1
    before: int = 0
    done: int = 0  # rows with an answer, those of before too
    errors: int = 0
    state: State = "waits"
    step: str = ""  # of the start
    reason: str = ""  # why it failed
    restarts: int = 0
    twice: int = 0
    slots: int | None = None  # places of one engine's batch
    tokens_in: int = 0
    tokens_out: int = 0
    rows: int = 0  # computed by this command
    began: float | None = None
    first: float | None = None  # when the first row was in an engine
    last: float | None = None  # when the newest row came
    ended: float | None = None
    steps: int = 0  # of the engines
    step_s: float = 0.0
    busy_s: float = 0.0
    place_s: float = 0.0
    wanted_s: float = 0.0
    bubble_s: float = 0.0
    strip: Strip = field(default_factory=Strip)

    @property
    def left(self) -> int:
        """Rows that are neither answered nor refused."""
        return max(0, self.total - self.done - self.errors)

    def begin(self, now: float) -> None:
        self.began, self.state = now, "starts"

    def end(self, now: float, state: State, reason: str = "") -> None:
        self.ended, self.state, self.reason, self.step = now, state, reason, ""

    def row(self, found: Mapping[str, Any], now: float) -> None:
        """A row was answered."""
        self.rows += 1
        self.done += 1
        self.last = now
        self.tokens_in += int(found["prompt_tokens"])
        self.tokens_out += len(found["token_ids"])

    def occupied(self, found: Mapping[str, Any], now: float) -> None:
        """An engine told how full its batch was. A place is a bubble while it is empty and a row is left that
        could have it."""
        self.slots = int(found["slots"])
        span, busy = float(found["span_s"]), float(found["busy_s"])
        if self.first is None:
            if not found["steps"]:
                return
            span = max(span, float(found["step_s"]))  # a step may have begun before
            self.first, self.state = now - span, "runs"
        self.steps += int(found["steps"])
        self.step_s += float(found["step_s"])
        places = span * self.slots
        busy = min(busy, places)  # a step that began before, again
        # Rows that came in this span were left at its beginning: half of a span's error at most.
        wanted = span * min(float(self.slots), self.left / self.engines)
        self.busy_s += busy
        self.place_s += places
        self.wanted_s += max(wanted, busy)
        self.bubble_s += max(0.0, wanted - busy)
        self.strip.add(now - self.first - span, now - self.first, busy, places)

    # -- figures -------------------------------------------------------------------------------------------

    @property
    def load_s(self) -> float | None:
        """From the beginning to the first row in an engine: Ray's start, imports, the model."""
        return None if self.began is None or self.first is None else self.first - self.began

    def run_s(self, now: float) -> float | None:
        """From the first row in an engine to the last one that came, or to now."""
        if self.first is None:
            return None
        end = now if self.ended is None else (self.last or self.ended)
        return max(end - self.first, 1e-9)

    def rows_per_s(self, now: float) -> float | None:
        run = self.run_s(now)
        return None if run is None or not self.rows else self.rows / run

    def tokens_per_s(self, now: float) -> float | None:
        """Output tokens."""
        run = self.run_s(now)
        return None if run is None or not self.rows else self.tokens_out / run

    @property
    def occupied_share(self) -> float | None:
        """Of all places of the engines' batches (max_num_seqs) × time, those that were taken."""
        return self.busy_s / self.place_s if self.place_s else None

    @property
    def bubble_share(self) -> float | None:
        """Of the places × time that rows could have taken, those that stood empty."""
        return self.bubble_s / self.wanted_s if self.wanted_s else None

    @property
    def sequences_a_step(self) -> float | None:
        """How many an engine computed at once, in the mean over the time of its steps."""
        return self.busy_s / self.step_s if self.step_s else None

    @property
    def step_ms(self) -> float | None:
        """What a step of an engine took, in the mean."""
        return 1e3 * self.step_s / self.steps if self.steps else None

    def eta_s(self, now: float) -> float | None:
        """Seconds until the last row, as fast as it went so far."""
        rate = self.rows_per_s(now)
        if self.state != "runs" or rate is None or self.rows < _FORETELLS:
            return None
        return self.left / rate

    def summary(self, now: float) -> dict[str, Any]:
        """The lane in ``summary.json``."""
        return {
            "state": self.state,
            "reason": self.reason or None,
            "rows": {
                "total": self.total,
                "ok": self.done,
                "errors": self.errors,
                "before": self.before,
                "computed": self.rows,
                "again": self.twice,
            },
            "tokens": {"input": self.tokens_in, "output": self.tokens_out},
            "rows_per_s": _rounded(self.rows_per_s(now)),
            "tokens_per_s": _rounded(self.tokens_per_s(now)),
            "load_s": _rounded(self.load_s),
            "run_s": _rounded(self.run_s(now)),
            "occupied_share": _rounded(self.occupied_share),
            "bubble_share": _rounded(self.bubble_share),
            "steps": self.steps,
            "step_ms": _rounded(self.step_ms),
            "sequences_a_step": _rounded(self.sequences_a_step),
            "in_steps_s": _rounded(self.step_s),
            "engines": self.engines,
            "max_num_seqs": self.slots,
            "restarts": self.restarts,
            "strip": {
                "span_s": self.strip.span_s,
                "shares": [_rounded(one) for one in self.strip.shares(120)],
            },
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
