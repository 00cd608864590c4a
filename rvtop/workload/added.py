"""Prompts that a plugin makes (docs/plugins.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rvtop.scenario.workload import PluginWorkload
from rvtop.system.plugins import named
from rvtop.workload.rows import WorkloadError, user_row


def rows(workload: PluginWorkload, seed: int) -> Iterator[Mapping[str, Any]]:
    """Rows of prompts.jsonl. A plugin gives texts, each a user's message, or rows as they are. Raises
    PluginError, WorkloadError."""
    plugin = named("workloads", workload.name, "workload.name:")
    make = plugin.load()
    number = 0
    try:
        for number, made in enumerate(make(dict(workload.options), seed), 1):
            yield user_row(f"p{number}", made) if isinstance(made, str) else _checked(made, number)
    except WorkloadError as error:
        raise WorkloadError(f"plugin {plugin.name}: {error}") from error
    except Exception as error:
        raise plugin.failed(error) from error


def _checked(row: Any, number: int) -> Mapping[str, Any]:
    if not isinstance(row, Mapping) or not ("messages" in row or "prompt" in row):
        raise WorkloadError(f"prompt {number} is neither a text nor a row with messages or prompt")
    return {"id": f"p{number}", **row}
