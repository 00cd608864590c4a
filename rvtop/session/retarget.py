"""The load goes over to another server while it runs (`retarget`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from rvtop.contract.command import CommandError, Retarget
from rvtop.errors import UserError
from rvtop.load.plan.api import Api
from rvtop.load.plan.prompts import Prompts
from rvtop.load.wire.endpoint import Endpoint
from rvtop.load.worker.messages import AddTarget, WorkerSpec
from rvtop.net.place import GRPC
from rvtop.results.environment import note_target
from rvtop.session.load_parts import Parts
from rvtop.session.load_run import LoadRun
from rvtop.session.rate_control import Done
from rvtop.session.setup import address_at, sources_of
from rvtop.session.warm_up import ROUNDS, bodies, warm_up
from rvtop.target.grpc_probe import ask_grpc
from rvtop.target.mix import in_turn_words, shares_of
from rvtop.target.probe import TargetInfo, auth_headers, choose_models, probe, shown
from rvtop.target.served import check_served
from rvtop.telemetry.discover import is_loopback, names_of_target
from rvtop.text import printable, printable_names

_LOOK_S = 0.02


class Retargeting:
    """Takes the load of a session to other servers, one at a time. ``load`` returns the load that runs."""

    def __init__(self, parts: Parts, load: Callable[[], LoadRun]) -> None:
        self._parts = parts
        self._load = load
        self._busy = False

    def follow(self, command: Retarget, by: str) -> Done:
        """Begins to go over; ``Done.later`` is done when requests go there. Raises CommandError."""
        self._check()
        self._busy = True
        later = asyncio.ensure_future(self._go(command.url, command.models, by))
        return Done(f"asking {shown(command.url)}", later=later)

    async def go_to(self, url: str, models: tuple[str, ...] = (), *, by: str) -> Done:
        """Probes the server at ``url``, has it answer three warm-up requests per model, and then sends the
        load there, from 50 ms after the last of them; the phase that runs begins anew, at the rate that is in
        force, paused if it is paused. Telemetry and the watch of the target follow.

        ``models``: those to send to, none: those of before if it serves them, else those that it serves.
        ``by`` is who wanted it. Returns once the first request may go there; ``Done.at_ns`` is when. Until
        then the load goes on as it was. What is in flight ends where it is.

        Raises CommandError: the server can't be used, the load is over, another change is under way; the load
        then stays where it is.
        """
        self._check()
        self._busy = True
        return await self._go(url, models, by)

    async def _go(self, url: str, models: tuple[str, ...], by: str) -> Done:
        try:
            return await self._go_to(url, models, by)
        except UserError as error:
            text = str(error)
            raise CommandError(text if text.startswith("retarget: ") else f"retarget: {text}") from None
        finally:
            self._busy = False

    def _check(self) -> None:
        load = self._load()
        if load.searcher is not None:
            raise CommandError("retarget: --find-max searches one server")
        if self._busy:
            raise CommandError("retarget: the load is on its way to another server already")
        load.check_now(draining=True)

    async def _go_to(self, url: str, models: tuple[str, ...], by: str) -> Done:
        target, load = self._parts.target, self._load()
        before = Retarget(target.url, target.models)
        # A unix socket is the first server's own.
        transport = replace(self._parts.request.transport, unix_socket=None)
        if url == self._parts.request.url:
            transport = self._parts.request.transport
        info = await probe(url, transport)
        api = load.spec.api if load.spec is not None else Api()
        names = choose_models(info, models or target.models_at(info), unlisted=not api.generates)
        await check_served(info, api, names, transport)
        self._check_reach(info)
        spec = load.spec
        assert spec is not None
        if "rag" in spec.body and info.topology is None:
            raise CommandError(f"{info.url} is no backend of rvtop, and workload.where: server needs one")
        address = address_at(info.url, spec.address.path, transport)
        further = AddTarget(address, names, shares_of(target.mix, printable_names(names)))
        await _warm_up(spec, further)
        while load.player.state != "sending":  # a phase drains: the next one has not begun
            load.check_now(draining=True)
            await asyncio.sleep(_LOOK_S)
        server = target.servers.at(info.url)
        how: dict[str, Any] = {}
        if server is not None:  # how it was started
            how = {"topology": server.options.topology, "arguments": list(server.options.arguments)}
        at_ns = load.go_over(further, info.url, by, how)
        await asyncio.sleep(max(0, at_ns - perf_counter_ns()) / 1e9)
        metrics = self._parts.request.metrics_urls if url == self._parts.request.url else ()
        sources = sources_of(metrics, info, transport)
        target.go_over(info, names, transport, names_of_target(sources, info.url))
        told = {"at_ns": at_ns - load.t0_ns, "url": info.url, "models": list(names)}
        told |= {"topology": info.topology, **how}
        self._parts.recorder.write(lambda log: note_target(log.folder, told))
        await self._parts.figures.move(sources, self._parts.ending.guarded)
        await self._parts.kv.move(info)
        await self._parts.cluster.move(info, transport)
        text = f"requests go to {info.url} ({', '.join(printable_names(names))})"
        self._parts.feed.say(text, kind="target")
        served = printable_names(dict.fromkeys((*info.models, *names)))  # some are asked for, and not listed
        if told_of_shares := in_turn_words(target.mix, printable_names(names), served):
            self._parts.feed.say(f"{info.url}: {told_of_shares}", "warn", "target")
        return Done(text, at_ns, before)

    def _check_reach(self, info: TargetInfo) -> None:
        """Raises CommandError where load workers on other nodes can't reach the server."""
        before = self._parts.target.info
        away = self._parts.request.workers.ray and before is not None and not is_loopback(before.url)
        if away and is_loopback(info.url):
            raise CommandError(
                f"{info.url} is this machine alone, and load workers on other nodes can't reach it; "
                "give an address that every node reaches"
            )


async def _warm_up(spec: WorkerSpec, target: AddTarget) -> None:
    """Raises UserError."""
    if target.address.url.startswith(GRPC):
        return await _warm_up_grpc(spec, target)
    endpoint = Endpoint(target.address)
    prompts = Prompts(Path(spec.prompts), target.models, spec.body, spec.extra, api=spec.api, whole=False)
    await asyncio.to_thread(prompts.read, ROUNDS)
    try:
        await endpoint.resolve()
        await warm_up(endpoint, prompts, len(target.models), spec.timeouts)
    except OSError as error:
        raise CommandError(f"{target.address.url}: {error.strerror or error}") from None
    except CommandError as error:
        raise CommandError(f"{target.address.url}: {error}") from None


async def _warm_up_grpc(spec: WorkerSpec, target: AddTarget) -> None:
    """The same in a process of its own, since gRPC's library is none for a session. Raises UserError."""
    prompts = Prompts(Path(spec.prompts), target.models, spec.body, spec.extra, api=spec.api, whole=False)
    await asyncio.to_thread(prompts.read, ROUNDS)
    transport = target.address.transport
    headers = {**auth_headers(transport), **transport.headers}
    limit_s = spec.timeouts.ttft_s or 60.0
    requests = bodies(prompts, len(target.models))
    answer = await ask_grpc(target.address.url, headers, transport, limit_s, requests)
    if answer.get("error"):
        kind, text = answer["error"]
        raise CommandError(f"{target.address.url}: a warm-up request failed ({kind}): {printable(text, 200)}")
