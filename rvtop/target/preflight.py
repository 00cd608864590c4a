"""What can be refused before a topology starts: its options, and models that a scenario names in vain."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rvtop.errors import UserError
from rvtop.target.backend import BackendOptions
from rvtop.target.mix import is_pattern, matching
from rvtop.target.probe import listed

if TYPE_CHECKING:
    from rvtop.scenario.schema import Scenario

_LIMIT_S = 60.0


def check_backend(options: BackendOptions, scenario: Scenario | None = None) -> tuple[str, ...]:
    """The names of the models that a topology started with ``options`` will serve.

    Asks ``python -m backends --check``, which reads the options as the start does and loads nothing.
    Raises UserError (exit code 2) for options that it refuses, and for a scenario whose ``models`` it would
    not serve.
    """
    try:
        ended = subprocess.run(
            options.command("--check"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
            check=False,
        )
    except KeyboardInterrupt:
        raise UserError("interrupted before the load began", 130) from None
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{options.topology}: its options could not be checked within {_LIMIT_S:g} s"
        ) from None
    event = _last_event(ended.stdout)
    if ended.returncode or event.get("event") != "checked":
        lines = ended.stderr.strip().splitlines()
        otherwise = (
            lines[-1] if lines else f"the check of its options ended with exit code {ended.returncode}"
        )
        raise UserError(str(event.get("message") or otherwise))
    served = tuple(str(name) for name in event["models"])
    if scenario is not None:
        check_models(scenario, (*served, *(str(name) for name in event.get("adapters") or ())))
    return served


def check_models(scenario: Scenario, served: Sequence[str]) -> None:
    """Raises UserError where the scenario names a model that is not among those ``served``."""
    meant = set(matching(list(scenario.models), served).values())
    missing = [name for name in scenario.models if name not in meant]
    if not scenario.api.generates:  # what embeds beside an LLM is on no list
        missing = [name for name in missing if is_pattern(name)]
    if missing:
        options = " ".join(f"--model {name}=PATH" for name in missing[:10])
        raise UserError(
            f"scenario {scenario.name}: models: names {listed(missing)}, and what starts would serve "
            f"{listed(served)}; add {options}"
        )


def _last_event(text: str) -> Mapping[str, Any]:
    """The last line that is a JSON object; empty if there is none."""
    for line in reversed(text.splitlines()):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            return event
    return {}
