"""Where each panel of the live screen stands, by what all of them ask for. Pure: numbers in, rectangles out.

Rows that span the screen stand above and below up to three columns. Where there is too little room, panels
are folded in the order of FOLDS, from many rows to few, to one row, to none; what then fits after all is
unfolded again. What is left over goes to tables first and then to charts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

#: Below so many columns what stands at the right goes under the left; from so many on there may be a third.
TWO_COLUMNS, THREE_COLUMNS = 100, 160
GAP = 2  # blank cells between two columns
#: A terminal of so many rows has room for the rows above at their best.
TALL = 80
#: Between the header, what commands and the keys: less than so many rows have none but the header's.
LEAST_ROWS = 4
PLACES = ("top", "left", "right", "third", "bottom")

# Heights that a panel is folded to: those of its Ask, one row, none.
GOOD, LEAST, LINE, GONE = "good", "least", "line", "gone"

#: Which panel gives up what, the first one first.
FOLDS: tuple[tuple[str, str | int], ...] = (
    *(("slowest", LINE), ("parts", LINE), ("kvqueue", LINE), ("nodes", LINE)),
    *(("deployments", LEAST), ("gpu", LEAST), ("engines", LEAST), ("plan", LINE)),
    *(("gpu_use", LEAST), ("inflight", LEAST), ("latency_time", LEAST), ("tokens", LEAST)),
    *(("deployments", LINE), ("gpu_use", LINE), ("gpu", LINE), ("inflight", LINE), ("engines", LINE)),
    *(("latency_time", LINE), ("tokens", LINE), ("latency_time", GONE), ("gpu_use", GONE)),
    *(("events", LINE), ("load", LEAST), ("plan", GONE), ("recording", LEAST), ("recording", LINE)),
    *(("ttft", 8), ("ttft", 7), ("ttft", 6), ("ttft", LEAST), ("load", LINE)),
    *(("events", GONE), ("latency", 4), ("latency", 3), ("latency", 2)),
    *(("slowest", GONE), ("parts", GONE), ("kvqueue", GONE)),
    *(("latency", LINE), ("nodes", GONE), ("deployments", GONE), ("inflight", GONE)),
    *(
        ("ttft", LINE),
        ("steps", LEAST),
        ("banner", LEAST),
        ("gpu", GONE),
        ("tokens", GONE),
        ("engines", GONE),
    ),
    *(("latency", GONE), ("notice", GONE), ("steps", LINE), ("banner", LINE), ("ttft", GONE)),
    *(("load", GONE), ("banner", GONE), ("steps", GONE), ("footer", GONE)),
)
_KNOWN = {name for name, _ in FOLDS}


@dataclass(frozen=True, slots=True)
class Ask:
    """What a panel asks for. Rows include its rule: ``least`` and ``best`` of them unfolded, ``good`` before
    another panel is folded for it. A chart takes what no other wants. ``folded``: it has nothing to say."""

    name: str
    place: str
    least: int = 1
    good: int = 1
    best: int = 1
    chart: bool = False
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A panel's rectangle, in cells."""

    name: str
    x: int
    y: int
    width: int
    height: int


@dataclass(slots=True)
class _Heights:
    """The rows of each panel while they are found."""

    asks: tuple[Ask, ...]
    columns: dict[str, int]  # the column that each place of the body goes to
    rows: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rows = {ask.name: 1 if ask.folded else ask.good for ask in self.asks}

    def of(self, place: str) -> list[Ask]:
        return [ask for ask in self.asks if ask.place == place]

    def stack(self, column: int) -> list[Ask]:
        return [ask for ask in self.asks if self.columns.get(ask.place) == column]

    def sum(self, asks: Iterable[Ask]) -> int:
        return sum(self.rows[ask.name] for ask in asks)

    @property
    def need(self) -> int:
        """Rows of all: of the columns the highest counts."""
        body = max((self.sum(self.stack(c)) for c in set(self.columns.values())), default=0)
        return self.sum(self.of("top")) + body + self.sum(self.of("bottom"))


def column_widths(width: int, third: bool) -> list[int]:
    """The widths of the columns, the left one first; with ``third`` if there is something for a third."""
    if width < TWO_COLUMNS:
        return [width]
    count = 3 if third and width >= THREE_COLUMNS else 2
    each = (width - GAP * (count - 1)) // count
    return [each] * count  # equal, so that charts beside each other show the same time in as many columns


def arrange(asks: Sequence[Ask], width: int, height: int, zoomed: str | None = None) -> list[Place]:
    """The panels that have room, each with its rectangle; nothing overlaps, everything lies inside.

    ``asks`` are in the order in which panels stand. ``zoomed`` has all to itself but the rows of header and
    footer. Raises ValueError for a panel of no known place.
    """
    for ask in asks:
        if ask.place not in PLACES:
            raise ValueError(f"{ask.name}: no such place: {ask.place}; one of {', '.join(PLACES)}")
    if width < 1 or height < 1:
        return []
    if zoomed is not None and any(ask.name == zoomed for ask in asks):
        around = {"header", "footer"} - {zoomed} if height >= LEAST_ROWS else ()
        asks = [Ask(zoomed, "left", 1, 1, height, chart=True), *(ask for ask in asks if ask.name in around)]
    widths = column_widths(width, any(ask.place == "third" for ask in asks))
    last = len(widths) - 1
    columns = {"left": 0, "right": min(1, last), "third": min(2, last)}
    if not any(ask.place != "left" and ask.place in columns for ask in asks):
        widths = [width]
        columns = dict.fromkeys(columns, 0)
    found = _Heights(tuple(asks), columns)
    _fold(found, height)
    if height >= TALL:
        for ask in found.of("top"):
            before = found.rows[ask.name]
            found.rows[ask.name] = max(before, ask.best)
            if found.need > height:
                found.rows[ask.name] = before
    body = height - found.sum(found.of("top")) - found.sum(found.of("bottom"))
    charts: list[int] = []
    for column in range(len(widths)):
        charts = _grow(found, found.stack(column), body, charts)
    return _placed(found, widths, width, body)


def _fold(found: _Heights, height: int) -> None:
    """Folds until all fits into ``height`` rows, then unfolds what fits after all, the last one first."""
    by_name = {ask.name: ask for ask in found.asks}
    # Panels that the table does not know are folded with the least important ones.
    unknown = [name for name in by_name if name not in _KNOWN and name != "header"]
    steps = [*((name, LINE) for name in unknown), *FOLDS[:4], *((name, GONE) for name in unknown), *FOLDS[4:]]
    done: list[tuple[str, int, int]] = []
    for name, to in steps:
        if found.need <= height:
            break
        ask = by_name.get(name)
        if ask is None:
            continue
        before, after = found.rows[name], _rows_of(ask, to)
        if after < before:
            found.rows[name] = after
            done.append((name, before, after))
    for name, before, after in reversed(done):
        if found.rows[name] == after:
            found.rows[name] = before
            if found.need > height:
                found.rows[name] = after


def _rows_of(ask: Ask, to: str | int) -> int:
    if isinstance(to, int):
        return min(max(to, ask.least), ask.good)
    return {GOOD: ask.good, LEAST: ask.least, LINE: 1, GONE: 0}[to]


def _grow(found: _Heights, stack: list[Ask], height: int, like: Sequence[int]) -> list[int]:
    """Gives a column's spare rows away: to tables, then to charts up to those beside them (``like``, the
    lowest first) and to their best, and what is left to the first chart. Returns its charts' rows, the lowest
    first."""
    rows, spare = found.rows, height - found.sum(stack)
    open_ = [ask for ask in stack if rows[ask.name] > 1 or ask.least <= 1 < ask.best]
    charts = [ask for ask in open_ if ask.chart]

    def give(ask: Ask, up_to: int) -> None:
        nonlocal spare
        more = max(0, min(spare, up_to - rows[ask.name]))
        rows[ask.name] += more
        spare -= more

    for ask in open_:
        if not ask.chart:
            give(ask, ask.best)
    for ask, beside in zip(reversed(charts), like, strict=False):
        give(ask, beside)
    while spare > 0 and (hungry := [ask for ask in charts if rows[ask.name] < ask.best]):
        neediest = min(hungry, key=lambda ask: rows[ask.name] / ask.best)
        give(neediest, rows[neediest.name] + 1)
    if charts:
        give(charts[0], height)
    return [rows[ask.name] for ask in reversed(charts)]


def _placed(found: _Heights, widths: Sequence[int], width: int, body: int) -> list[Place]:
    places = []

    def stack(asks: Iterable[Ask], x: int, y: int, across: int) -> int:
        for ask in asks:
            rows = found.rows[ask.name]
            if rows:
                places.append(Place(ask.name, x, y, across, rows))
            y += rows
        return y

    y = stack(found.of("top"), 0, 0, width)
    x = 0
    for column, across in enumerate(widths):
        if column == len(widths) - 1:
            x = width - across  # what does not divide goes to the last gap
        stack(found.stack(column), x, y, across)
        x += across + GAP
    stack(found.of("bottom"), 0, y + body, width)
    return places
