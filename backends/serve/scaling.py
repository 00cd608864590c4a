"""What the head does where Serve scales our applications: it counts replicas, and hands figures to the policy
in Serve's controller."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from backends.cluster.cluster import list_nodes
from backends.cluster.node_pages import node_pages
from backends.scaling.counts import Counts, page
from backends.scaling.figures import Figures
from backends.serve import scale_policy, serve
from backends.serve.model_app import App
from backends.settings.autoscale import Autoscale

log = logging.getLogger("backends.serve.scaling")


class ScaleWatch:
    """``engines_page`` asks for the page that rules are read off."""

    def __init__(
        self, apps: Sequence[App], scale: Autoscale, engines_page: Callable[[], Awaitable[str]]
    ) -> None:
        self._apps = list(apps)
        self._rules = scale.rules
        self._engines_page = engines_page
        self._counts: dict[str, Counts] = {}
        self._targets: dict[str, float] = {}
        self._figures = {app.name: Figures(app.name) for app in apps}

    async def look(self) -> None:
        """Once a second. While Serve does not answer, what was known last stays."""
        from ray.exceptions import RayError

        try:
            await self._look()
        except (RayError, ValueError) as error:
            log.debug("Serve's replicas are not known: %r", error)

    async def _look(self) -> None:
        alive = len(await list_nodes())
        for app in self._apps:
            found = await asyncio.to_thread(serve.counts, app.app, app.deployment)
            if found is not None:
                counts, self._targets[app.name] = found
                self._counts[app.name] = replace(counts, nodes=alive)
        if not self._rules:
            return
        nodes = await node_pages() if any(rule.figure == "gpu_util" for rule in self._rules) else []
        engines = await self._engines_page()
        for app in self._apps:
            healthy = self._counts[app.name].healthy if app.name in self._counts else 0
            figures = self._figures[app.name].read(time.monotonic(), engines, nodes, healthy)
            await asyncio.to_thread(scale_policy.tell, key_of(app), figures)

    def rests(self, model: str) -> bool:
        """Whether Serve wants no replica of a model now."""
        return model in self._counts and self._counts[model].wanted == 0

    def starts(self, model: str) -> bool:
        """Whether Serve starts a replica of a model."""
        return model in self._counts and self._counts[model].starting > 0

    def stays(self, model: str) -> bool:
        """Whether a model has a replica that Serve does not end."""
        return model in self._counts and self._counts[model].healthy > 0

    def page(self) -> str:
        """Replicas by state, as a page of metrics."""
        return page(self._counts, self._targets)


def scaled(config: Mapping[str, Any], app: App, scale: Autoscale | None) -> dict[str, Any]:
    """A deployment's configuration, with our policy where Serve's own is not enough."""
    if scale is None:
        return dict(config)
    policy = scale_policy.config(key_of(app), app.name, scale)
    return {**config, "autoscaling_config": {**config["autoscaling_config"], **policy}}


def key_of(app: App) -> str:
    """Where the figures of an application's model are kept."""
    return f"rvtop-scale-{app.app}"
