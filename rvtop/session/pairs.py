"""Live pairs of a session: its second server, and what the pairs show while the load runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import orjson

from rvtop.contract.pairs import SAME, PairOptions, Pairs, call_words, same_words
from rvtop.errors import UserError
from rvtop.load.worker.messages import AddTarget, WorkerSpec
from rvtop.results.pairs import PairFold, lines_of
from rvtop.session.load_parts import Parts, Second
from rvtop.session.setup import address_at
from rvtop.target.acts import server_facts
from rvtop.target.probe import models_beside, probe
from rvtop.target.served import check_served

if TYPE_CHECKING:
    from rvtop.session.load_run import LoadRun


async def with_second(
    options: PairOptions, parts: Parts, spec: WorkerSpec
) -> tuple[WorkerSpec, dict[str, Any]]:
    """The spec of workers that send each request to the server at ``options.url`` too, and what that server
    says of itself.

    It gets the first one's models if it serves them, else its own. Raises TargetError where it can't be used,
    UserError where the two can't be sent the same.
    """
    transport = replace(parts.request.transport, unix_socket=None)
    if options.url == parts.request.url:
        transport = parts.request.transport
    info = await probe(options.url, transport)
    ours = spec.models
    models = models_beside(info, ours, parts.target.info)
    await check_served(info, spec.api, models, transport)
    if "rag" in spec.body and info.topology is None:
        raise UserError(f"{info.url} is no backend of rvtop, and workload.where: server needs one")
    pair = AddTarget(address_at(info.url, spec.address.path, transport), models)
    return replace(spec, pair=pair), await server_facts(info, transport)


class PairWatch:
    """Folds the lines of requests as they come, writes ``pairs.jsonl``, and ends the phases that have enough
    pairs. It observes the seconds of ``load``."""

    def __init__(self, options: PairOptions, parts: Parts, load: LoadRun) -> None:
        self._options = options
        self._recorder = parts.recorder
        self._say: Callable[[str], None] = partial(parts.feed.say, kind="pairs")
        self._load = load
        self._warm: set[str] = set()  # a warm-up that begins again has a name of its own
        self._fold = PairFold(parts.target.url, options.url, options.figure, self._warm)
        self._told_same = self._told_call = False
        self._ended = -1  # the phase that was ended, having enough
        load.on_lines.append(self._add)
        load.observers.append(self._look)

    @property
    def shown(self) -> Pairs:
        """The picture now."""
        return self._fold.view(self._stage)

    @property
    def _stage(self) -> str | None:
        phase = self._load.player.phase
        if phase is None:
            return None
        return "warm" if phase.warmup else "same" if phase.name.startswith(SAME) else "both"

    def _add(self, lines: bytes) -> None:
        self._warm |= {phase.name for phase in self._load.player.phases if phase.warmup}
        for line in lines.splitlines():
            self._write(lines_of(self._fold.add(orjson.loads(line))))
        if self._has_enough():
            self._load.issue(self._load.player.end_phase(perf_counter_ns()), "pairs")

    def _write(self, counted: bytes) -> None:
        if counted:
            self._recorder.write(lambda log: log.pairs(counted))

    def _look(self, second: Second) -> None:
        if second.last:
            self._write(lines_of(self._fold.finish()))
        self._tell(last=second.last)

    def _has_enough(self) -> bool:
        """Whether the phase that sends has the pairs that were asked for, and does not end already."""
        options, fold, stage = self._options, self._fold, self._stage
        phase = self._load.player.index
        if self._load.player.state != "sending" or self._ended == phase:
            return False
        if stage == "same":
            enough = fold.same_count >= options.same
        else:
            enough = stage == "both" and (
                (options.pairs is not None and fold.count >= options.pairs)
                or (options.until_called and fold.called is not None)
            )
        if enough:
            self._ended = phase
        return enough

    def _tell(self, *, last: bool) -> None:
        """Says what A against A showed once it is over, and when a figure is called."""
        view = self._fold.view(self._stage)
        if not self._told_same and view.same_count and (last or view.count):
            self._told_same = True
            self._say(same_words(view))
        if not self._told_call and view.rows[0].called is not None:
            self._told_call = True
            self._say(call_words(view.rows[0]))
