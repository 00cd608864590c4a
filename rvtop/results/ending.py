"""How a run ended: its kind, the one line that says it, and the exit code that follows.

A run writes its end as the last line of its command log (``cmd: ended``). One that could not is cut off.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from rvtop.text import printable

#: Exit codes by kind. Where several kinds hold, the first of this order is the run's: what bends the figures
#: most comes first.
EXIT_CODES = {
    "client_failed": 5,  # a part of rvtop died, or the results could not be written
    "cut_off": 5,  # the run did not write its end
    "target_lost": 3,
    "interrupted": 130,
    "saturated": 1,  # it was to end where load is above what the server can answer
    "all_failed": 1,
    "done": 0,
}
_ORDER = tuple(EXIT_CODES)
#: So many reasons are named; of sixty-four workers that died a few will do.
_MOST_NAMED = 3
_TEXT_LIMIT = 200
#: No run has more, and none lasts longer: what says so was damaged.
_MOST_REQUESTS, _LONGEST_S = 1 << 53, 1e9
#: Ends of a request that were asked for: they are no failure.
_WANTED = ("cancelled",)

ENDED = "ended"  # the command of a run's last line


@dataclass(frozen=True)
class End:
    """``in_flight``: requests that were in flight as the run ended and got no full answer. ``by_model``:
    those of them that have no line in ``requests.jsonl``. ``text``: one line, "" for a run that is done."""

    kind: str = "done"
    in_flight: int = 0
    text: str = ""
    by_model: Mapping[str, int] = field(default_factory=dict)

    def for_summary(self) -> dict[str, Any]:
        """The ``end`` of a summary."""
        return {"kind": self.kind, "in_flight": self.in_flight, "text": self.text}

    def fields(self) -> dict[str, Any]:
        """The run's last line in the command log, but for its time."""
        return {"cmd": ENDED, **asdict(self)}


@dataclass(frozen=True)
class Cause:
    """One reason for a run to end as it did."""

    kind: str
    text: str


def end_of(causes: Sequence[Cause], in_flight: int, by_model: Mapping[str, int]) -> End:
    """The end of a run that knows its ``causes``: the kind that comes first in EXIT_CODES, and all their
    texts in that order. No cause: it is done."""
    ordered = sorted(causes, key=lambda cause: _ORDER.index(cause.kind))
    texts = list(dict.fromkeys(cause.text for cause in ordered))
    more = len(texts) - _MOST_NAMED
    text = "; ".join(texts[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
    held = {model: n for model, n in by_model.items() if n}
    return End(ordered[0].kind if ordered else "done", in_flight, text, held)


def cut_off(in_flight: int, by_model: Mapping[str, int]) -> End:
    """The end of a run that has not written one."""
    what = f"{in_flight} request{'' if in_flight == 1 else 's'} in flight"
    text = f"cut off, {what}: the run did not write its end (it was killed, or still runs)"
    return End("cut_off", in_flight, text, dict(by_model))


def weighed(end: End, ok: int, errors: Mapping[str, int], texts: Mapping[tuple[str, str], int]) -> End:
    """``end``, or ``all_failed`` for a run that is done and has not one good answer.

    ``errors`` are counts by class; ``texts`` counts of (class, error text).
    """
    failed = {kind: n for kind, n in errors.items() if n and kind not in _WANTED}
    if end.kind != "done" or ok or not failed:
        return end
    kind = max(failed, key=lambda kind: failed[kind])
    of_kind = {text: n for (of, text), n in texts.items() if of == kind}
    most = printable(max(of_kind, key=lambda text: of_kind[text], default=""), _TEXT_LIMIT)
    text = f"every request failed ({failed[kind]} of {sum(failed.values())}: {kind}"
    text += f": {most})" if most else ")"
    return End("all_failed", end.in_flight, text, end.by_model)


def exit_code(kind: str, missed: Sequence[str]) -> int:
    """The exit code of a run of this kind that ``missed`` some thresholds."""
    return EXIT_CODES[kind] or (1 if missed else 0)


def heartbeat(path: Path) -> dict[str, Any]:
    """The last heartbeat of a run that has not written its end; empty if there is none."""
    try:
        beat = orjson.loads(path.read_bytes())
        known = {str(model): _count(n) for model, n in beat["by_model"].items() if n}
        if not 0 <= (t_s := float(beat["t_s"])) <= _LONGEST_S:
            return {}
        return {"t_s": t_s, "in_flight": _count(beat["in_flight"]), "by_model": known}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return {}  # the run ended by itself, or a full disk has torn it


def end_of_log(
    commands: Sequence[Mapping[str, Any]],
    timeline: Sequence[Mapping[str, Any]],
    beat: Mapping[str, Any],
    models: Collection[str],
) -> End:
    """How the run ended, by its own last line; without one it was cut off. ``beat`` is its heartbeat."""
    if commands and commands[-1]["cmd"] == ENDED:
        last = commands[-1]
        return End(last["kind"], last["in_flight"], last["text"], last["by_model"])
    if beat:
        return cut_off(beat["in_flight"], beat["by_model"])
    if any(entry["cmd"] == "stop" for entry in commands):
        return End()  # of before ends were written
    held = int(timeline[-1].get("in_flight") or 0) if timeline else 0
    return cut_off(held, dict.fromkeys(models, held) if len(models) == 1 else {})


def _count(value: Any) -> int:
    """A number of requests. Raises ValueError."""
    if type(value) is not int or not 0 <= value <= _MOST_REQUESTS:
        raise ValueError(f"not a number of requests: {value!r}")
    return value
