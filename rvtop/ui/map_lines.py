"""The map's lines: where requests wait, which places of a batch are taken, what comes out. All pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rvtop.contract.snapshot import Engine, Snapshot
from rvtop.ui.cluster_lines import further_lines, put_states
from rvtop.ui.draw import Line
from rvtop.ui.format import age, count, fixed, percent, rate, sig3
from rvtop.ui.theme import Styles

#: From more engines on a row is a node.
MOST_ENGINES = 12
NO_ENGINES = "This server does not tell its engines: --metrics-url URL of each"
_LEAST_BATCH = 6
_FLOW = 8  # cells of the arrow of an engine that makes all tokens


@dataclass(frozen=True)
class Batch:
    """A row of the map: one engine, or all those of a node."""

    name: str
    node: str
    running: float | None
    places: float | None
    told: bool  # the places are told, and not the largest batch seen
    waiting: float | None
    tokens_per_s: float | None
    kv_usage: float | None
    gone_s: float | None = None


def batch_of(engine: Engine) -> Batch:
    places = engine.max_seqs if engine.max_seqs is not None else engine.most_running
    return Batch(
        engine.name,
        engine.node or "",
        engine.running,
        places,
        engine.max_seqs is not None,
        engine.waiting,
        engine.tokens_per_s,
        engine.kv_usage,
        engine.stale_s,
    )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def batches(engines: Sequence[Engine]) -> list[Batch]:
    """The rows of a map: engines by their nodes, or the nodes where there are many engines."""
    rows = sorted((batch_of(engine) for engine in engines), key=lambda row: row.node)
    if len(rows) <= MOST_ENGINES:
        return rows
    nodes: dict[str, list[Batch]] = {}
    for row in rows:
        nodes.setdefault(machine(row.node), []).append(row)
    return [_node(name, held) for name, held in nodes.items()]


def engines_of_row(engines: Sequence[Engine], number: int) -> list[Engine]:
    """The engines that a row of ``batches(engines)`` stands for; of the last one for a higher number."""
    if len(engines) <= MOST_ENGINES:
        ordered = sorted(engines, key=lambda engine: engine.node or "")
        return ordered[min(number, len(ordered) - 1) :][:1]
    by_node: dict[str, list[Engine]] = {}
    for engine in sorted(engines, key=lambda engine: engine.node or ""):
        by_node.setdefault(machine(engine.node or ""), []).append(engine)
    rows = list(by_node.values())
    return rows[min(number, len(rows) - 1)]


def machine(node: str) -> str:
    """The machine of a node's name, which may hold a GPU: ``n1`` of ``n1:0``."""
    name, _, gpu = node.rpartition(":")
    return name if name and gpu.isdigit() else node


def _node(name: str, rows: Sequence[Batch]) -> Batch:
    there = [row for row in rows if row.gone_s is None]
    kv = [row.kv_usage for row in there if row.kv_usage is not None]
    gone = len(rows) - len(there)
    return Batch(
        f"{name or '--'} ×{len(rows)}" + (f" ✗ {gone} gone" if gone else ""),
        "",
        _sum([row.running for row in there]),
        _sum([row.places for row in there]),
        all(row.told for row in there),
        _sum([row.waiting for row in there]),
        _sum([row.tokens_per_s for row in there]),
        max(kv, default=None),
        min((row.gone_s or 0.0 for row in rows), default=None) if not there else None,
    )


def outside(s: Snapshot) -> float | None:
    """Requests in flight here that no engine tells of; None where none tells."""
    fresh = [engine for engine in s.engines if engine.stale_s is None and engine.running is not None]
    if not fresh:
        return None
    held = sum((engine.running or 0.0) + (engine.waiting or 0.0) for engine in fresh)
    return max(0.0, s.load.in_flight - held)


def unit(most: float, room: int) -> int:
    """What one ``●`` stands for, 1, 10, 100 …, so that ``most`` fits into ``room``."""
    each = 1
    while most > each * max(1, room) and each < 10**9:
        each *= 10
    return each


def dots(value: float | None, each: int, room: int) -> str:
    """A value as ``●``; what is above 0 shows at least one."""
    if not value or room <= 0:
        return ""
    return "●" * min(room, max(1, round(value / each)))


def places_bar(styles: Styles, running: float | None, places: float | None, width: int) -> Line:
    """Places filled and free, one cell a place while they fit, else in proportion with an ``…``."""
    if running is None or not places or width < 3:
        return Line("▕", styles.faint).put("--"[: max(0, width - 2)], styles.stale).put("▏", styles.faint)
    room = width - 2
    size = min(room, round(places))
    full = round(min(1.0, running / places) * size)
    if running > 0 and size:
        full = max(1, full)
    free = "·" * (size - full)
    if places > room and free:
        free = free[:-1] + "…"
    return (
        Line("▕", styles.faint).put("■" * full, styles.server).put(free, styles.faint).put("▏", styles.faint)
    )


def flow(share: float | None) -> str:
    """An arrow as long as a share 0..1; thin where nothing is told."""
    if share is None:
        return "┄▶"
    return "━" * max(1, round(share * _FLOW)) + "▶"


def engine_line(
    styles: Styles, row: Batch, total: float | None, each: int, names: int, width: int, *, chosen: bool
) -> Line:
    """One row: who waits, the batch, what comes out."""
    line = Line("▸ " if chosen else "  ", styles.command)
    line.put(fixed(row.name, names) + " ", styles.strong if chosen else styles.base)
    if row.gone_s is not None:
        return line.put(f"✗ gone {age(row.gone_s)}", styles.trouble).cut(width)
    ratio = f"{count(row.running)}/{count(row.places)}" + ("" if row.told else "?")
    share = row.tokens_per_s / total if row.tokens_per_s is not None and total else None
    tail = f"{ratio:>10} {flow(share):<{_FLOW + 1}}{sig3(row.tokens_per_s):>8}"
    room = width - line.width - len(tail) - 1
    queue = max(6, min(30, room // 3))
    waits = f"{count(row.waiting):>5} "
    if room - queue - len(waits) >= _LEAST_BATCH:
        drawn = dots(row.waiting, each, queue)
        alarm = styles.attention if row.waiting else styles.quiet
        line.put(drawn.rjust(queue) + waits, alarm)
        bar = places_bar(styles, row.running, row.places, room - queue - len(waits))
        line.join(bar.to(room - queue - len(waits)))
    return line.put(tail, styles.server).cut(width)


@dataclass(frozen=True)
class Scale:
    """What both halves of a map share: how many requests a ``●`` is, and the cells of an engine's name."""

    each: int
    names: int


def scale_of(width: int, *halves: Snapshot) -> Scale:
    """The scale in which all of ``halves`` fit into ``width`` cells."""
    rows = [row for s in halves for row in batches(s.engines)]
    most = max([0.0, *(outside(s) or 0.0 for s in halves), *(row.waiting or 0.0 for row in rows)])
    room = max(10, width - 44)
    return Scale(unit(most, min(30, room)), min(24, max((len(row.name) for row in rows), default=1)))


def map_lines(
    s: Snapshot,
    styles: Styles,
    width: int,
    height: int,
    chosen: int | None,
    scale: Scale | None = None,
    *,
    legend: bool = True,
) -> list[Line]:
    """The whole map in at most ``height`` lines; ``chosen`` is the row under the cursor, None: there is no
    cursor. ``scale`` is that of both halves, where there are two."""
    if not s.engines:
        return [Line(NO_ENGINES, styles.quiet).cut(width)][:height]
    rows, out = batches(s.engines), outside(s)
    scale = scale or scale_of(width, s)
    each, names = scale.each, scale.names
    lines = [_clients(s, styles, out, each, width), Line()]
    total = _sum([row.tokens_per_s for row in rows])
    cpu = {node.name: node.cpu for node in s.nodes}
    node, body, places = "", [], []
    for index, row in enumerate(rows):
        if row.node and row.node != node:
            node = row.node
            head = Line(f"  {node}", styles.quiet)
            utils = [g.util for g in s.gpus if f"{g.node}:{g.index}" == node and g.util is not None]
            if utils:
                head.put(f"  GPU {percent(utils[0])}", styles.server)
            if node in cpu:
                head.put(f"  cpu {percent(cpu[node])}", styles.server)
            put_states(head, s.cluster, [row.name for row in rows if row.node == node], styles)
            body.append(head.cut(width))
        places.append(len(body))
        body.append(engine_line(styles, row, total, each, names, width, chosen=index == chosen))
    headed = [row.name for row in rows if row.node]
    body += [line.cut(width) for line in further_lines(s.cluster, headed, styles)]
    least = 1 if legend else 0
    blank = len(body) <= height - len(lines) - 2 * least  # rows of engines go before blank ones
    lines = lines if blank else lines[:1]
    space = max(1, height - len(lines) - least - (least if blank else 0))
    at = places[min(chosen or 0, len(places) - 1)]
    begin = min(max(0, at - space + 1), max(0, len(body) - space))
    lines += body[begin : begin + space]
    if not legend:
        return lines[:height]
    about = f"■ one request in the batch   · a free place   ● {count(each)} that wait"
    if any(not row.told for row in rows):
        about += "   ? the largest batch seen"
    return [*lines, *([Line()] if blank else []), Line(about, styles.quiet).cut(width)][:height]


def _clients(s: Snapshot, styles: Styles, out: float | None, each: int, width: int) -> Line:
    line = Line(f"  {rate(s.load.target_rps)} rps ", styles.command).put("━━━▶ ", styles.faint)
    line.put("outside the engines ", styles.quiet).put(f"{count(out)} ", styles.client)
    return line.put(dots(out, each, min(30, width - line.width)), styles.client).cut(width)


def tokens_of_one_engine(s: Snapshot) -> float | None:
    """Tokens a second that an engine makes in the mean; None where none tells."""
    known = [e.tokens_per_s for e in s.engines if e.stale_s is None and e.tokens_per_s is not None]
    return sum(known) / len(known) if known else None


def times(now: float | None, before: float | None) -> str:
    """``× 201``: how often ``before`` goes into ``now``."""
    return f"× {sig3(now / before)}" if now is not None and before else ""


def token_bars(
    styles: Styles, rows: Sequence[tuple[str, float | None]], width: int, height: int
) -> list[Line]:
    """Tokens of one engine in one second, a bar for each (name, tokens/s) on one scale from 0."""
    names = min(16, max(len(name) for name, _ in rows))
    most = max((value or 0.0 for _, value in rows), default=0.0)
    made = []
    for name, value in rows:
        line = Line(fixed(name, names), styles.server_bold).put(f" {sig3(value):>7} ", styles.server)
        room = max(0, width - line.width)
        cells = round((value or 0.0) / most * room) if most else 0
        made.append(line.put("█" * cells if cells else "▏" if value else "", styles.server).cut(width))
    return made[:height]


def detail_lines(styles: Styles, told: Sequence[tuple[str, str]], width: int) -> list[Line]:
    """(heading, text) side by side on as few lines as they take."""
    lines = [Line()]
    for name, text in told:
        if lines[-1].width and lines[-1].width + len(name) + len(text) + 4 > width:
            lines.append(Line())
        lines[-1].put("   " if lines[-1].width else "").put(f"{name} ", styles.quiet).put(text, styles.server)
    return [line.cut(width) for line in lines]
