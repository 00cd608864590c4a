"""Figures as text: three significant digits, a fixed width, ``--`` for what is missing. All pure."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

MISSING = "--"
GIB = float(1 << 30)


def sig3(value: float | None) -> str:
    """``value`` with three significant digits: 3.14, 31.4, 314, ``3 140``, 3.14M. At most 7 cells."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value < 0:
        return "-" + sig3(-value)
    if value == 0:
        return "0"
    # The digits are chosen from the rounded value, so that 9.999 is 10.0 and not 10.00.
    rounded = float(f"{value:.2e}")
    if rounded < 1:
        return f"{value:.3f}"
    if rounded < 10:
        return f"{value:.2f}"
    if rounded < 100:
        return f"{value:.1f}"
    if rounded < 1000:
        return f"{value:.0f}"
    if rounded < 1_000_000:
        return grouped(round(rounded))
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if rounded >= size:
            return sig3(rounded / size) + unit
    raise AssertionError("unreachable")


def grouped(value: int) -> str:
    """A whole number with its thousands apart: ``12 960``."""
    return f"{value:,}".replace(",", " ")


def tight(value: float | None) -> str:
    """A count where there are only four cells: ``9999``, then ``12k``."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:.0f}" if value < 9999.5 else f"{value / 1000:.0f}k" if value < 999_500 else "999k"


def brief(value: float) -> str:
    """A whole number in at most four cells, for an axis: ``8``, ``120``, ``1.5k``."""
    return f"{value:.0f}" if value < 1000 else f"{value / 1000:.3g}k" if value < 1e6 else sig3(value)


def count(value: float | None) -> str:
    """An exact count (``2 841``); three digits of it from ten million on. At most 9 cells."""
    if value is None or not math.isfinite(value):
        return MISSING
    return grouped(round(value)) if abs(value) < 1e7 else sig3(value)


def rate(value: float | None) -> str:
    """A request rate: 0.25, 48.0, 120, ``1 600``; one decimal up to 100, more only where it holds some."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value >= 99.95:
        return sig3(value)
    return f"{value:.1f}" if abs(value * 10 - round(value * 10)) < 1e-6 or value >= 10 else f"{value:.2f}"


def percent(share: float | None) -> str:
    """A share 0..1 as whole percent: ``64 %``."""
    if share is None or not math.isfinite(share):
        return MISSING
    return f"{100 * share:.0f} %"


def gib(value: float | None) -> str:
    """Bytes as GiB: ``1.2`` below ten, else ``98``."""
    if value is None or not math.isfinite(value):
        return MISSING
    size = value / GIB
    return f"{size:.1f}" if size < 9.95 else f"{size:.0f}"


def size_of(value: float | None) -> str:
    """Bytes with their unit: ``310 MiB``, ``1.24 GiB``."""
    if value is None or not math.isfinite(value):
        return MISSING
    for size, unit in ((GIB, "GiB"), (float(1 << 20), "MiB"), (1024.0, "KiB")):
        if value >= size:
            return f"{sig3(value / size)} {unit}"
    return f"{value:.0f} B"


def milliseconds(value: float | None) -> str:
    """A duration with its unit: ``12.4 ms``."""
    return MISSING if value is None else f"{sig3(value)} ms"


#: How figures of ``contract.figures`` are written, by their format.
FORMATS = {"count": count, "percent": percent, "split": percent, "bytes": size_of, "ms": milliseconds}


def clock(seconds: float | None) -> str:
    """An elapsed time: ``00:42``, ``1:02:03``."""
    if seconds is None or not math.isfinite(seconds):
        return "--:--"
    whole = max(0, int(seconds))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute:02d}:{second:02d}"


def short_span(seconds: float | None) -> str:
    """How long something took or how old it is: ``0.4 s``, ``6 s``, ``3 min``, ``2 h``."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7170 else f"{seconds / 3600:.0f} h"


def age(seconds: float | None) -> str:
    """The age of a stale figure in whole units (``6 s``), so that it does not flicker."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    return f"{seconds:.0f} s" if seconds < 119.5 else short_span(seconds)


def tick(ms: float) -> str:
    """A point of the log axis, with its unit: ``50 ms``, ``2 s``."""
    if ms < 1:
        return f"{ms * 1000:g} µs"
    if ms < 1000:
        return f"{ms:g} ms"
    return f"{ms / 1000:g} s"


def wall(unix_s: float) -> str:
    """The local time of day: ``14:02:11``."""
    return time.strftime("%H:%M:%S", time.localtime(unix_s))


def clip(text: str, width: int) -> str:
    """``text`` in at most ``width`` cells, with an ellipsis where it was cut."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…" if width > 1 else "…"[:width]


def fixed(text: str, width: int) -> str:
    """``text`` in exactly ``width`` cells, left-aligned."""
    return set_cell_size(clip(text, width), width)


def first_that_fits(texts: Sequence[str], width: int) -> str:
    """The first of ``texts`` (longest first) that fits into ``width`` cells, else the last one, cut."""
    return next((text for text in texts if cell_len(text) <= width), clip(texts[-1], max(0, width)))
