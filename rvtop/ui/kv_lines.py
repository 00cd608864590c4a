"""The KV map's lines: engines, blocks by age and sharing, the tree of shared beginnings. All pure."""

from __future__ import annotations

import math

from rvtop.stats.kv_map import AGE_EDGES_S, SHARE_EDGES, EngineMap, KvMap
from rvtop.ui.draw import Line, bar, fitting
from rvtop.ui.format import brief, clip, count, percent, short_span, sig3
from rvtop.ui.theme import Styles

NO_MAP = (
    "No engine here tells what it caches. A topology with vLLM does with --kv-events; a server of others "
    "where it was started with vLLM's --kv-events-config, and --kv-events-url tcp://host:5557 says where."
)
_LABEL = 14  # cells of a heat map's row names
_SHADES = " ░▒▓█"
_WIDE = 12  # the widest cell of a heat map
_BAR = 12


def rows_of_engines(kv: KvMap, styles: Styles, width: int, chosen: int) -> list[Line]:
    """A heading and a row for each engine; the one at the cursor is marked."""
    heads = ("cached", "shared", "twice", "stored/s", "evict/s", "hits ≥", "lost")
    name_width = max([6, *(min(24, len(engine.name)) for engine in kv.engines)]) + 3
    head = Line("".ljust(name_width), styles.quiet).put(
        "".join(f"{text:>10}" for text in heads), styles.quiet
    )
    made = [head.cut(width)]
    for number, engine in enumerate(kv.engines):
        here = number == chosen
        line = Line("▸ " if here and len(kv.engines) > 1 else "  ", styles.command)
        line.put(clip(engine.name, name_width - 3).ljust(name_width - 2), styles.server_bold)
        figures = (
            count(engine.cached),
            count(engine.shared),
            count(engine.copies),
            sig3(engine.stored_per_s),
            sig3(engine.evicted_per_s),
            percent(engine.hit_share),
            count(engine.lost),
        )
        line.put("".join(f"{text:>10}" for text in figures), styles.server)
        if engine.storm:
            line.put("  ").put(" ✗ EVICTION STORM ", styles.trouble)
        if engine.why:
            line.put(f"  ! {engine.why}", styles.attention)
        made.append(line.cut(width))
    return made


def locality(kv: KvMap, styles: Styles) -> Line:
    """How often the replica with the longest beginning got the request."""
    found = kv.locality
    if found is None:
        return Line()
    if not found.comparable:
        return Line("locality -- (no block in two engines)", styles.quiet)
    return Line(f"locality taken {percent(found.share)} of {count(found.offered)} offered", styles.server)


def heat_lines(engine: EngineMap, styles: Styles, width: int) -> list[Line]:
    """Blocks by the requests seen to share them (rows, most first) and by age (columns): shade and number."""
    columns = len(AGE_EDGES_S) + 1
    across = min(_WIDE, (width - _LABEL) // columns)
    if across < 4 or not engine.heat:
        return []
    spans = [f"<{_age(AGE_EDGES_S[0])}", *(_age(edge) for edge in AGE_EDGES_S)]
    head = Line("requests".ljust(_LABEL), styles.quiet)
    made = [head.put("".join(f"{span:>{across}}" for span in spans), styles.quiet)]
    most = max(max(row) for row in engine.heat)
    for number in reversed(range(len(SHARE_EDGES))):
        line = Line(f"{_shared(number):<{_LABEL}}", styles.quiet)
        for blocks in engine.heat[number]:
            line.join(_cell(blocks, most, across, styles))
        made.append(line)
    return made


def _cell(blocks: int, most: int, across: int, styles: Styles) -> Line:
    """A number behind a shade of its logarithm."""
    if not blocks:
        return Line("·".rjust(across), styles.faint)
    level = 1 + round((len(_SHADES) - 2) * math.log1p(blocks) / math.log1p(most))
    text = brief(blocks)
    shade = _SHADES[level] * max(0, across - 2 - len(text))
    style = styles.server if level > 2 else styles.server_shade
    return Line(" ").put(shade, style).put(f" {text}".rjust(across - 1 - len(shade)), styles.base)


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def _shared(number: int) -> str:
    """The name of a row: how many requests share its blocks."""
    low = SHARE_EDGES[number]
    if number + 1 == len(SHARE_EDGES):
        return f"{low} and more"
    high = SHARE_EDGES[number + 1] - 1
    return f"{low}" if high == low else f"{low} to {high}"


def prefix_lines(engine: EngineMap, styles: Styles, width: int, height: int) -> list[Line]:
    """The beginnings that most requests share, each one before those that go on from it."""
    if not engine.prefixes:
        return [Line("No two requests with the same beginning were seen yet.", styles.quiet).cut(width)]
    made = []
    for prefix in engine.prefixes[:height]:
        tokens = None
        if prefix.blocks is not None and engine.block_tokens is not None:
            tokens = prefix.blocks * engine.block_tokens
        full, track = bar(prefix.share, _BAR)
        name = "  " * prefix.level + ("└ " if prefix.level else "")
        length = f"{count(tokens)} tokens" if tokens is not None else "-- tokens"
        parts = [
            (0, Line(f"{clip(name + length, 30):<30}", styles.base)),
            (1, Line(f"{count(prefix.requests):>8} requests  ", styles.server)),
            (
                0,
                Line(full, styles.server)
                .put(track, styles.faint)
                .put(f" {percent(prefix.share):>5}", styles.base),
            ),
            (2, Line(f"   {count(prefix.branches)} branches", styles.quiet)),
            (3, Line(f"   {short_span(prefix.age_s)} old", styles.quiet)),
        ]
        made.append(fitting(parts, width))
    return made
