"""The arms of the load's target: what each got and how it fared, what the server says of them, and the
command that changes a share."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

import numpy as np
import orjson

from rvtop.contract.arms import NO_ARM, Arm
from rvtop.contract.command import CommandError, SetSplit
from rvtop.errors import UserError
from rvtop.scenario.schema import Slo
from rvtop.session.events import EventFeed
from rvtop.session.load_run import LoadRun
from rvtop.session.load_target import LoadTarget
from rvtop.session.rate_control import Done
from rvtop.session.recorder import Recorder
from rvtop.session.setup import slo_ns
from rvtop.stats.slo import meets
from rvtop.target.splits import ArmShare, SplitInfo, change_shares, splits_of

WINDOW_S = 10
LOOK_S = 1.0
_MARK = b'"arm":"'
_SECOND_NS = 1_000_000_000


@dataclass
class _Second:
    """What ended in a second, by arm: (TTFT ms, E2E ms, tokens) of each that ended well; an answer in one
    piece has a TTFT of NaN."""

    index: int
    ended: dict[str, list[tuple[float, float, int]]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)


class ArmsWatch:
    """``shown`` is what there is to draw; nothing until the target tells of arms, or a response names one."""

    def __init__(self, target: LoadTarget, feed: EventFeed, recorder: Recorder) -> None:
        self._target = target
        self._feed = feed
        self._recorder = recorder
        self._splits: tuple[SplitInfo, ...] = ()
        self._seconds: deque[_Second] = deque(maxlen=WINDOW_S + 1)
        self._ok: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._named = False  # whether a response has named an arm
        self._slo: Callable[[], Slo | None] = lambda: None
        self._began_ns = perf_counter_ns()
        self._task: asyncio.Task[None] | None = None
        self.shown: tuple[Arm, ...] = ()

    def attach(self, load: LoadRun, slo: Callable[[], Slo | None]) -> None:
        """Hears of all that ``load`` sends. ``slo``: what goodput counts by now."""
        self._slo = slo
        load.on_lines.append(self.take)
        load.observers.append(lambda second: self.look(second.now_ns))

    def start(self) -> None:
        """Begins to ask the server, where it is one of ours."""
        self._task = asyncio.create_task(self._ask_on())

    async def stop(self) -> None:
        """Asks no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # -- what came back ------------------------------------------------------------------------

    def take(self, lines: bytes) -> None:
        """Takes in lines of ``requests.jsonl``."""
        if not self._named and _MARK not in lines:
            return
        if not self._named:
            self._named = True
        second = self._second(perf_counter_ns())
        for row in map(orjson.loads, lines.splitlines()):
            arm, first = row.get("arm") or NO_ARM, row["first_token_ns"]
            if row["error"] is not None or row["last_token_ns"] is None:
                self._errors[arm] += 1
                second.errors[arm] += 1
                continue
            self._ok[arm] += 1
            began = row["intended_ns"]
            times = math.nan if first is None else (first - began) / 1e6, (row["last_token_ns"] - began) / 1e6
            second.ended.setdefault(arm, []).append((*times, row["output_tokens"] or 0))

    def look(self, now_ns: int) -> None:
        """Once a second: makes ``shown`` anew."""
        self._second(now_ns)
        known = {arm.name: (split.alias, arm) for split in self._splits for arm in split.arms}
        names = [*known, *sorted({*self._ok, *self._errors} - {*known})]
        if not self._named and not known:
            self.shown = ()
            return
        recent = [s for s in self._seconds if s.index > now_ns // _SECOND_NS - WINDOW_S]
        totals = {name: sum(len(s.ended.get(name, ())) + s.errors[name] for s in recent) for name in names}
        span_s = max(1.0, min(float(WINDOW_S), (now_ns - self._began_ns) / 1e9))
        self.shown = tuple(
            self._arm(name, known.get(name, ("", None)), recent, totals, span_s) for name in names
        )

    def _arm(
        self,
        name: str,
        known: tuple[str, ArmShare | None],
        recent: Iterable[_Second],
        totals: Mapping[str, int],
        span_s: float,
    ) -> Arm:
        (alias, told), recent = known, list(recent)
        rows = np.array([row for s in recent for row in s.ended.get(name, ())], np.float64).reshape(-1, 3)
        ttft, e2e, tokens = rows.T
        all_of_them = sum(totals.values())
        limits = {figure: ns / 1e6 for figure, ns in slo_ns(self._slo()).items()}
        good = float(meets(ttft, e2e, tokens, limits).sum()) / span_s if limits else None
        ttft = ttft[~np.isnan(ttft)]

        def at(values: Any, percent: float) -> float | None:
            return float(np.percentile(values, percent)) if len(values) else None

        return Arm(
            name=name,
            alias=alias,
            asked=None if told is None else told.share / 100,
            got=totals[name] / all_of_them if all_of_them else None,
            up=None if told is None else told.up,
            ok=self._ok[name],
            errors=self._errors[name],
            errors_recent=sum(s.errors[name] for s in recent),
            ttft_p50=at(ttft, 50),
            ttft_p99=at(ttft, 99),
            ttft_mean=float(ttft.mean()) if len(ttft) else None,
            e2e_mean=float(e2e.mean()) if len(e2e) else None,
            tokens_per_s=float(tokens.sum()) / span_s if len(tokens) else None,
            goodput_rps=good,
        )

    def _second(self, now_ns: int) -> _Second:
        index = now_ns // _SECOND_NS
        if not self._seconds or self._seconds[-1].index != index:
            self._seconds.append(_Second(index))
        return self._seconds[-1]

    # -- what the server says --------------------------------------------------------------------

    async def _ask_on(self) -> None:
        without = ""  # the URL of a server that splits nothing, and never will
        while True:
            info = self._target.info
            if info is not None and info.topology is not None and info.url != without:
                with contextlib.suppress(UserError):  # its silence is said elsewhere
                    self._told(await splits_of(info.url, self._target.transport))
                    without = "" if self._splits else info.url
            elif info is not None and info.topology is None:
                self._splits = ()  # of the server of before
            await asyncio.sleep(LOOK_S)

    def _told(self, splits: tuple[SplitInfo, ...], *, by_us: bool = False) -> None:
        """Says what has changed since the look before."""
        before = {split.alias: split for split in self._splits}
        self._splits = splits
        for split in splits:
            old = before.get(split.alias)
            if old is None:
                self._feed.say(f"split {split}", kind="split")
                continue
            shares, held = ({arm.name: arm.share for arm in one.arms} for one in (split, old))
            if shares != held and not by_us:
                self._feed.say(f"split {split} (changed elsewhere)", kind="split")
            was_up = {arm.name: arm.up for arm in old.arms}
            for arm in split.arms:
                if arm.up != was_up.get(arm.name, arm.up):
                    self._feed.say(*_change(split, arm), "split")

    # -- the command -----------------------------------------------------------------------------

    def follow(self, command: SetSplit, by: str) -> Done:
        """Changes the share of an arm at the server. Raises CommandError."""
        if not self._splits:
            raise CommandError("split: this server splits no name; start it with --split ALIAS=MODEL:SHARE,…")
        if not 0 <= command.share <= 100:
            raise CommandError(f"split: share must be from 0 to 100 (percent), not {command.share:g}")
        found = [
            (split, arm)
            for split in self._splits
            for arm in split.arms
            if arm.name == command.arm and command.alias in ("", split.alias)
        ]
        if len(found) != 1:
            names = ", ".join(f"{arm.name} of {split.alias}" for split in self._splits for arm in split.arms)
            raise CommandError(f"split: no one arm {command.arm!r}; there are {names}")
        split, arm = found[0]
        changing = asyncio.ensure_future(self._change(split, arm, command.share, by))
        return Done(f"split {split.alias}: {arm.name} {arm.share:g} → {command.share:g} %", later=changing)

    async def _change(self, split: SplitInfo, arm: ArmShare, share: float, by: str) -> Done:
        info = self._target.info
        assert info is not None
        try:
            now = await change_shares(info.url, self._target.transport, split.alias, {arm.name: share})
        except UserError as error:
            raise CommandError(str(error)) from None
        self._told(now, by_us=True)
        told = {"alias": split.alias, "arm": arm.name, "share": share, "before": arm.share}
        self._recorder.note({"cmd": "split", **told, "by": by})
        text = f"split {split.alias}: {arm.name} {arm.share:g} → {share:g} %"
        self._feed.say(text, kind="split")
        self.look(perf_counter_ns())
        return Done(text, perf_counter_ns(), SetSplit(arm.name, arm.share, split.alias))


def _change(split: SplitInfo, arm: ArmShare) -> tuple[str, str]:
    """An arm came up or went down: in words, and how bad that is."""
    if arm.up:
        return f"arm {arm.name} of {split.alias} is up again", "info"
    others = [other.name for other in split.arms if other.up]
    if split.fallback and others:
        return f"arm {arm.name} of {split.alias} is down: its requests go to {others[0]}", "warn"
    return f"arm {arm.name} of {split.alias} is down: its requests get 503", "error"
