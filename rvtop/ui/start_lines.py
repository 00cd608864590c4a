"""The rows of the Start screen as lines, and in which of them each thing stands that can be chosen. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate
from typing import TypeVar

from rich.style import Style

from rvtop.contract.start import GpuRow, Machine, ModelRow, Offer, RecentRow, StartFacts, UpRow
from rvtop.ui.draw import Line
from rvtop.ui.format import MISSING, clip, clock, fixed, gib, percent, short_span, size_of
from rvtop.ui.theme import Styles

#: From this width on models, GPUs and what was there lately stand side by side.
BESIDE = 110
_GAP = 2
#: Of that width models and GPUs get each; the rest is for runs, whose names are long.
_SHARE = 0.3
#: Columns of the topologies besides name, whether it runs here and the last start: those that fit, in turn.
_COLUMNS = (
    ("engine", "engine", 11),
    ("where", "where it runs", 14),
    ("route", "how a request gets there", 24),
    ("adds", "adds", 14),
)
_LAST_START = 10
_LEAST_HERE = 20

T = TypeVar("T")
Item = UpRow | Offer | ModelRow | RecentRow


@dataclass
class Picture:
    """``lines`` of one width; ``places``: the line and the first and last column of each item."""

    lines: list[Line] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)


def items_of(facts: StartFacts) -> list[Item]:
    """What can be chosen, in the order of the cursor."""
    return [*facts.up, *facts.offers, *facts.models, *facts.recent]


def facts_with(facts: StartFacts, text: str) -> StartFacts:
    """``facts`` with those rows alone that hold ``text``."""
    wanted = text.casefold()
    if not wanted:
        return facts

    def held(rows: Iterable[T]) -> tuple[T, ...]:
        return tuple(row for row in rows if wanted in " ".join(map(str, asdict(row).values())).casefold())  # type: ignore[call-overload]

    return replace(
        facts,
        up=held(facts.up),
        offers=held(facts.offers),
        models=held(facts.models),
        recent=held(facts.recent),
    )


def _here(offer: Offer) -> str:
    """Whether it runs here."""
    return f"✗ {offer.why}" if offer.why else f"! {offer.note}" if offer.note else "✓"


def describe_item(item: Item, command: str) -> list[str]:
    """All that is known of a row, a line each, its command line last."""
    if isinstance(item, Offer):
        told = {
            "is": item.about, "engine": item.engine, "runs as": item.where, "route": item.route,
            "adds": item.adds, "here": _here(item),
            "mend": item.fix, "last start": clock(item.last_start_s) if item.last_start_s is not None else "",
        }  # fmt: skip
    elif isinstance(item, UpRow):
        told = {
            "address": item.url, "topology": item.topology, "models": ", ".join(item.models),
            "state": item.state, "up": clock(item.up_s), "fault": item.why,
        }  # fmt: skip
    elif isinstance(item, ModelRow):
        size = "" if item.size is None else size_of(item.size)
        told = {
            "is": item.about,
            "size": size,
            "from": item.source,
            "default": "yes" if item.by_default else "",
        }
    else:
        age = "" if item.age_s is None else f"{short_span(item.age_s)} ago"
        told = {"address": item.url, "folder": item.folder, "is": item.about, "seen": age, "fault": item.why}
    if command:
        told["shell"] = command
    if isinstance(item, Offer) and item.kubernetes:
        told["Kubernetes"] = "K copies the line that deploys it there"
    return [f"{name:<12}{text}" for name, text in told.items() if text]


class StartLines:
    """Draws ``facts`` in ``width`` cells. ``cursor`` is the index of the chosen item, None for none;
    ``ticked`` are names of models."""

    def __init__(
        self, facts: StartFacts, styles: Styles, width: int, cursor: int | None, ticked: frozenset[str]
    ) -> None:
        self._facts, self._styles, self._width = facts, styles, width
        self._cursor, self._ticked = cursor, ticked
        self._number = 0

    def picture(self) -> Picture:
        """All of it, as many lines as it takes."""
        facts, made = self._facts, Picture()
        if facts.up:
            self._section(made, "up now: watching restarts nothing", "enter watches", facts.up)
        self._section(made, "start", "enter starts", facts.offers, self._heads())
        if not facts.complete:
            text = clip("   looking for models, GPUs and servers …", self._width)
            made.lines.append(Line(text, self._styles.quiet))
            return made
        models, recent = self._models_block(), self._recent_block()
        if self._width >= BESIDE:
            self._beside(made, [models, self._gpus_block(), recent])
        else:
            for lines, places in (models, recent, self._gpus_block()):  # what can be chosen first
                self._add(made, lines, places)
        return made

    # -- sections ----------------------------------------------------------------------------

    def _section(
        self, made: Picture, title: str, hint: str, rows: Sequence[Item], heads: Line | None = None
    ) -> None:
        made.lines.append(rule(title, hint, self._width, self._styles))
        if heads is not None:
            made.lines.append(heads)
        for row in rows:
            made.places.append((len(made.lines), 0, self._width))
            made.lines.append(self._row(row, self._width))

    def _models_block(self) -> tuple[list[Line], list[int]]:
        return self._block("models", "space ticks", self._facts.models, self._widths[0])

    def _recent_block(self) -> tuple[list[Line], list[int]]:
        rows, width = self._facts.recent, self._widths[2]
        lines, places = self._block("recent", "", rows, width)
        if not rows:
            lines.append(Line(clip("   no server yet, and no runs in runs/", width), self._styles.quiet))
        return lines, places

    def _gpus_block(self) -> tuple[list[Line], list[int]]:
        width, quiet = self._widths[1], self._styles.quiet
        lines = [rule("GPUs and nodes", "", width, self._styles)]
        for gpu in self._facts.gpus:
            lines.append(self._gpu(gpu, width))
        if not self._facts.gpus:
            lines.append(Line(clip("   no GPU: engines run on the CPU", width), quiet))
        lines.append(Line(clip("   " + node_text(self._facts.machine), width), quiet))
        return lines, []

    def _block(self, title: str, hint: str, rows: Sequence[Item], width: int) -> tuple[list[Line], list[int]]:
        lines, places = [rule(title, hint, width, self._styles)], []
        for row in rows:
            places.append(len(lines))
            lines.append(self._row(row, width))
        return lines, places

    @property
    def _widths(self) -> tuple[int, int, int]:
        """Of models, GPUs and what was there lately."""
        if self._width < BESIDE:
            return self._width, self._width, self._width
        room = self._width - 2 * _GAP
        each = int(_SHARE * room)
        return each, each, room - 2 * each

    def _add(self, made: Picture, lines: list[Line], places: list[int]) -> None:
        made.places += [(len(made.lines) + y, 0, self._width) for y in places]
        made.lines += lines

    def _beside(self, made: Picture, blocks: list[tuple[list[Line], list[int]]]) -> None:
        top = len(made.lines)
        lefts = list(accumulate((width + _GAP for width in self._widths), initial=0))
        for number, (_, places) in enumerate(blocks):
            made.places += [(top + y, lefts[number], lefts[number] + self._widths[number]) for y in places]
        for y in range(max(len(lines) for lines, _ in blocks)):
            line = Line()
            for left, (lines, _) in zip(lefts, blocks, strict=False):
                line.to(left)
                if y < len(lines):
                    line.join(lines[y])
            made.lines.append(line)

    # -- rows --------------------------------------------------------------------------------

    def _row(self, row: Item, width: int) -> Line:
        here = self._number == self._cursor
        self._number += 1
        line = Line(" ▸ " if here else "   ", self._styles.cursor if here else None)
        if isinstance(row, UpRow):
            self._up(line, row, here, width)
        elif isinstance(row, Offer):
            self._offer(line, row, here, width)
        elif isinstance(row, ModelRow):
            self._model(line, row, here, width)
        else:
            self._recent(line, row, here, width)
        line = line.cut(width)
        return line.put(" " * (width - line.width), self._styles.cursor_quiet if here else None)

    def _styles_of(self, here: bool, name: Style) -> tuple[Style, Style]:
        """Of the name and of what stands beside it."""
        return (self._styles.cursor, self._styles.cursor_quiet) if here else (name, self._styles.quiet)

    def _up(self, line: Line, row: UpRow, here: bool, width: int) -> None:
        name, text = self._styles_of(here, self._styles.server_bold)
        kind = "" if row.topology == row.name else f"{row.topology}  "
        line.put(fixed(row.name, 10), name).put("  ", text)
        line.put(fixed(row.url or MISSING, 24), text).put("  ", text)
        line.put(fixed(",".join(row.models) or MISSING, 14), text).put("  ", text)
        since = f"{kind}{row.state}, up {clock(row.up_s)}" if not row.why else f"✗ {row.why}"
        bad = row.why and not here
        line.put(clip(since, max(1, width - line.width)), self._styles.trouble if bad else text)

    def _shown_columns(self) -> list[tuple[str, str, int]]:
        """Those that have room; what "here?" leaves of it goes to columns whose texts are longer."""
        offers = self._facts.offers
        here = max((len(_here(offer)) + 2 for offer in offers), default=0)
        least = min(max(len("here?") + 2, here), self._width // 3)
        room = self._width - 3 - 12 - _LEAST_HERE - _LAST_START - 1
        shown = []
        for column in _COLUMNS:
            room -= column[2] + _GAP
            if room < 0:
                break
            shown.append(column)
        spare = self._width - 3 - 12 - least - _LAST_START - 1 - sum(size + _GAP for _, _, size in shown)
        sizes = [size for _, _, size in shown]
        for _ in range(spare):  # a cell goes to where the most texts are cut
            cut = [
                sum(len(getattr(offer, key)) > size for offer in offers)
                for (key, _, _), size in zip(shown, sizes, strict=True)
            ]
            if not any(cut):
                break
            sizes[cut.index(max(cut))] += 1
        return [(key, head, size) for (key, head, _), size in zip(shown, sizes, strict=True)]

    def _here_width(self) -> int:
        columns = sum(size + _GAP for _, _, size in self._shown_columns())
        return max(1, self._width - 3 - 12 - columns - _LAST_START - 1)  # none touches the edge

    def _heads(self) -> Line:
        line = Line(" " * 15)
        for _, head, size in self._shown_columns():
            line.put(fixed(head, size + _GAP), self._styles.faint)
        line.put(fixed("here?", self._here_width()), self._styles.faint)
        return line.put("last start", self._styles.faint).cut(self._width)

    def _offer(self, line: Line, row: Offer, here: bool, width: int) -> None:
        name, text = self._styles_of(here, self._styles.server_bold if row.available else self._styles.stale)
        line.put(fixed(row.name, 10), name).put("  ", text)
        for key, _, size in self._shown_columns():
            line.put(fixed(getattr(row, key), size), text).put(" " * _GAP, text)
        said = _here(row)
        mood = (
            self._styles.trouble if row.why else self._styles.attention if row.note else self._styles.server
        )
        as_usual = all((model.name in self._ticked) == model.by_default for model in self._facts.models)
        took = clock(row.last_start_s) if as_usual and row.last_start_s is not None else MISSING
        size = self._here_width() + _LAST_START - len(took)  # a time is shorter than its head
        line.put(fixed(said, size - 1), text if here else mood).put(f" {took}", text)

    def _model(self, line: Line, row: ModelRow, here: bool, width: int) -> None:
        name, text = self._styles_of(here, self._styles.base)
        line.put("[x] " if row.name in self._ticked else "[ ] ", name).put(fixed(row.name, 6), name)
        size = "" if row.size is None else f"  {size_of(row.size)}"
        line.put(clip(f"{row.about}{size}", max(1, width - line.width)), text)

    def _recent(self, line: Line, row: RecentRow, here: bool, width: int) -> None:
        name, text = self._styles_of(here, self._styles.base)
        age = "" if row.age_s is None else f"{short_span(row.age_s)} ago"
        why = f"✗ {row.why}" if row.why else ""
        more = "  ".join(part for part in (why, row.about, age) if part)
        room = max(1, width - line.width)
        more = clip(more, room // 2)
        line.put(fixed(row.name, max(1, room - len(more) - 2)), name).put("  ", text).put(more, text)

    def _gpu(self, gpu: GpuRow, width: int) -> Line:
        state = {True: "free", False: "in use", None: MISSING}[gpu.free]
        style = self._styles.server if gpu.free else self._styles.quiet
        line = Line(f"   {gpu.index}  ", self._styles.quiet).put(fixed(state, 8), style)
        name = gpu.name.removeprefix("NVIDIA ")  # which says the least
        return line.put(
            clip(f"{gib(gpu.used)}/{gib(gpu.total)} GiB  {name}", max(1, width - line.width)),
            self._styles.quiet,
        )


def rule(title: str, hint: str, width: int, styles: Styles) -> Line:
    """The line above a section."""
    line = Line("── ", styles.frame).put(clip(title, max(1, width - 4)), styles.strong).put(" ")
    right = Line(f" {hint} ", styles.quiet).put("──", styles.frame) if hint else Line()
    if line.width + right.width > width:
        right = Line()
    return line.put("─" * (width - line.width - right.width), styles.frame).join(right).cut(width)


def node_text(machine: Machine) -> str:
    """``n1  cpu 4 %  64 cores``."""
    cores = MISSING if machine.cores is None else f"{machine.cores} core{'s' if machine.cores != 1 else ''}"
    return f"{machine.name or 'this machine'}  cpu {percent(machine.cpu)}  {cores}"


def head_line(facts: StartFacts, styles: Styles, width: int) -> Line:
    """The first line of the screen: where we are and what is there."""
    line, machine = Line(" rvtop   ", styles.command), facts.machine
    if not facts.complete:
        return line.put("load and watch an LLM server", styles.quiet).cut(width)
    free = sum(gpu.free is True for gpu in facts.gpus)
    count = len(facts.gpus)
    parts = [
        machine.name,
        f"{count} GPU{'s' if count != 1 else ''}, {free} free" if count else "no GPU",
        machine.ray,
        *(f"{title} {version}" for title, version in machine.versions),
        f"{len(facts.models)} models" if len(facts.models) != 1 else "1 model",
    ]
    return line.put(clip(" · ".join(filter(None, parts)), max(1, width - line.width)), styles.quiet)
