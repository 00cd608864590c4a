"""Commands to a load besides its rate and its phases: the lengths of its requests, what goodput counts by,
and the cancelling of what is in flight."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter_ns

from pydantic import ValidationError

from rvtop.contract.command import Cancel, CommandError, SetSlo, SetWorkload
from rvtop.contract.run_files import PROMPTS
from rvtop.errors import UserError
from rvtop.load.plan.schedule import Lengths, PlanEvent
from rvtop.load.worker.messages import AddPrompts
from rvtop.scenario.schema import Scenario, Slo
from rvtop.scenario.workload import SyntheticWorkload
from rvtop.session.load_run import LoadRun, Parts
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
class _Wanted:
    """Lengths in tokens; 0: as the workload has them."""

    max_tokens: int = 0
    prompt_tokens: int = 0

    def __str__(self) -> str:
        answers = f"of at most {self.max_tokens} tokens" if self.max_tokens else "as the workload has them"
        prompts = f"of {self.prompt_tokens} tokens" if self.prompt_tokens else "as the workload has them"
        return f"prompts {prompts}, answers {answers}"


class LoadCommands:
    """``load`` returns the load that runs, of ``scenario``. ``slo`` is what goodput counts by now."""

    def __init__(self, parts: Parts, scenario: Scenario, load: Callable[[], LoadRun]) -> None:
        self._request = parts.request
        self._feed = parts.feed
        self._scenario = scenario
        self._load = load
        self._wanted = _Wanted()
        self._sets = {0: 0}  # number of the prompts that were made for a length
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
        before, self.slo = self.slo, Slo(**limits) if any(limits.values()) else None
        entry = PlanEvent(perf_counter_ns() + LEAD_NS, "slo", slo_ns=slo_ns(self.slo))
        load.issue(entry, by)
        said = [f"{name.removesuffix('_ms')} ≤ {limit:g} ms" for name, limit in limits.items() if limit]
        text = f"SLO: {', '.join(said) or 'none'}"
        self._feed.say(text, kind="slo")
        inverse = SetSlo() if before is None else SetSlo(before.ttft_ms, before.tpot_ms, before.e2e_ms)
        return Done(text, entry.at_ns, inverse)

    def set_workload(self, command: SetWorkload, by: str) -> Done:
        """Changes the lengths. Prompts of a length that is new have to be made first: ``Done.later`` is done
        when they are. Raises CommandError."""
        load = self._load()
        load.check_now(draining=True)
        fields = {"max_tokens": command.max_tokens, "prompt_tokens": command.prompt_tokens}
        given = {name: value for name, value in fields.items() if value is not None}
        if not given:
            raise CommandError("workload: needs max_tokens or prompt_tokens")
        for name, value in given.items():
            if not 0 <= value <= _MOST_TOKENS:
                raise CommandError(
                    f"workload: {name} must be from 1 to {_MOST_TOKENS}, or 0 for what the workload has"
                )
        if "max_tokens" in given:
            self._check_answers()
        wanted = replace(self._wanted, **given)
        if wanted.prompt_tokens in self._sets:
            return self._send(wanted, given, by)
        workload = self._workload_of(wanted.prompt_tokens)
        if self._making:
            raise CommandError("workload: the prompts of the command before are being made still")
        making = asyncio.ensure_future(self._make(workload, wanted.prompt_tokens, given, by))
        return Done(f"making prompts of {wanted.prompt_tokens} tokens", later=making)

    def _check_answers(self) -> None:
        ours = [name for name in ("max_tokens", "max_completion_tokens") if name in self._request.body]
        if ours:
            raise CommandError(f"workload: {ours[0]} is a field that was given for every request (--body)")

    def _workload_of(self, prompt_tokens: int) -> SyntheticWorkload:
        """The workload with prompts of another length. Raises CommandError where it can't have any."""
        workload = self._scenario.workload
        if not isinstance(workload, SyntheticWorkload):
            raise CommandError(
                "workload: prompt_tokens can be changed for a synthetic workload only, "
                f"this one's kind is {workload.kind}; max_tokens can be"
            )
        if workload.turns != 1:
            raise CommandError("workload: prompt_tokens can't be changed, conversations are under way")
        if len(self._sets) > _MOST_SETS:
            raise CommandError(f"workload: {_MOST_SETS} lengths of prompts are the most in one session")
        fields = {**workload.model_dump(by_alias=True), "prompt_tokens": prompt_tokens}
        try:
            return SyntheticWorkload.model_validate(fields)
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            raise CommandError(f"workload: prompt_tokens {prompt_tokens}: {why}") from None

    async def _make(
        self, workload: SyntheticWorkload, prompt_tokens: int, given: Mapping[str, int], by: str
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
            self._sets[prompt_tokens] = number
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
        return self._send(replace(self._wanted, **given), given, by)

    def _send(self, wanted: _Wanted, given: Mapping[str, int], by: str) -> Done:
        load, before = self._load(), self._wanted
        self._wanted = wanted
        lengths = Lengths(self._sets[wanted.prompt_tokens], wanted.max_tokens or None)
        entry = PlanEvent(perf_counter_ns() + LEAD_NS, "workload", lengths=lengths)
        load.issue(entry, by, {"prompt_tokens": wanted.prompt_tokens or None})
        text = str(wanted)
        self._feed.say(text, kind="command")
        inverse = SetWorkload(**{name: getattr(before, name) for name in given})
        return Done(text, entry.at_ns, inverse)
