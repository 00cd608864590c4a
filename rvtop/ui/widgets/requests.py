"""The panels of the requests screen: typical parts of a TTFT, the list, and the chosen request."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rvtop.contract.requests import RequestRow
from rvtop.contract.snapshot import Snapshot
from rvtop.stats.typical import STAGES, VLLM, Typical, estimated
from rvtop.text import phase_words
from rvtop.ui.axis import StickyMax
from rvtop.ui.draw import Line
from rvtop.ui.format import count, sig3
from rvtop.ui.request_lines import (
    NAMES,
    ORDERS,
    PARTS,
    axis,
    detail_texts,
    head_line,
    matching,
    ordered,
    part_style,
    parts_bar,
    row_line,
    window,
)
from rvtop.ui.widgets.panel import Panel

_NAME = 16  # cells before a bar of the typical parts
_DECODE = 12  # behind it, where there is room
_WIDE = 96
NONE_YET = "None yet; the slowest will stand here"


@dataclass
class ListState:
    """What the list shows and which row is chosen; the panels of one screen share it."""

    order: str = ORDERS[0]
    filter: str = ""
    errors_only: bool = False
    chosen: int | None = None  # a request's id
    text: str = ""  # a prompt that was asked for, of the chosen one

    def rows(self, s: Snapshot) -> list[RequestRow]:
        """The requests of the list in their order. Errors come first: they have no place among the slow."""
        errors = matching(s.requests.errors, self.filter)
        if self.errors_only:
            return errors
        return [*ordered(matching(s.requests.slowest, self.filter), self.order), *errors]

    def row(self, s: Snapshot) -> tuple[int, RequestRow] | None:
        """The chosen request with its place; the first where the chosen one is not listed any more."""
        rows = self.rows(s)
        if not rows:
            return None
        return next(((i, row) for i, row in enumerate(rows) if row.id == self.chosen), (0, rows[0]))

    def move(self, s: Snapshot, step: int) -> None:
        """Chooses another row."""
        found, rows = self.row(s), self.rows(s)
        if found is not None:
            place = min(max(0, found[0] + step), len(rows) - 1)
            self.chosen, self.text = rows[place].id, ""


class PartsPanel(Panel):
    DEFAULT_CSS = """
    PartsPanel { height: 5; }
    """
    TOPIC = "requests"

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        return s.requests, s.figures.get("queue_time"), s.figures.get("prefill_time")

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles, requests = self.rich_styles, s.requests
        left = Line("where the TTFT went", styles.client_bold)
        for letter, name, _ in PARTS:
            if width >= _WIDE and self._is_named(requests.typical, name):
                left.put(f"  {letter} ", part_style(styles, name)).put(NAMES[name], styles.quiet)
        by = " by metrics" if any(VLLM in each.source for each in requests.typical) else ""
        right = Line(f"{count(requests.told)} of {count(requests.count)} tell{by}, 10 s", styles.quiet)
        if requests.count and not requests.told:
            right = Line("ESTIMATE: the server tells only means, 10 s", styles.attention)
            if not self._estimates(s):
                right = Line("the server tells no parts: -- in n", styles.quiet)
        return left, right

    def _is_named(self, typical: Sequence[Typical], part: str) -> bool:
        """Whether the legend has a part: all but the router and stages of retrieval where there are none, and
        retrieval as a whole where it has stages."""
        staged = any(getattr(each.parts, stage) is not None for each in typical for stage in STAGES)
        if part == "retrieve" and staged:
            return False
        return part not in ("router", *STAGES) or any(
            getattr(each.parts, part) is not None for each in typical
        )

    def _estimates(self, s: Snapshot) -> list[Typical]:
        queue, prefill = s.figures.get("queue_time"), s.figures.get("prefill_time")
        made = [estimated(each, queue, prefill) for each in s.requests.typical if each.name == "mean"]
        return [each for each in made if each is not None]

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        styles, requests = self.rich_styles, s.requests
        if not requests.typical:
            return [Line(NONE_YET, styles.quiet)]
        shown = [each for each in requests.typical if each.name != "mean"]
        known = set() if requests.told else {each.name for each in self._estimates(s)}
        if known:
            shown = [*self._estimates(s), *shown]
        scale = max(each.ttft_ms for each in shown)
        decodes = width >= _WIDE and any(each.decode_ms is not None for each in shown)
        room = width - _NAME - (_DECODE if decodes else 0)
        lines = []
        for each in shown[: height - 1]:
            line = Line(f"{each.name:<5}", styles.base).put(f"{sig3(each.ttft_ms):>8}", styles.client)
            line.put(" ~" if each.name in known else "  ", styles.attention).to(_NAME)
            line.join(parts_bar(styles, each.parts, scale, room))
            if decodes:
                line.to(_NAME + room).put(" │ d ", styles.faint).put(sig3(each.decode_ms), styles.quiet)
            lines.append(line)
        return [*lines, Line().to(_NAME).join(axis(styles, scale, room))]

    def one_line(self, s: Snapshot, width: int) -> Line:
        line = Line(" TTFT ", self.rich_styles.client_bold)
        for each in s.requests.typical:
            line.put(f"{each.name} {sig3(each.ttft_ms)}  ", self.rich_styles.client)
        return line.cut(width)


class RequestList(Panel):
    DEFAULT_CSS = """
    RequestList { height: 1fr; min-height: 3; }
    """
    TOPIC = "requests"

    def __init__(self, state: ListState) -> None:
        super().__init__()
        self.state = state
        self._scale = StickyMax(least=10.0)

    def observe(self, s: Snapshot) -> None:
        self._scale.follow(max((row.ttft_ms or 0.0 for row in s.requests.slowest), default=0.0))

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        return s.requests, replace(self.state)

    async def on_mouse_scroll_up(self) -> None:
        await self.run_action("screen.cursor(-1)")

    async def on_mouse_scroll_down(self) -> None:
        await self.run_action("screen.cursor(1)")

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles, state = self.rich_styles, self.state
        what = "errors, newest first" if state.errors_only else f"slowest first, by {state.order}"
        if not state.errors_only and state.order == "newest":
            what = "the slowest of 60 s, newest first"
        left = Line(what, styles.trouble if state.errors_only else styles.client_bold)
        if state.filter:
            left.put(f"  / {state.filter}", styles.command)
        rows = len(state.rows(s))
        return left, Line(f"{count(rows)} listed", styles.quiet)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        styles, state = self.rich_styles, self.state
        rows, scale = state.rows(s), self._scale.value
        if not rows:
            return [Line(self._nothing(s), styles.quiet)]
        found = state.row(s)
        place = found[0] if found is not None else 0
        begin = window(len(rows), place, height - 1)
        lines = [head_line(styles, width, scale)]
        for index, row in enumerate(rows[begin : begin + height - 1], begin):
            lines.append(row_line(styles, row, width, scale, chosen=index == place))
        return lines

    def _nothing(self, s: Snapshot) -> str:
        if self.state.filter:
            return f"Nothing listed holds “{self.state.filter}”; / and enter on nothing lists all"
        return "No request has failed" if self.state.errors_only else NONE_YET

    def one_line(self, s: Snapshot, width: int) -> Line:
        return Line(f" {len(self.state.rows(s))} requests listed", self.rich_styles.quiet).cut(width)


class RequestDetail(Panel):
    DEFAULT_CSS = """
    RequestDetail { height: 7; }
    """
    TOPIC = "requests"

    def __init__(self, state: ListState) -> None:
        super().__init__()
        self.state = state

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        return s.requests, replace(self.state)

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        found = self.state.row(s)
        if found is None:
            return Line("request", self.rich_styles.quiet), Line()
        place, row = found
        left = Line(f"{row.id}", self.rich_styles.client_bold).put(
            f"  {phase_words(row.phase)}", self.rich_styles.quiet
        )
        return left, Line(f"request {place + 1} of {len(self.state.rows(s))}", self.rich_styles.quiet)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        styles, found = self.rich_styles, self.state.row(s)
        if found is None:
            return []
        row = found[1]
        if self.state.text:
            return [Line(part, styles.base) for part in textwrap.wrap(self.state.text, max(1, width))][
                :height
            ]
        lines = []
        if row.error is not None:
            lines.append(Line(f"✗ {row.error}", styles.trouble))
            lines += [Line(part, styles.base) for part in textwrap.wrap(row.error_text, max(1, width))]
        for name, value, about in detail_texts(row):
            line = Line(f"{name:<8}", styles.quiet).put(f"{value:>7}", styles.strong)
            lines.append(line.put(f"  {about}", styles.quiet))
        return lines[:height]

    def one_line(self, s: Snapshot, width: int) -> Line:
        found = self.state.row(s)
        return Line(f" {found[1].id}" if found else "", self.rich_styles.quiet).cut(width)
