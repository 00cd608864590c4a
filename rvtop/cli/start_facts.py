"""Looks on this machine for what the Start screen lists; elsewhere it asks only a Ray cluster's head and the
servers that were attached to last."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rvtop.contract.run_files import SUMMARY
from rvtop.contract.start import GpuRow, Machine, ModelRow, Offer, RecentRow, StartFacts, UpRow
from rvtop.deploy.k8s.options import TOPOLOGIES as ON_KUBERNETES
from rvtop.errors import UserError
from rvtop.lifecycle import state
from rvtop.lifecycle.start_times import StartTimes
from rvtop.settings.recent import recent_targets
from rvtop.target.backend import BackendOptions
from rvtop.target.models import TINY, found_models
from rvtop.target.topologies import TOPOLOGIES, missing
from rvtop.text import printable

#: At most so many servers, and so many runs, of those that were there lately.
MOST_RECENT = 4
#: What is said of a server of before that gives no answer.
NOT_UP = "not up"
_ANSWER_S = 1.0
_SUMMARY_BYTES = 64 << 20
_PACKAGES = (("Ray", "ray"), ("vLLM", "vllm"))


def first_facts() -> StartFacts:
    """What is known at once: the topologies, and of those that can't be started here why."""
    return StartFacts(offers=tuple(_offers(os.environ, ())))


def look_around() -> StartFacts:
    """All of it; takes up to some seconds."""
    gpus = _gpus()
    return StartFacts(
        offers=tuple(_offers(os.environ, gpus)),
        up=tuple(_up(time.time())),
        models=tuple(_models(os.environ)),
        gpus=gpus,
        recent=(*_targets(os.environ), *_runs(Path("runs"), time.time())),
        machine=_machine(),
        complete=True,
    )


def _offers(environ: Mapping[str, str], gpus: tuple[GpuRow, ...]) -> list[Offer]:
    busy = "no GPU is free" if gpus and not any(gpu.free is not False for gpu in gpus) else ""
    made = []
    for name, topology in TOPOLOGIES.items():
        why, _, fix = missing(name).partition(": ")
        offer = Offer(
            name,
            topology.about,
            topology.engine,
            topology.where,
            topology.route,
            topology.adds,
            why,
            fix,
            note=busy,
            last_start_s=StartTimes(BackendOptions(name), environ).expected_s,
            kubernetes=name in ON_KUBERNETES,
        )
        made.append(offer)
    return made


def _up(now: float) -> list[UpRow]:
    """The deployments of ``rvtop up``, whoever started them."""
    made = []
    for found in state.running():
        why = "" if found.url and found.state in ("ready", "unhealthy") else found.message or found.state
        up_s = None if found.started_at is None else max(0.0, now - found.started_at)
        row = UpRow(found.name, found.url or "", found.topology, found.models, found.state, up_s, why)
        made.append(row)
    return made


def _models(environ: Mapping[str, str]) -> list[ModelRow]:
    return [
        ModelRow(
            printable(model.name),
            model.source,
            "built here" if model.name == TINY else Path(model.source).name,
            model.size,
            model.by_default,
        )
        for model in found_models(environ)
    ]


def _gpus() -> tuple[GpuRow, ...]:
    from rvtop.doctor.gpus import probe  # NVML: not for the first frame

    found, _ = probe()
    if found is None:
        return ()
    used = found.used or (None,) * len(found.names)
    rows = zip(found.names, used, found.memory, strict=True)
    return tuple(GpuRow(i, printable(name), *memory) for i, (name, *memory) in enumerate(rows))


def _targets(environ: Mapping[str, str]) -> list[RecentRow]:
    """The servers that were attached to last; all are asked at once whether they are up."""
    urls = recent_targets(environ)[:MOST_RECENT]
    with ThreadPoolExecutor(MOST_RECENT) as pool:
        return [RecentRow(url=url, why=why) for url, why in zip(urls, pool.map(_why_not, urls), strict=True)]


def _why_not(url: str) -> str:
    """Empty where a server gives any answer in HTTP, else what is to be said of it."""
    from http.client import HTTPException

    from rvtop.net.http_get import AnswerTooLong, get
    from rvtop.net.transport import Transport

    try:
        get(f"{url}/health", Transport(), {}, _ANSWER_S)
    except AnswerTooLong:
        return ""
    except (OSError, HTTPException, ValueError, UserError):
        return NOT_UP
    return ""


def _runs(folder: Path, now: float) -> list[RecentRow]:
    """The newest runs in ``folder`` that have a summary."""
    ages = []
    for path in folder.glob(f"*/{SUMMARY}"):
        try:
            ages.append((path.stat().st_mtime, path))
        except OSError:  # it is being moved away
            continue
    ages.sort(reverse=True)
    return [
        RecentRow(folder=str(path.parent), about=_about(path), age_s=max(0.0, now - at))
        for at, path in ages[:MOST_RECENT]
    ]


def _about(path: Path) -> str:
    """What a run ran on: its topology, else the server; empty where its summary can't be read."""
    try:
        if path.stat().st_size > _SUMMARY_BYTES:
            return ""
        data = json.loads(path.read_text("utf-8"))
        return printable(str(data.get("topology") or data.get("target") or ""))
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""


def _machine() -> Machine:
    from rvtop.doctor.versions import version

    found = [(title, version(package)) for title, package in _PACKAGES]
    cores = os.cpu_count()
    return Machine(
        name=printable(platform.node()),
        cores=cores,
        cpu=min(1.0, os.getloadavg()[0] / cores) if cores else None,
        versions=tuple((title, each) for title, each in found if each is not None),
        ray=_ray(),
    )


def _ray() -> str:
    from rvtop.doctor.cluster import find, reach

    address, source = find()
    if address is None:
        return "no Ray cluster"
    shown = printable(address)
    return f"Ray up at {shown}" if reach(address, source).level == "ok" else f"no answer from Ray at {shown}"
