"""The dial: rates on a log scale, how the SLO fared at each, and a needle at the commanded one. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from rich.style import Style

from rvtop.ui.draw import Cells, Line
from rvtop.ui.format import rate
from rvtop.ui.rate_memory import Fared, RateMemory, RateScale
from rvtop.ui.theme import Styles

#: Narrower than this a dial tells nothing.
LEAST_WIDTH = 12
GLYPHS = {Fared.UNTRIED: "·", Fared.HELD: "●", Fared.MISSED: "○", Fared.BOTH: "◐"}
_LEGENDS = ("SLO ● held  ○ missed  · untried", "● held  ○ missed", "●held ○missed")


@dataclass(frozen=True, slots=True)
class RateDial:
    """What the dial shows. ``taken``: the load has the rate asked for; ``judged``: there is an SLO;
    ``steered``: keys change the rate."""

    scale: RateScale
    memory: RateMemory
    rate: float | None
    taken: bool
    judged: bool
    steered: bool = True

    @property
    def needle(self) -> int | None:
        """The needle's column; none while nothing is asked for."""
        return self.scale.column(self.rate) if self.rate else None

    def rows(self, styles: Styles) -> list[Line]:
        """Labels, the memory, and the needle with the legend."""
        cells = Cells(self.scale.width, 3)
        for x, text in self.scale.labels():
            cells.write(x, 0, text, styles.quiet)
        self._dots(cells, 1, styles)
        self._below(cells, 2, styles)
        return cells.lines()

    def one_row(self, styles: Styles) -> Line:
        """The memory alone, with the needle in it."""
        cells = Cells(self.scale.width, 1)
        self._dots(cells, 0, styles)
        if self.needle is not None:
            cells.set(self.needle, 0, "▲", self._needle_style(styles))
        return cells.lines()[0]

    def _dots(self, cells: Cells, y: int, styles: Styles) -> None:
        own = {
            Fared.UNTRIED: styles.faint,
            Fared.HELD: styles.client,
            Fared.MISSED: styles.trouble,
            Fared.BOTH: styles.attention,
        }
        for x, (fared, of_target) in enumerate(self.scale.columns(self.memory)):
            cells.set(x, y, GLYPHS[fared], own[fared] if of_target else styles.stale)

    def _below(self, cells: Cells, y: int, styles: Styles) -> None:
        """The needle with its rate, and the legend where the two leave room for it."""
        width, needle = self.scale.width, self.needle
        begin, end = 0, width  # the cells that the needle leaves free, the larger side of it
        if needle is not None:
            text = f"▲ {rate(self.rate)}"
            x = needle
            if needle + len(text) > width:
                text = f"{rate(self.rate)} ▲"
                x = needle + 1 - len(text)
            cells.write(max(0, x), y, text, self._needle_style(styles))
            begin, end = (0, x - 2) if x - 2 >= width - x - len(text) - 2 else (x + len(text) + 2, width)
        legends = _LEGENDS if self.judged else ("no SLO; L sets one", "no SLO")[not self.steered :]
        if self.rate == 0 and self.steered:
            legends = ("↑ sends one request a second", "↑ sends 1 a second")
        legend = next((text for text in legends if len(text) <= end - begin), "")
        cells.write(begin if begin == 0 else end - len(legend), y, legend, styles.quiet)

    def _needle_style(self, styles: Styles) -> Style:
        return styles.command if self.taken else styles.command + Style(underline=True)
