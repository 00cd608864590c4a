"""Reads the Prometheus text format (version 0.0.4), only the lines that someone wants.

Written by hand because a page of 64 vLLM engines has tens of thousands of lines and must be read every
second beside a load: this reader remembers what each series is between polls, so a page costs one
dictionary look-up and one ``float()`` per wanted line (``python -m tests.unit.telemetry_pages`` times it
beside prometheus_client's parser, which a property test holds it against).
Format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

Slot = TypeVar("Slot")

_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(,|(?=\}))')
_ESCAPE = re.compile(r'\\([\\n"])')
_SERIES = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*[ \t]*(\{.*\})?[ \t]*[-+.0-9nNiI]\S*([ \t]+-?\d+)?[ \t]*")
_MAX_SERIES = 200_000
_PART_LINES = 2000
_NEW = object()


class NotPrometheus(ValueError):
    """The text is no Prometheus page; ``str()`` says why in a few words."""


class SeriesReader(Generic[Slot]):
    """Turns pages into (slot, value) pairs.

    ``wanted`` are the names to read. ``slot_of(name, labels)`` is asked once per series what it is to
    the caller (None: unwanted after all); the answer is remembered between pages.
    """

    def __init__(
        self, wanted: Collection[str], slot_of: Callable[[str, Mapping[str, str]], Slot | None]
    ) -> None:
        self._wanted = frozenset(wanted)
        self._slot_of = slot_of
        self._known: dict[str, Slot | None] = {}
        self._found = False

    def read(self, text: str) -> Iterator[tuple[Slot, float]]:
        """The wanted series of a page, in its order.

        Raises NotPrometheus when a wanted line is malformed, or when the text has no wanted line and
        does not begin like a Prometheus page either. Other lines are not looked at.
        """
        for pairs in self.read_in_parts(text):
            yield from pairs

    def read_in_parts(self, text: str) -> Iterator[Iterator[tuple[Slot, float]]]:
        """``read`` with a rest every 2000 lines: each part is to be read to its end before the next."""
        if len(self._known) >= _MAX_SERIES:  # engines that came and went, for days
            self._known.clear()
        self._found = False
        lines = text.split("\n")
        for begin in range(0, len(lines), _PART_LINES):
            yield self._read(lines[begin : begin + _PART_LINES])
        if not self._found:
            _check_looks(text)

    def _read(self, lines: Iterable[str]) -> Iterator[tuple[Slot, float]]:
        wanted, known = self._wanted, self._known
        for line in lines:
            brace = line.find("{")
            if brace >= 0:
                name = line[:brace].strip()
                if name not in wanted:
                    continue
                end = line.rfind("}") + 1
                head = line[:end]
            else:
                fields = line.split(None, 1)
                if not fields or fields[0] not in wanted:
                    continue
                head = name = fields[0]
                end = line.find(name) + len(name)
            self._found = True
            slot = known.get(head, _NEW)
            if slot is _NEW:
                labels, end_of_labels = _labels(line, brace)
                slot = self._slot_of(name, labels)
                if brace < 0 or end_of_labels == end:
                    if len(known) < _MAX_SERIES:
                        known[head] = slot
                else:  # an OpenMetrics exemplar follows the value: its braces change with each page
                    end = end_of_labels
            if slot is not None:
                yield slot, _value(line, end)  # type: ignore[misc]  # _NEW is gone by now


def _labels(line: str, brace: int) -> tuple[dict[str, str], int]:
    """The labels of a series line whose ``{`` is at ``brace`` (-1: none), and where they end."""
    if brace < 0:
        return {}, -1
    labels: dict[str, str] = {}
    position = brace + 1
    while (match := _LABEL.match(line, position)) is not None:
        labels[match[1]] = _ESCAPE.sub(_unescape, match[2])
        position = match.end()
    rest = line[position:].lstrip(" \t")
    if not rest.startswith("}"):
        raise NotPrometheus(f"malformed line: {line[:80]}")
    return labels, len(line) - len(rest) + 1


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]


def _value(line: str, start: int) -> float:
    """The value that follows a series' head; a timestamp or an exemplar after it is left aside."""
    fields = line[start:].split()
    try:
        if not fields or "_" in fields[0] or (len(fields) > 2 and "#" not in (fields[1], fields[2])):
            raise ValueError
        return float(fields[0])
    except ValueError:
        raise NotPrometheus(f"malformed line: {line[:80]}") from None


def _check_looks(text: str) -> None:
    """Raises NotPrometheus unless the first line that says something is a comment or a series."""
    first = next((line.strip() for line in text.split("\n", 1000) if line.strip()), "")
    if not first:
        raise NotPrometheus("an empty page")
    if not first.startswith("#") and _SERIES.fullmatch(first) is None:
        raise NotPrometheus("not Prometheus text")
