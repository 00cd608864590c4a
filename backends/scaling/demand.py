"""Replicas that are asked for beside those for the requests of now: by ``--autoscale-on``, by a pattern."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from backends.scaling.counts import Counts
from backends.scaling.figures import Figures
from backends.scaling.pattern import Pattern
from backends.settings.autoscale import Autoscale
from backends.settings.scale_rules import Rule

#: The engines' page, and those of the nodes.
Pages = Callable[[], Awaitable[tuple[str, Sequence[str]]]]


def by_rules(rules: Sequence[Rule], figures: Mapping[str, float], running: int) -> list[float]:
    """Replicas in proportion to each figure over what it is to be at most, as Kubernetes' HPA asks for them:
    `desired = running · figure / most`. A figure that is not known asks for nothing, which is no reason to
    have fewer: then there are as many as now."""
    return [
        running * figures[rule.figure] / rule.most if rule.figure in figures else float(running)
        for rule in rules
    ]


class Demand:
    """Of one model. ``scale.pattern_s`` and the clock of ``now_s`` decide where in a pattern one is."""

    def __init__(self, scale: Autoscale, model: str, pages: Pages | None = None) -> None:
        self._scale = scale
        self._pages = pages
        self._figures = Figures(model)
        self._pattern = None if scale.pattern_s is None else Pattern(scale.pattern_s)
        self._read: dict[str, float] = {}
        self._read_s: float | None = None

    async def look(self, now_s: float, counts: Counts) -> None:
        """Reads the figures that rules need, once a second."""
        if self._pages is None or not self._scale.rules:
            return
        if self._read_s is None or now_s - self._read_s >= 1.0:
            page, nodes = await self._pages()
            self._read, self._read_s = self._figures.read(now_s, page, nodes, counts.healthy), now_s

    def tell(self, figures: Mapping[str, float]) -> None:
        """The figures of now, where another process reads them."""
        self._read = dict(figures)

    def desired(self, now_s: float, requests: float, running: int, per_replica: float) -> list[float]:
        """Each demand in replicas. ``requests`` are those of now, which the pattern learns from. What is
        ahead is asked for so early that the delay of scaling up is over in time."""
        demands = by_rules(self._scale.rules, self._read, running)
        if self._pattern is not None:
            self._pattern.learn(now_s, requests)
            ahead_s = self._scale.ahead_s + self._scale.upscale_delay_s
            expected = self._pattern.most(now_s, ahead_s)
            if expected is not None:
                demands.append(expected / per_replica)
        return demands
