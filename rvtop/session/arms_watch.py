"""The arms of the load's target, or else its models: what each got and how it fared, what the server says of
arms, and the command that changes a share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter_ns

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
from rvtop.session.tally import Tally
from rvtop.target.splits import ArmShare, SplitInfo, change_shares, splits_of
from rvtop.text import printable_names

LOOK_S = 1.0
_MARK = b'"arm":"'
#: Between an arm and its alias, in the name by which requests are counted; in no name as it is shown.
_OF = "\x1f"


class ArmsWatch:
    """``shown`` is what there is to draw: the arms once the target tells of them or a response names one,
    before that the models, where there are several."""

    def __init__(self, target: LoadTarget, feed: EventFeed, recorder: Recorder) -> None:
        self._target = target
        self._feed = feed
        self._recorder = recorder
        self._splits: tuple[SplitInfo, ...] = ()
        self._arms = Tally()
        self._models = Tally()
        self._named = False  # whether a response has named an arm
        self._slo: Callable[[], Slo | None] = lambda: None
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
        several = len(self._target.models) > 1
        self._named = self._named or _MARK in lines
        if not self._named and not several:
            return
        now_ns, shared = perf_counter_ns(), self._shared()
        for row in map(orjson.loads, lines.splitlines()):
            if self._named:
                self._arms.take(_counted(row.get("arm") or NO_ARM, row["model"], shared), row, now_ns)
            if several:
                self._models.take(row["model"], row, now_ns)

    def look(self, now_ns: int) -> None:
        """Once a second: makes ``shown`` anew."""
        limits = {figure: ns / 1e6 for figure, ns in slo_ns(self._slo()).items()}
        shared = self._shared()
        known = {
            _counted(arm.name, split.alias, shared): (split.alias, arm)
            for split in self._splits
            for arm in split.arms
        }
        if not self._named and not known:
            self.shown = self._of_models(now_ns, limits)
            return
        names = [*known, *sorted(self._arms.names - {*known})]
        # What ended before the server told that an arm has several names, or at another one.
        passed = {name for name in names if name not in known and (name in shared or _OF in name)}
        figures = [
            arm for arm in self._arms.figures(now_ns, names, limits) if arm.got or arm.name not in passed
        ]
        shown = [_told_of(arm, *known.get(arm.name, ("", None))) for arm in figures]
        self.shown = tuple(shown if len(self._splits) < 2 else map(partial(_within, shown), shown))

    def _shared(self) -> Mapping[str, set[str]]:
        """The arms behind several names, and these."""
        aliases: dict[str, set[str]] = {}
        for split in self._splits:
            for arm in split.arms:
                aliases.setdefault(arm.name, set()).add(split.alias)
        return {arm: names for arm, names in aliases.items() if len(names) > 1}

    def _of_models(self, now_ns: int, limits: Mapping[str, float]) -> tuple[Arm, ...]:
        """Of several models that requests name, as an arm each; their shares are the scenario's."""
        names, shares = printable_names(self._target.models), self._target.shares
        if len(names) < 2:
            return ()
        in_turn = (1 / len(names),) * len(names)
        asked = dict(zip(names, shares if len(shares) == len(names) else in_turn, strict=True))
        figures = self._models.figures(now_ns, [*names, *sorted(self._models.names - {*names})], limits)
        return tuple(replace(one, kind="model", asked=asked.get(one.name)) for one in figures)

    # -- what the server says --------------------------------------------------------------------

    async def _ask_on(self) -> None:
        without = ""  # the URL of a server that splits nothing, and never will
        while True:
            info = self._target.info
            if info is not None and info.topology is not None and info.url != without:
                with contextlib.suppress(UserError):  # its silence is said elsewhere
                    self._told(await splits_of(info.pages, self._target.transport))
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
            now = await change_shares(info.pages, self._target.transport, split.alias, {arm.name: share})
        except UserError as error:
            raise CommandError(str(error)) from None
        self._told(now, by_us=True)
        told = {"alias": split.alias, "arm": arm.name, "share": share, "before": arm.share}
        self._recorder.note({"cmd": "split", **told, "by": by})
        text = f"split {split.alias}: {arm.name} {arm.share:g} → {share:g} %"
        self._feed.say(text, kind="split")
        self.look(perf_counter_ns())
        return Done(text, perf_counter_ns(), SetSplit(arm.name, arm.share, split.alias))


def _counted(arm: str, model: str, shared: Mapping[str, set[str]]) -> str:
    """The name by which a request for ``model`` is counted: an arm behind several names is one of each."""
    return f"{arm}{_OF}{model}" if model in shared.get(arm, ()) else arm


def _within(arms: Sequence[Arm], arm: Arm) -> Arm:
    """With the share that it got of the requests for its own name."""
    whole = sum(one.got or 0.0 for one in arms if one.alias == arm.alias)
    return arm if not arm.alias or arm.got is None or not whole else replace(arm, got=arm.got / whole)


def _told_of(arm: Arm, alias: str, told: ArmShare | None) -> Arm:
    """With what the server says of it."""
    arm = replace(arm, name=arm.name.partition(_OF)[0])
    if told is None:
        return replace(arm, alias=alias)
    return replace(arm, alias=alias, asked=told.share / 100, up=told.up)


def _change(split: SplitInfo, arm: ArmShare) -> tuple[str, str]:
    """An arm came up or went down: in words, and how bad that is."""
    if arm.up:
        return f"arm {arm.name} of {split.alias} is up again", "info"
    others = [other.name for other in split.arms if other.up]
    if split.fallback and others:
        return f"arm {arm.name} of {split.alias} is down: its requests go to {others[0]}", "warn"
    return f"arm {arm.name} of {split.alias} is down: its requests wait for it or get 503", "error"
