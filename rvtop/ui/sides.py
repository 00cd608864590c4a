"""What can be compared: the load of now, the ghost of before, a showdown's rows, stored runs. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from rvtop.contract.pairs import Pairs
from rvtop.contract.showdown import Score
from rvtop.contract.snapshot import Dist, Snapshot
from rvtop.results.compare import ALL, COMPLETED, SPAN, Comparison, Side, compare
from rvtop.ui.format import rate, wall
from rvtop.ui.ghost import Ghost, completion

LIVE, GHOST = "live", "ghost"
PAIR_A, PAIR_B = "pair a", "pair b"
_ROW, _RUN = "row ", "run "


def row_key(name: str) -> str:
    """What a row of a showdown is chosen by."""
    return _ROW + name


def run_key(folder: str) -> str:
    """What a stored run is chosen by."""
    return _RUN + folder


def folder_of(key: str) -> str:
    """The folder of a stored run; empty for all else."""
    return key.removeprefix(_RUN) if key.startswith(_RUN) else ""


@dataclass
class Sides:
    """What was chosen, by keys; it outlives the screen. An empty key: what there is by itself. ``forced``:
    the refusal that the user has seen and set aside. ``runs``: stored ones that were read."""

    a: str = ""
    b: str = ""
    part: str = ALL
    row: int = 0
    forced: str = ""
    runs: dict[str, Side] = field(default_factory=dict)

    def keys(self, s: Snapshot, ghost: Ghost | None) -> tuple[str, str]:
        """Those that were chosen, else the ghost and now, or a showdown's reference and newest row."""
        by_itself = _by_itself(s, ghost)
        return self.a or by_itself[0], self.b or by_itself[1]

    def choose(self, side: str, key: str) -> None:
        """Makes ``key`` side ``a`` or ``b``."""
        setattr(self, side, key)
        self.part, self.forced = ALL, ""

    def swap(self, s: Snapshot, ghost: Ghost | None) -> None:
        """The reference becomes what is compared."""
        self.b, self.a = self.keys(s, ghost)
        self.forced = ""

    def comparison(self, s: Snapshot, ghost: Ghost | None) -> Comparison | None:
        """The two; None while one of them is not there."""
        a, b = (self._side(key, s, ghost) for key in self.keys(s, ghost))
        if a is None or b is None:
            return None
        return compare(a, b)

    def _side(self, key: str, s: Snapshot, ghost: Ghost | None) -> Side | None:
        if key == LIVE:
            return side_now(s, LIVE)
        if key in (PAIR_A, PAIR_B) and s.pairs is not None:
            return side_of_pairs(s.pairs, key)
        if key == GHOST:
            return (
                None if ghost is None else side_now(ghost.snapshot, f"before, {wall(ghost.snapshot.unix_s)}")
            )
        if key.startswith(_ROW):
            scores = s.showdown.scores if s.showdown is not None else ()
            return next((side_of_row(one) for one in scores if row_key(one.name) == key), None)
        return self.runs.get(key)

    def shows_pairs(self, s: Snapshot, ghost: Ghost | None) -> bool:
        """Whether the two are those of live pairs."""
        return s.pairs is not None and set(self.keys(s, ghost)) == {PAIR_A, PAIR_B}

    def step(self, found: Comparison) -> str:
        """Shows the figures of the next part that both have; its name."""
        names = found.names
        at = names.index(self.part) if self.part in names else 0
        self.part = names[(at + 1) % len(names)]
        return self.part

    def command(self, s: Snapshot, ghost: Ghost | None) -> str:
        """The command line that compares the same; empty where one of them is no stored run."""
        folders = [folder_of(key) for key in self.keys(s, ghost)]
        if not all(folders):
            return ""
        return "rvtop compare " + " ".join(map(shlex.quote, folders)) + (" --force" if self.forced else "")


def _by_itself(s: Snapshot, ghost: Ghost | None) -> tuple[str, str]:
    if s.pairs is not None:
        return PAIR_A, PAIR_B
    if s.showdown is not None:
        scores = [one for one in s.showdown.scores if one.repeats]
        others = [one.name for one in scores if one.name != s.showdown.reference]
        if others and len(others) < len(scores):
            return row_key(s.showdown.reference), row_key(others[-1])
        return "", ""
    if ghost is not None and s.load.sent:
        return GHOST, LIVE
    return "", LIVE if s.latency.ttft_recent.count else ""


def side_now(s: Snapshot, where: str) -> Side:
    """The last 10 s of a load."""
    latency, load = s.latency, s.load
    share = completion(s)
    figures: dict[str, float | None] = {
        **_latency("ttft", latency.ttft),
        **_latency("itl", latency.itl),
        **_latency("e2e", latency.e2e),
        "tps": s.tokens.per_s,
        "goodput_rps": load.goodput_rps,
        "errors": load.errors_recent if latency.e2e.count or load.errors_recent else None,
        COMPLETED: None if share is None else 100 * share,
    }
    at_once = s.phase.concurrency if s.phase is not None else 0
    asked = f"{at_once} at once" if at_once else f"{rate(load.target_rps)} rps"
    return Side(
        s.target.topology or s.target.engine or s.target.url,
        where,
        {ALL: figures},
        latency.ttft_recent,
        {SPAN: "the last 10 s", "load": asked},
        {"models": ", ".join(s.target.models)},
        doubts=(f"CLIENT-LIMITED: {load.client_limited}",) if load.client_limited else (),
        chunks=latency.itl_is_chunks,
        slo="" if s.slo_ttft_ms is None else f"ttft {s.slo_ttft_ms:g} ms",
    )


def _latency(name: str, of: Dist) -> dict[str, float | None]:
    return {f"{name}_{key}": getattr(of, key) for key in ("mean", "p50", "p90", "p99")}


def side_of_pairs(pairs: Pairs, key: str) -> Side:
    """One of the two servers of live pairs: the TTFT of the requests that were sent to it."""
    found = pairs.ttft_a if key == PAIR_A else pairs.ttft_b
    figures: dict[str, float | None] = {
        f"ttft_p{q}": found.percentile(q) / 1e6 if found.count else None for q in (50, 90, 99)
    }
    name = pairs.a if key == PAIR_A else pairs.b
    return Side(name, key, {ALL: figures}, found, {SPAN: "live pairs"})


def side_of_row(score: Score) -> Side:
    """A row of a showdown: its means, and the TTFT of the last repeat that counts."""
    found = score.ttft
    figures: dict[str, float | None] = {
        "ttft_mean": score.figures.get("ttft_ms"),
        "e2e_mean": score.figures.get("latency_avg_ms"),
        "tps": score.figures.get("tps"),
        COMPLETED: score.figures.get(COMPLETED),
    }
    for q in (50, 90, 99):
        figures[f"ttft_p{q}"] = found.percentile(q) / 1e6 if found.count else None
    times = f", {score.repeats} repeats" if score.repeats > 1 else ""
    return Side(score.name, f"showdown{times}", {ALL: figures}, found, {SPAN: "a showdown's row"})
