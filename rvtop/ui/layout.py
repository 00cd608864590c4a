"""Where each panel of the live screen stands, by what all of them ask for. Pure: numbers in, rectangles out.

Rows that span the screen stand above and below up to four columns. Where there is too little room, panels
are folded in the order of FOLDS, from many rows to few, to one row, to none; what then fits after all is
unfolded again. What has nothing to say is folded too, unless its rows would stay blank. What is left over
goes to tables first and then to charts. Charts over time end their columns, and those beside each other are
equally high, so that they are read across.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

#: Below so many columns what stands at the right goes under the left; from so many on there may be a third,
#: and a fourth.
TWO_COLUMNS, THREE_COLUMNS, FOUR_COLUMNS = 100, 160, 240
GAP = 2  # blank cells between two columns
#: A terminal of so many rows has room for the rows above at their best.
TALL = 80
#: Between the header, what commands and the keys: less than so many rows have none but the header's.
LEAST_ROWS = 4
#: Charts over time get so many times their best height rather than that a column beside them stays blank.
MOST_OVER_BEST = 1.6
#: A column with so many rows that no panel needs has room for a chart that has nothing to say.
BLANK = 30
PLACES = ("top", "left", "right", "third", "fourth", "bottom")

# Heights that a panel is folded to: those of its Ask, one row, none.
GOOD, LEAST, LINE, GONE = "good", "least", "line", "gone"

#: Which panel gives up what, the first one first.
FOLDS: tuple[tuple[str, str | int], ...] = (
    ("money", GONE),
    ("replicas", LEAST),
    *(
        ("served", LINE),
        ("served_beside", GONE),
        ("knee_inflight", LINE),
        ("engine_charts", LINE),
        ("slowest", LINE),
        ("parts", LINE),
        ("kvqueue", LINE),
        ("nodes", LINE),
    ),
    *(("tasks", LEAST), ("arms", LEAST), ("deployments", LEAST), ("gpu", LEAST), ("engines", LEAST)),
    ("plan", LINE),
    *(("gpu_use", LEAST), ("inflight", LEAST), ("latency_time", LEAST), ("tokens", LEAST)),
    *(("knee", LEAST), ("knee_tokens", LEAST), ("knee", LINE), ("knee_tokens", LINE)),
    *(
        ("arms", LINE),
        ("tasks", LINE),
        ("deployments", LINE),
        ("gpu_use", LINE),
        ("gpu", LINE),
        ("inflight", LINE),
        ("engines", LINE),
    ),
    *(
        ("latency_time", LINE),
        ("tokens", LINE),
        ("replicas", LINE),
        ("latency_time", GONE),
        ("gpu_use", GONE),
    ),
    *(("events", LINE), ("load", LEAST), ("plan", GONE), ("recording", LEAST), ("recording", LINE)),
    *(("ttft", 8), ("ttft", 7), ("ttft", 6), ("ttft", LEAST), ("load", LINE)),
    *(("events", GONE), ("latency", 4), ("latency", 3), ("latency", 2), ("comb", GONE), ("pairs", GONE)),
    *(("probes", GONE), ("saturation", GONE), ("replicas", GONE)),
    *(("engine_charts", GONE), ("slowest", GONE), ("parts", GONE), ("kvqueue", GONE)),
    *(("served", GONE), ("knee_inflight", GONE), ("knee", GONE), ("knee_tokens", GONE)),
    *(("latency", LINE), ("nodes", GONE), ("deployments", GONE), ("inflight", GONE), ("arms", GONE)),
    *(
        ("ttft", LINE),
        ("steps", LEAST),
        ("banner", LEAST),
        ("gpu", GONE),
        ("tokens", GONE),
        ("engines", GONE),
    ),
    *(
        ("latency", GONE),
        ("verdict", GONE),
        ("notice", GONE),
        ("steps", LINE),
        ("banner", LINE),
        ("ttft", GONE),
    ),
    *(("tasks", GONE), ("load", GONE), ("banner", GONE), ("steps", GONE), ("footer", GONE)),
)
_KNOWN = {name for name, _ in FOLDS}
#: So many steps of it are taken before panels that it does not know go away.
_FIRST = FOLDS.index(("nodes", LINE))


@dataclass(frozen=True, slots=True)
class Ask:
    """What a panel asks for. Rows include its rule: ``least`` and ``best`` of them unfolded, ``good`` before
    another panel is folded for it. A chart takes what no other wants; one over ``time`` is as high as the one
    beside it. ``folded``: it has nothing to say."""

    name: str
    place: str
    least: int = 1
    good: int = 1
    best: int = 1
    chart: bool = False
    time: bool = False
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
        """A column's panels; its open charts over time last, so that they stand beside each other."""
        held = [ask for ask in self.asks if self.columns.get(ask.place) == column]
        if len(set(self.columns.values())) == 1:
            return held
        return sorted(held, key=self.in_a_row)

    def open(self, ask: Ask) -> bool:
        """Whether it may have more rows."""
        return self.rows[ask.name] > 1 or ask.least <= 1 < ask.best

    def in_a_row(self, ask: Ask) -> bool:
        """Whether it is a chart over time that is open."""
        return ask.time and self.rows[ask.name] > 1

    def sum(self, asks: Iterable[Ask]) -> int:
        return sum(self.rows[ask.name] for ask in asks)

    @property
    def need(self) -> int:
        """Rows of all: of the columns the highest counts."""
        body = max((self.sum(self.stack(c)) for c in set(self.columns.values())), default=0)
        return self.sum(self.of("top")) + body + self.sum(self.of("bottom"))


def column_count(width: int, places: Container[str]) -> int:
    """How many columns panels of ``places`` have in ``width`` cells."""
    if width < TWO_COLUMNS or not any(place in places for place in PLACES[2:5]):
        return 1
    return (
        2
        + (width >= THREE_COLUMNS and ("third" in places or "fourth" in places))
        + (width >= FOUR_COLUMNS and "third" in places and "fourth" in places)
    )


def column_widths(width: int, places: Container[str]) -> list[int]:
    """The widths of the columns for panels of ``places``, the left one first: equal, so that charts beside
    each other show the same time in as many columns."""
    count = column_count(width, places)
    return [(width - GAP * (count - 1)) // count] * count


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
    widths = column_widths(width, {ask.place for ask in asks})
    last = len(widths) - 1
    columns = {place: min(column, last) for column, place in enumerate(PLACES[1:5])}
    found = _Heights(tuple(asks), columns)
    _fold(found, height)
    if height >= TALL:
        for ask in found.of("top"):
            before = found.rows[ask.name]
            found.rows[ask.name] = max(before, ask.best)
            if found.need > height:
                found.rows[ask.name] = before
    body = height - found.sum(found.of("top")) - found.sum(found.of("bottom"))
    if height >= TALL:
        _unfold_quiet(found, body)
    _grow(found, [found.stack(column) for column in range(len(widths))], body)
    _fill_blank(found, body)
    return _placed(found, widths, width, body)


def _fold(found: _Heights, height: int) -> None:
    """Folds until all fits into ``height`` rows, then unfolds what fits after all, the last one first."""
    by_name = {ask.name: ask for ask in found.asks}
    # Panels that the table does not know are folded with the least important ones.
    unknown = [name for name in by_name if name not in _KNOWN and name != "header"]
    gone = [(name, GONE) for name in unknown]
    steps = [*((name, LINE) for name in unknown), *FOLDS[:_FIRST], *gone, *FOLDS[_FIRST:]]
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


def _unfold_quiet(found: _Heights, body: int) -> None:
    """Unfolds charts that have nothing to say where their column would stay blank."""
    for ask in found.asks:
        column = found.columns.get(ask.place)
        if ask.folded and ask.time and column is not None:
            others = found.sum(found.stack(column)) - found.rows[ask.name]
            if found.rows[ask.name] == 1 and body - others >= max(BLANK, ask.good):
                found.rows[ask.name] = ask.good


def _fill_blank(found: _Heights, body: int) -> None:
    """Unfolds charts that have nothing to say in rows that are left over in their column."""
    for ask in found.asks:
        column = found.columns.get(ask.place)
        if ask.folded and ask.time and column is not None and found.rows[ask.name] == 1:
            left = body - found.sum(found.stack(column))
            if left >= ask.good - 1:
                found.rows[ask.name] = min(1 + left, ask.best)


def _rows_of(ask: Ask, to: str | int) -> int:
    if isinstance(to, int):
        return min(max(to, ask.least), ask.good)
    return {GOOD: ask.good, LEAST: ask.least, LINE: 1, GONE: 0}[to]


def _grow(found: _Heights, stacks: list[list[Ask]], height: int) -> None:
    """Gives each column's spare rows away: to tables up to their best, then to charts in proportion to
    theirs, those beside each other together."""
    rows = found.rows
    spare = [height - found.sum(stack) for stack in stacks]
    units = _units(found, stacks, spare)

    def room(unit: list[tuple[int, Ask]]) -> bool:
        return all(spare[column] > 0 for column, _ in unit)

    beside = [unit for unit in units if len(unit) > 1]

    def leaves(unit: list[tuple[int, Ask]]) -> bool:
        """Whether a chart that stands alone leaves its rows to those over time: a column beside it would stay
        blank without them."""
        if unit in beside or found.in_a_row(unit[0][1]):
            return False
        column = unit[0][0]
        for other in beside:
            others = [spare[c] for c, _ in other if c != column]
            if len(others) < len(other) and room(other) and filled(other) < MOST_OVER_BEST:
                return min(others) >= spare[column]
        return False

    def give(unit: list[tuple[int, Ask]]) -> None:
        for column, ask in unit:
            rows[ask.name] += 1
            spare[column] -= 1

    for column, stack in enumerate(stacks):
        for ask in stack:
            if not ask.chart and found.open(ask):
                more = max(0, min(spare[column], ask.best - rows[ask.name]))
                rows[ask.name] += more
                spare[column] -= more

    def filled(unit: list[tuple[int, Ask]]) -> float:
        return min(rows[ask.name] / ask.best for _, ask in unit)

    while hungry := [unit for unit in units if room(unit)]:
        give(min([unit for unit in hungry if not leaves(unit)] or hungry, key=filled))


def _units(found: _Heights, stacks: list[list[Ask]], spare: list[int]) -> list[list[tuple[int, Ask]]]:
    """The open charts that grow together, each with its column: rows of charts over time from the lowest one
    up, made equally high, and each other chart alone."""
    rows = found.rows
    timed = [[ask for ask in reversed(stack) if found.in_a_row(ask)] for stack in stacks]
    made: list[list[tuple[int, Ask]]] = []
    for place in range(max(map(len, timed), default=0)):
        unit = [(column, asks[place]) for column, asks in enumerate(timed) if len(asks) > place]
        low = max(min(rows[ask.name] for _, ask in unit), max(ask.least for _, ask in unit))
        for column, ask in unit:
            if rows[ask.name] > low:
                spare[column] += rows[ask.name] - low
                rows[ask.name] = low
        made.append(unit)
    others = [
        [(column, ask)]
        for column, stack in enumerate(stacks)
        for ask in stack
        if ask.chart and found.open(ask) and not found.in_a_row(ask)
    ]
    return [*others, *made]


def _placed(found: _Heights, widths: Sequence[int], width: int, body: int) -> list[Place]:
    places = []

    def stack(asks: list[Ask], x: int, y: int, across: int, end: int = 0) -> int:
        charts = found.sum(ask for ask in asks if found.in_a_row(ask))
        for ask in asks:
            rows = found.rows[ask.name]
            if charts and len(widths) > 1 and found.in_a_row(ask):
                y, charts = max(y, end - charts), 0  # rows of charts end where the columns do
            if rows:
                places.append(Place(ask.name, x, y, across, rows))
            y += rows
        return y

    y = stack(found.of("top"), 0, 0, width)
    x = 0
    for column, across in enumerate(widths):
        if column == len(widths) - 1:
            x = width - across  # what does not divide goes to the last gap
        stack(found.stack(column), x, y, across, y + body)
        x += across + GAP
    stack(found.of("bottom"), 0, y + body, width)
    return places
