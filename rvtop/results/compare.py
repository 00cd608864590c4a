"""Two runs side by side: their figures, how they differ, and whether they did the same work. All pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rvtop.stats.distribution import EMPTY, Distribution

#: Points of completion between which latencies are still those of the same requests.
SAME_COMPLETION = 1.0
CENSORED = "CENSORED"
NO_INTERVAL = "one run each: no interval"
COMPLETED = "completed_pct"
ALL = "all that was measured"
#: The entry of ``work`` that says of what time the figures are.
SPAN = "figures of"


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that is compared. ``survivors``: it is of answered requests alone, so that it is no comparison
    where completion differs. ``points``: it is a percentage, whose difference is told in points."""

    key: str
    name: str
    unit: str
    survivors: bool = True
    points: bool = False


FIGURES: tuple[Figure, ...] = (
    *(
        Figure(f"{key}_{value}", f"{name} {value}", "ms")
        for key, name in (("ttft", "TTFT"), ("itl", "ITL"), ("e2e", "E2E"))
        for value in ("mean", "p50", "p90", "p99")
    ),
    Figure("tps", "tokens/s", "tok/s"),
    Figure("goodput_rps", "goodput", "rps", survivors=False),
    Figure("errors", "errors", "", survivors=False),
    Figure(COMPLETED, "completed", "%", survivors=False, points=True),
)
BY_KEY: Mapping[str, Figure] = {figure.key: figure for figure in FIGURES}

Figures = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two. ``where`` is its run folder, or what it is. ``parts`` are figures by phase, under ALL
    those of all phases. ``work`` must be the same on both sides, ``setting`` may differ and is told.
    ``faults`` say why it is no clean baseline, ``doubts`` what bends its figures. ``chunks``: its gaps are
    between chunks, which are no tokens.
    """

    label: str
    where: str
    parts: Mapping[str, Figures]
    ttft: Distribution = EMPTY
    work: Mapping[str, str] = field(default_factory=dict)
    setting: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    chunks: bool = False
    slo: str = ""

    @property
    def figures(self) -> Figures:
        """Those of all that was measured."""
        return self.parts.get(ALL, {})


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of both. ``difference`` is B less A, ``percent`` that of A; ``word`` says which is lower."""

    figure: Figure
    a: float | None
    b: float | None
    difference: float | None
    percent: float | None
    word: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """``refused`` says what differs of the work, empty where it is the same; ``notes`` what else is to be
    known."""

    a: Side
    b: Side
    parts: Mapping[str, tuple[Row, ...]]
    refused: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def refusal(self) -> str:
        """One line, or empty."""
        return f"work differs: {'; '.join(self.refused)}" if self.refused else ""

    @property
    def names(self) -> tuple[str, ...]:
        """The parts, all of it first."""
        return tuple(self.parts)


def short_names(a: Side, b: Side) -> tuple[str, str]:
    """What they are called beside each other: what they ran on; where that is the same, their folders."""
    if a.label != b.label:
        return a.label, b.label
    return _last(a.where), _last(b.where)


def _last(where: str) -> str:
    return where.rstrip("/").rpartition("/")[2] or where


def compare(a: Side, b: Side) -> Comparison:
    """``b`` against the reference ``a``: all of it, and each phase that both have."""
    names = [name for name in a.parts if name in b.parts]
    parts = {name: rows(a.parts[name], b.parts[name]) for name in names}
    chunks = a.chunks != b.chunks
    if chunks:
        parts = {name: tuple(map(_other_gaps, of)) for name, of in parts.items()}
    if a.slo != b.slo:
        parts = {name: tuple(map(_other_slo, of)) for name, of in parts.items()}
    return Comparison(a, b, parts, tuple(_differing(a, b)), tuple(_notes(a, b, parts)))


def rows(a: Figures, b: Figures) -> tuple[Row, ...]:
    """Every figure of the two."""
    censored = is_censored(a, b)
    return tuple(_row(figure, a.get(figure.key), b.get(figure.key), censored) for figure in FIGURES)


def is_censored(a: Figures, b: Figures) -> bool:
    """Whether completion differs by more than a point: who drops most would look best."""
    ours, theirs = a.get(COMPLETED), b.get(COMPLETED)
    return ours is None or theirs is None or abs(ours - theirs) > SAME_COMPLETION


def _row(figure: Figure, a: float | None, b: float | None, censored: bool) -> Row:
    if a is None and b is None:
        return Row(figure, a, b, None, None, "")
    if figure.survivors and censored:
        return Row(figure, a, b, None, None, CENSORED)
    if a is None or b is None:
        return Row(figure, a, b, None, None, "")
    difference = b - a
    percent = 100 * difference / a if a and not figure.points else None
    word = "same" if f"{a:.3g}" == f"{b:.3g}" else "B lower" if b < a else "B higher"
    return Row(figure, a, b, difference, percent, word)


def _without(row: Row) -> Row:
    return Row(row.figure, row.a, row.b, None, None, "")


def _other_gaps(row: Row) -> Row:
    return _without(row) if row.figure.key.startswith("itl_") else row


def _other_slo(row: Row) -> Row:
    return _without(row) if row.figure.key == "goodput_rps" else row


def _differing(a: Side, b: Side) -> Iterator[str]:
    spans = a.work.get(SPAN, ""), b.work.get(SPAN, "")
    if spans[0] != spans[1]:  # nothing else can be the same
        yield f"{SPAN} {_pair(*spans)}"
        return
    for key in dict.fromkeys((*a.work, *b.work)):
        ours, theirs = a.work.get(key, ""), b.work.get(key, "")
        if ours != theirs:
            yield f"{key} {_pair(ours, theirs)}"
    for name, side in (("A", a), ("B", b)):
        yield from (f"{name} {fault}" for fault in side.faults)


def _pair(a: str, b: str) -> str:
    return f"{a or 'none'} → {b or 'none'}"


def _notes(a: Side, b: Side, parts: Mapping[str, tuple[Row, ...]]) -> Iterator[str]:
    if any(row.word == CENSORED for row in parts.get(ALL, ())):
        if a.figures.get(COMPLETED) is None or b.figures.get(COMPLETED) is None:
            why = "completion is not known of both"
        else:
            why = "completion differs by over a point"
        yield f"{CENSORED}: {why}. Latencies of survivors are not compared: who drops most would look best"
    for name, side in (("A", a), ("B", b)):
        yield from (f"{name} is {doubt}" for doubt in side.doubts)
    if a.chunks != b.chunks:
        yield "ITL is not compared: chunks of one of the two are not tokens"
    if a.slo != b.slo:
        yield f"goodput is not compared: SLO {_pair(a.slo, b.slo)}"
    for key in dict.fromkeys((*a.setting, *b.setting)):
        ours, theirs = a.setting.get(key, ""), b.setting.get(key, "")
        if ours != theirs:
            yield f"differs: {key} {_pair(ours, theirs)}"
