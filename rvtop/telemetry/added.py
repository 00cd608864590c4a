"""Sources of the server's figures that plugins add (docs/plugins.md)."""

from __future__ import annotations

import logging
from time import perf_counter_ns
from typing import cast

from rvtop.system.plugins import Plugin, PluginError, of_group
from rvtop.telemetry.sample import Sample, TelemetrySource

log = logging.getLogger("rvtop.telemetry")


class AddedSource:
    """A plugin's source. What it raises is the failure of one look."""

    def __init__(self, plugin: Plugin, source: TelemetrySource) -> None:
        self.name = plugin.name
        self._plugin = plugin
        self._source = source

    async def poll(self) -> Sample:
        try:
            return await self._source.poll()
        except Exception as error:  # noqa: BLE001 - it is somebody else's code
            return Sample(perf_counter_ns(), self.name, error=str(self._plugin.failed(error)))

    async def close(self) -> None:
        try:
            await self._source.close()
        except Exception as error:  # noqa: BLE001 - it is somebody else's code
            log.warning("%s", self._plugin.failed(error))


class FailedSource:
    """A plugin whose source could not be made: each look says why."""

    def __init__(self, name: str, why: PluginError) -> None:
        self.name = name
        self._why = str(why)

    async def poll(self) -> Sample:
        return Sample(perf_counter_ns(), self.name, error=self._why)

    async def close(self) -> None:
        """Holds nothing."""


def added_sources(target_url: str) -> list[TelemetrySource]:
    """Those of all plugins for a target; a plugin that gives None has none for it."""
    found: list[TelemetrySource] = []
    for plugin in of_group("telemetry").values():
        try:
            source = _made(plugin, target_url)
        except PluginError as error:
            found.append(FailedSource(plugin.name, error))
            continue
        if source is not None:
            found.append(AddedSource(plugin, source))
    return found


def _made(plugin: Plugin, target_url: str) -> TelemetrySource | None:
    make = plugin.load()
    try:
        return cast("TelemetrySource | None", make(target_url))
    except Exception as error:
        raise plugin.failed(error) from error
