"""Commands to a load besides its rate and its phases: the lengths of its requests, what goodput counts by,
and the cancelling of what is in flight."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from pydantic import ValidationError

from rvtop.contract.command import Cancel, CommandError, SetSlo, SetWorkload
from rvtop.contract.run_files import PROMPTS
from rvtop.errors import UserError
from rvtop.load.plan.schedule import Lengths, PlanEvent
from rvtop.load.worker.messages import AddPrompts
from rvtop.scenario.schema import Scenario, Slo
from rvtop.scenario.workload import SyntheticWorkload
from rvtop.session.load_parts import Parts
from rvtop.session.load_run import LoadRun
from rvtop.session.player import LEAD_NS
from rvtop.session.rate_control import Done
from rvtop.session.setup import slo_ns
from rvtop.workload.prepare import write_prompts

#: Load workers keep all prompts that they were ever given.
_MOST_SETS = 16
_MOST_TOKENS = 10_000_000
_READ_LIMIT_S = 60.0
_LOOK_S = 0.02


@dataclass(frozen=True)
class _Prompts:
    """What prompts are made of; 0 tokens, and a share of None: as the workload has them."""

    prompt_tokens: int = 0
    prefix_tokens: int = 0
    prefix_share: float | None = None

    def __str__(self) -> str:
        text = f"of {self.prompt_tokens} tokens" if self.prompt_tokens else "as the workload has them"
        if self.prefix_share == 0:
            return f"{text}, no shared prefix"
        prefix = f" of {self.prefix_tokens} tokens" if self.prefix_tokens else ""
        if self.prefix_share is not None:
            return f"{text}, {100 * self.prefix_share:.3g} % of them with a shared prefix{prefix}"
        return f"{text}, shared prefix{prefix}" if prefix else text

    def fields(self) -> dict[str, Any]:
        """Those of a synthetic workload that are others than its own; None: its default."""
        fields: dict[str, Any] = {"prompt_tokens": self.prompt_tokens} if self.prompt_tokens else {}
        if self.prefix_share == 0:
            return fields | dict.fromkeys(("prefix_tokens", "prefix_share", "prefixes"))
        if self.prefix_tokens:
            fields["prefix_tokens"] = self.prefix_tokens
        if self.prefix_share is not None:
            fields["prefix_share"] = self.prefix_share
        return fields


@dataclass(frozen=True)
class _Wanted:
    """What is sent; ``max_tokens`` 0: as the workload has it."""

    max_tokens: int = 0
    prompts: _Prompts = _Prompts()

    def __str__(self) -> str:
        answers = f"of at most {self.max_tokens} tokens" if self.max_tokens else "as the workload has them"
        return f"prompts {self.prompts}, answers {answers}"

    def after(self, command: SetWorkload) -> _Wanted:
        """What is wanted once ``command`` holds."""
        prompts = self.prompts
        if command.prompt_tokens is not None:
            prompts = replace(prompts, prompt_tokens=command.prompt_tokens)
        if command.prefix_tokens is not None:
            prompts = replace(prompts, prefix_tokens=command.prefix_tokens, prefix_share=command.prefix_share)
        elif command.prefix_share is not None:
            prompts = replace(prompts, prefix_share=command.prefix_share)
        return _Wanted(self.max_tokens if command.max_tokens is None else command.max_tokens, prompts)

    def inverse(self, command: SetWorkload) -> SetWorkload:
        """The command that takes ``command`` back to this."""
        before, prefix = self.prompts, (command.prefix_tokens, command.prefix_share) != (None, None)
        return SetWorkload(
            None if command.max_tokens is None else self.max_tokens,
            None if command.prompt_tokens is None else before.prompt_tokens,
            before.prefix_tokens if prefix else None,
            before.prefix_share if prefix else None,
        )


class LoadCommands:
    """``load`` returns the load that runs, of ``scenario``. ``slo`` is what goodput counts by now."""

    def __init__(self, parts: Parts, scenario: Scenario, load: Callable[[], LoadRun]) -> None:
        self._request = parts.request
        self._feed = parts.feed
        self._scenario = scenario
        self._load = load
        self._wanted = _Wanted()
        self._sets = {_Prompts(): 0}  # the number of each set of prompts that was made
        self._making = False
        self.slo = scenario.slo

    def cancel(self, command: Cancel, by: str) -> Done:
        """Cancels all in flight."""
        load = self._load()
        load.check_now(draining=True)
        entry = PlanEvent(perf_counter_ns() + LEAD_NS, "cancel")
        load.issue(entry, by)
        text = f"{load.live.in_flight} requests in flight are cancelled"
        self._feed.say(text, "warn", "command")
        return Done(text, entry.at_ns)

    def set_slo(self, command: SetSlo, by: str) -> Done:
        """Counts goodput by other limits from now on. Raises CommandError."""
        load, limits = self._load(), {}
        load.check_now(draining=True)
        for name in ("ttft_ms", "tpot_ms", "e2e_ms"):
            limit = getattr(command, name)
            if limit is not None and not 0 < limit < math.inf:
                raise CommandError(f"slo: {name} must be more than 0 ms, got {limit:g}")
            limits[name] = limit
        if self._scenario.api.whole and (limits["ttft_ms"] or limits["tpot_ms"]):
            raise CommandError("slo: answers in one piece have neither TTFT nor TPOT; give e2e")
        before, self.slo = self.slo, Slo(**limits) if any(limits.values()) else None
        entry = PlanEvent(perf_counter_ns() + LEAD_NS, "slo", slo_ns=slo_ns(self.slo))
        self._load().watches.tasks.slo_ns = slo_ns(self.slo)
        load.issue(entry, by)
        said = [f"{name.removesuffix('_ms')} ≤ {limit:g} ms" for name, limit in limits.items() if limit]
        text = f"SLO: {', '.join(said) or 'none'}"
        self._feed.say(text, kind="slo")
        inverse = SetSlo() if before is None else SetSlo(before.ttft_ms, before.tpot_ms, before.e2e_ms)
        return Done(text, entry.at_ns, inverse)

    def set_workload(self, command: SetWorkload, by: str) -> Done:
        """Changes the lengths. Prompts that are new have to be made first: ``Done.later`` is done when they
        are. Raises CommandError."""
        load = self._load()
        load.check_now(draining=True)
        given = {name: value for name, value in asdict(command).items() if value is not None}
        if not given:
            raise CommandError(f"workload: needs one of {', '.join(asdict(command))}")
        for name, value in given.items():
            if name == "prefix_share":
                if not 0 <= value <= 1:
                    raise CommandError("workload: prefix_share must be from 0 to 1")
            elif not 0 <= value <= _MOST_TOKENS:
                raise CommandError(
                    f"workload: {name} must be from 1 to {_MOST_TOKENS}, or 0 for what the workload has"
                )
        if "max_tokens" in given:
            self._check_answers()
        wanted = self._wanted.after(command)
        if wanted.prompts in self._sets:
            return self._send(command, wanted.prompts, by)
        workload = self._workload_of(wanted.prompts)
        if self._making:
            raise CommandError("workload: the prompts of the command before are being made still")
        making = asyncio.ensure_future(self._make(workload, wanted.prompts, command, by))
        return Done(f"making prompts {wanted.prompts}", later=making)

    def _check_answers(self) -> None:
        ours = [name for name in ("max_tokens", "max_completion_tokens") if name in self._request.body]
        if ours:
            raise CommandError(f"workload: {ours[0]} is a field that was given for every request (--body)")

    def _workload_of(self, prompts: _Prompts) -> SyntheticWorkload:
        """The workload with other prompts. Raises CommandError where it can't have any."""
        workload, fields = self._scenario.workload, prompts.fields()
        names = ", ".join(name for name, value in fields.items() if value is not None) or "prefix_share"
        if not isinstance(workload, SyntheticWorkload):
            raise CommandError(
                f"workload: {names} can be changed for a synthetic workload only, "
                f"this one's kind is {workload.kind}; max_tokens can be"
            )
        if workload.turns != 1:
            raise CommandError(f"workload: {names} can't be changed, conversations are under way")
        if len(self._sets) > _MOST_SETS:
            raise CommandError(f"workload: {_MOST_SETS} sets of prompts are the most in one session")
        merged = workload.model_dump(by_alias=True) | fields
        unset = [name for name, value in fields.items() if value is None]
        made = {name: value for name, value in merged.items() if name not in unset}
        try:
            return SyntheticWorkload.model_validate(made)
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(map(str, first["loc"])) or first.get("ctx", {}).get("key") or names
            raise CommandError(f"workload: {at}: {first['msg']}") from None

    async def _make(
        self, workload: SyntheticWorkload, prompts: _Prompts, command: SetWorkload, by: str
    ) -> Done:
        """Makes prompts, hands them to the workers, and sends them once all have read them."""
        self._making = True
        try:
            number = len(self._sets)
            stem, dot, kind = PROMPTS.partition(".")
            path = (self._request.out / f"{stem}-{number + 1}{dot}{kind}").resolve()
            await write_prompts(workload, path, self._scenario.seed, self._feed.step)
            data = await asyncio.to_thread(Path.read_bytes, path) if self._request.workers.ray else None
            load = self._load()
            load.check_now(draining=True)
            load.hand_out(AddPrompts(str(path), data))
            self._sets[prompts] = number
            async with asyncio.timeout(_READ_LIMIT_S):
                while not load.hold_prompts(number + 1):
                    await asyncio.sleep(_LOOK_S)
                    load.check_now(draining=True)
        except TimeoutError:
            raise CommandError(
                f"workload: the load workers did not read the prompts within {_READ_LIMIT_S:g} s"
            ) from None
        except CommandError:
            raise
        except UserError as error:
            raise CommandError(f"workload: {error}") from None
        finally:
            self._making = False
        return self._send(command, prompts, by)

    def _send(self, command: SetWorkload, prompts: _Prompts, by: str) -> Done:
        load, before = self._load(), self._wanted
        self._wanted = wanted = replace(before.after(command), prompts=prompts)
        lengths = Lengths(self._sets[prompts], wanted.max_tokens or None)
        entry = PlanEvent(perf_counter_ns() + LEAD_NS, "workload", lengths=lengths)
        more = {
            "prompt_tokens": prompts.prompt_tokens or None,
            "prefix_tokens": prompts.prefix_tokens or None,
            "prefix_share": prompts.prefix_share,
        }
        load.issue(entry, by, more)
        text = str(wanted)
        self._feed.say(text, kind="command")
        return Done(text, entry.at_ns, before.inverse(command))
