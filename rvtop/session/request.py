"""What a session is asked to do, and how the command line and the Start screen come to ask it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rvtop.contract.pairs import PairOptions
from rvtop.errors import UserError
from rvtop.load.fleet.workers import Workers
from rvtop.load.wire.timeouts import Timeouts
from rvtop.net.transport import Transport
from rvtop.stats.prices import Prices
from rvtop.target.backend import BackendOptions
from rvtop.telemetry.kv_events import KvSource

if TYPE_CHECKING:  # pydantic is slow to import, and the first frame doesn't need it
    from rvtop.scenario.schema import Scenario
    from rvtop.session.search import SearchOptions

#: Characters of a scenario's name in the name of its run folder: at most four bytes each, and the time.
_MOST_NAME = 50


@dataclass(frozen=True)
class SessionRequest:
    """What was asked for. Exactly one of ``url`` and ``backend``; no ``scenario``: only the hands drive.

    ``live`` adds an endless phase at the end, at the rate then in force, for the hands at the keyboard.
    ``search`` takes the place of the scenario's phases.
    ``transport`` says how ``url`` is reached; ``body`` are fields of every request, which win over those of
    the scenario.
    """

    scenario: Scenario | None
    out: Path
    url: str | None = None
    backend: BackendOptions | None = None
    models: tuple[str, ...] = ()
    workers: Workers = field(default_factory=Workers)
    ray_address: str | None = None  # of the cluster that carries load workers
    search: SearchOptions | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    metrics_urls: tuple[str, ...] = ()
    live: bool = False
    max_rate: float | None = None
    transport: Transport = field(default_factory=Transport)
    body: Mapping[str, Any] = field(default_factory=dict)
    control: Path | None = None  # a Unix socket by which others watch and command the session
    record: Path | None = None  # where a recording of all of it goes
    metrics_port: tuple[str, int] | None = None  # where Prometheus finds what the client measured
    otlp: str | None = None  # where an OpenTelemetry collector takes a span of each request
    pair: PairOptions | None = None  # a second server, which each request goes to too
    kv_events: tuple[KvSource, ...] = ()  # where engines of a server that is not ours publish KV events
    slo: Mapping[str, float] = field(default_factory=dict)  # ttft_ms, tpot_ms where the scenario has no slo
    prices: Prices = field(default_factory=Prices)
    stop_when_saturated: bool = False  # the run ends where load is above what the server can answer
    probe_rate: float | None = None  # one-token requests a second beside the load; None: none
    exclude_warm_up: str = "none"  # auto: the summary leaves it out

    @property
    def stops_when_saturated(self) -> bool:
        """Whether the command line or the scenario asks for that."""
        return self.stop_when_saturated or (self.scenario is not None and self.scenario.stop_when_saturated)


@dataclass(frozen=True)
class Outcome:
    """How a session ended: the exit code, one line if it is not 0, and the summary if there is one.
    ``interrupted``: a signal came, whatever else the exit code tells."""

    exit_code: int
    message: str = ""
    summary: dict[str, Any] | None = None
    interrupted: bool = False


def find(name: str) -> Scenario:
    """A scenario by file or shipped name. Raises ScenarioError."""
    from rvtop.scenario.load import find_scenario, load_scenario

    return load_scenario(find_scenario(name))


def watch_scenario() -> Scenario:
    """What a hand-driven session starts from: no phase of its own, and RAG prompts at hand."""
    from rvtop.scenario.schema import PromptsWorkload

    smoke = find("smoke")
    assert isinstance(smoke.workload, PromptsWorkload)
    return smoke.model_copy(
        update={
            "name": "live",
            "phases": (),
            "thresholds": {},
            "workload": smoke.workload.model_copy(update={"max_tokens": 64}),
        }
    )


def with_slo(scenario: Scenario, slo: Mapping[str, float]) -> Scenario:
    """The scenario, with ``slo`` (``ttft_ms``, ``tpot_ms``) where it names none of its own, and has such
    figures."""
    if scenario.slo is not None or not slo or scenario.api.whole:
        return scenario
    from rvtop.scenario.schema import Slo

    return scenario.model_copy(update={"slo": Slo(**slo)})


def default_out(name: str) -> Path:
    """A folder for a run that was not given one; a number keeps two of one second apart."""
    stem = f"{_folder_name(name)}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in range(1000):
        path = Path("runs") / (stem if number == 0 else f"{stem}-{number}")
        if not path.exists():
            return path
    raise UserError("runs/: a thousand runs in one second; give --out")


def _folder_name(name: str) -> str:
    """``name`` as one part of a path: letters, digits, ``.``, ``_`` and ``-`` only, no leading dot, and
    short enough for a file's name, whatever characters these are."""
    plain = re.sub(r"[^\w.-]+", "-", name)[:_MOST_NAME].lstrip(".-").rstrip("-")
    return plain or "run"


def topology_options(
    topology: str, *, models: Sequence[str], port: int, arguments: Sequence[str]
) -> BackendOptions:
    """How to start a topology."""
    return BackendOptions(topology, port=port, models=tuple(models), arguments=tuple(arguments))


def shipped_request(
    name: str, out: Path | None, *, backend: BackendOptions | None = None, live: bool = False
) -> SessionRequest:
    """A shipped scenario on a backend of ours."""
    return SessionRequest(scenario=find(name), out=out or default_out(name), backend=backend, live=live)


def attach_request(
    url: str,
    models: tuple[str, ...],
    metrics_urls: tuple[str, ...],
    max_rate: float | None,
    out: Path | None,
    transport: Transport | None = None,
    body: Mapping[str, Any] | None = None,
) -> SessionRequest:
    """A hand-driven session on a server that is up."""
    return SessionRequest(
        scenario=None,
        out=out or default_out("live"),
        url=url,
        models=models,
        metrics_urls=metrics_urls,
        live=True,
        workers=Workers(auto=True),
        max_rate=max_rate,
        transport=transport or Transport(),
        body=body or {},
    )


def start_request(
    topology: str, out: Path | None = None, models: Sequence[str] = (), arguments: Sequence[str] = ()
) -> SessionRequest:
    """A hand-driven session on a topology that it starts; ``models`` as ``name=source``, ``arguments``:
    further ones of ``python -m backends``."""
    backend = topology_options(topology, models=models, port=0, arguments=arguments)
    return SessionRequest(
        scenario=None,
        out=out or default_out(topology),
        backend=backend,
        live=True,
        workers=Workers(auto=True),
    )
