"""A queueing model of a server under load, which emits the rows that a session would write of it.

Requests go through stages: our client → network → front end (CPU) → Serve's router → an engine's queue → its
batch, which computes in steps: prompts within a step's budget, one token of each request that decodes, blocks
of the KV cache as requests grow, preemption where there are none left. Virtual time; no verdicts here.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from rvtop.stats.limits import client_limited

BLOCK = 16
_WINDOW_S = 10


@dataclass(frozen=True)
class Setup:
    """Times in ms. ``rates`` are (seconds, requests a second), one after another. ``told``: which parts of
    the telemetry exist."""

    rates: tuple[tuple[float, float], ...] = ((30.0, 8.0),)
    prompt: int = 100
    output: int = 32
    send_ms: float = 0.05  # our client's CPU for each request
    network_ms: float = 0.5
    front_ms: float = 1.0  # CPU of a front process for a request
    fronts: int = 1
    hold_ms: float = 0.0  # something holds the first token back for up to so long
    gathers: bool = False  # and all others, which are seen to come together
    places: int = 64
    blocks: int = 4000
    budget: int = 2048
    step_ms: float = 5.0
    seq_ms: float = 0.02  # a step takes so much longer for each request that decodes
    token_ms: float = 0.01  # and for each prompt token
    slow: tuple[float, ...] = (1.0,)  # one engine for each: its steps take so many times longer
    skewed: tuple[float, ...] = ()  # how requests are spread over engines
    max_ongoing: int | None = None  # of a replica of Ray Serve, one for each engine
    wanted: int | None = None  # replicas; one that there is not starts for the whole time
    tells_places: bool = True
    tells_engine: bool = True
    tells_front_parts: bool = True
    gpu_busy: bool = True  # steps keep a GPU busy, else Python
    seed: int = 1


@dataclass(eq=False)
class _Request:
    due: float
    sent: float = 0.0
    arrived: float = 0.0  # at the engine
    begun: float | None = None  # first computed on
    first: float | None = None  # first token made
    seen: float = 0.0  # first token at the client
    done: int = 0  # prompt tokens computed
    made: int = 0
    prompt: int = 0
    output: int = 0


@dataclass
class _Engine:
    name: str
    slow: float
    blocks: int
    waiting: deque[_Request] = field(default_factory=deque)
    running: list[_Request] = field(default_factory=list)
    stepping: bool = False
    free: int = 0
    ongoing: int = 0

    def __post_init__(self) -> None:
        self.free = self.blocks


def _needs(tokens: int) -> int:
    return -(-tokens // BLOCK)


class Model:
    """``rows()`` plays it and returns a row for each second."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._random = random.Random(setup.seed)
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._engines = [
            _Engine(str(i), slow, setup.blocks // len(setup.slow)) for i, slow in enumerate(setup.slow)
        ]
        self._fronts = [0.0] * setup.fronts  # when each is free
        self._client_free = 0.0
        self._routed: deque[_Request] = deque()  # in Serve's router
        self._rate = 0.0
        self._in_flight = 0
        self._lags: deque[tuple[float, float]] = deque()
        self._cpu: deque[tuple[float, float]] = deque()
        self._ttfts: deque[tuple[float, float]] = deque()
        self._server_ttfts: deque[tuple[float, float]] = deque()
        self._ends: deque[tuple[float, float, float]] = deque()  # t, queue, prefill
        self._itls: deque[tuple[float, float, int]] = deque()
        self._steps: deque[tuple[float, int]] = deque()
        self._busy: deque[tuple[float, float]] = deque()
        self._preemptions = self._prompt_tokens = 0

    def rows(self) -> list[dict[str, Any]]:
        end = 0.0
        for seconds, rate in self.setup.rates:
            self._at(end, lambda rate=rate: self._set_rate(rate))
            t = end
            while rate and (t := t + self._random.expovariate(rate)) < end + seconds:
                self._at(t, self._arrive)
            end += seconds
        made = []
        for second in range(1, round(end) + 1):
            while self._events and self._events[0][0] <= second:
                self._now, _, act = heapq.heappop(self._events)
                act()
            self._now = float(second)
            made.append(self._row())
        return made

    def _at(self, t: float, act: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (t, self._number, act))

    def _set_rate(self, rate: float) -> None:
        self._rate = rate

    # -- the stages before an engine ---------------------------------------------------------

    def _arrive(self) -> None:
        """A request is due; our client sends one after another."""
        s, request = self.setup, _Request(self._now)
        request.prompt = max(1, round(s.prompt * self._random.uniform(0.7, 1.3)))
        request.output = max(2, round(s.output * self._random.uniform(0.5, 1.5)))
        begin = max(self._now, self._client_free)
        self._client_free = request.sent = begin + s.send_ms / 1e3
        self._cpu.append((request.sent, s.send_ms / 1e3))
        self._lags.append((request.sent, (request.sent - request.due) * 1e3))
        self._in_flight += 1
        self._at(request.sent + s.network_ms / 1e3, lambda: self._reach_front(request))

    def _reach_front(self, request: _Request) -> None:
        front = min(range(len(self._fronts)), key=self._fronts.__getitem__)
        done = max(self._now, self._fronts[front]) + self.setup.front_ms / 1e3
        self._fronts[front] = done
        self._at(done, lambda: self._route(request))

    def _route(self, request: _Request) -> None:
        self._routed.append(request)
        self._hand_out()

    def _hand_out(self) -> None:
        s = self.setup
        while self._routed:
            open_ = [e for e in self._engines if s.max_ongoing is None or e.ongoing < s.max_ongoing]
            if not open_:
                return
            if s.skewed:
                engine = self._random.choices(self._engines, s.skewed)[0]
            else:
                engine = min(open_, key=lambda e: (e.ongoing, self._random.random()))
            request = self._routed.popleft()
            engine.ongoing += 1
            request.arrived = self._now
            engine.waiting.append(request)
            self._step(engine)

    # -- an engine ---------------------------------------------------------------------------

    def _grow(self, engine: _Engine, request: _Request, tokens: int) -> bool:
        """Takes the blocks for ``tokens`` more of a request; False where there are too few."""
        held = request.done + request.made
        more = _needs(held + tokens) - _needs(held)
        if more > engine.free:
            return False
        engine.free -= more
        return True

    def _preempt(self, engine: _Engine) -> None:
        """The newest one computes again, its prompt and what it has made."""
        victim = engine.running.pop()
        engine.free += _needs(victim.done + victim.made)
        victim.prompt, victim.output = victim.prompt + victim.made, victim.output - victim.made
        victim.done = victim.made = 0
        engine.waiting.appendleft(victim)
        self._preemptions += 1

    def _step(self, engine: _Engine) -> None:
        """Begins a step, if none runs and there is anything to compute."""
        if engine.stepping or not (engine.running or engine.waiting):
            return
        s, budget = self.setup, self.setup.budget
        decoding: list[_Request] = []
        preempted = False
        for request in list(engine.running):
            if request not in engine.running or request.done < request.prompt:
                continue
            while request in engine.running and not self._grow(engine, request, 1):
                self._preempt(engine)
                preempted = True
            if request in engine.running:
                decoding.append(request)
                budget -= 1
        decoding = [request for request in decoding if request in engine.running]
        prompts: list[tuple[_Request, int]] = []
        for request in engine.running:
            if request.done < request.prompt and budget > 0:
                chunk = min(budget, request.prompt - request.done)
                if self._grow(engine, request, chunk):
                    prompts.append((request, chunk))
                    budget -= chunk
        while not preempted and engine.waiting and budget > 0 and len(engine.running) < s.places:
            request = engine.waiting[0]
            chunk = min(budget, request.prompt)
            if not self._grow(engine, request, chunk):
                break
            engine.running.append(engine.waiting.popleft())
            if request.begun is None:
                request.begun = self._now
            prompts.append((request, chunk))
            budget -= chunk
        tokens = len(decoding) + sum(chunk for _, chunk in prompts)
        if not tokens:
            return
        took = (s.step_ms + s.seq_ms * len(decoding) + s.token_ms * (tokens - len(decoding))) * engine.slow
        engine.stepping = True
        self._at(self._now + took / 1e3, lambda: self._end_step(engine, decoding, prompts, took, tokens))

    def _end_step(
        self,
        engine: _Engine,
        decoding: list[_Request],
        prompts: list[tuple[_Request, int]],
        took_ms: float,
        tokens: int,
    ) -> None:
        self._steps.append((self._now, tokens))
        self._busy.append((self._now, took_ms / 1e3))
        self._itls.append((self._now, took_ms, len(decoding)))
        for request, chunk in prompts:
            request.done += chunk
            self._prompt_tokens += chunk
            if request.done >= request.prompt and self._grow(engine, request, 1):
                decoding.append(request)
        for request in decoding:
            request.made += 1
            if request.first is None:
                request.first = self._now
                self._server_ttfts.append((self._now, (self._now - request.arrived) * 1e3))
                held = self._random.uniform(0.0, self.setup.hold_ms)
                seen = self._now + (self.setup.network_ms + held) / 1e3
                self._ttfts.append((self._now, (seen - request.due) * 1e3))
            if request.made >= request.output:
                self._end(engine, request)
        engine.stepping = False
        self._step(engine)

    def _end(self, engine: _Engine, request: _Request) -> None:
        engine.running.remove(request)
        engine.free += _needs(request.done + request.made)
        engine.ongoing -= 1
        self._in_flight -= 1
        assert request.begun is not None
        assert request.first is not None
        self._ends.append(
            (self._now, (request.begun - request.arrived) * 1e3, (request.first - request.begun) * 1e3)
        )
        self._hand_out()

    # -- what telemetry sees -----------------------------------------------------------------

    def _last(self, held: deque[Any], seconds: float = _WINDOW_S) -> list[Any]:
        while held and held[0][0] <= self._now - 3 * _WINDOW_S:
            held.popleft()
        return [one for one in held if self._now - seconds < one[0] <= self._now]

    def _row(self) -> dict[str, Any]:
        s = self.setup
        lags = sorted(lag for _, lag in self._last(self._lags))
        ttfts = sorted(ttft for _, ttft in self._last(self._ttfts))
        lag = lags[min(len(lags) - 1, int(0.99 * len(lags)))] if lags else None
        cpu = sum(seconds for _, seconds in self._last(self._cpu, 1.0))
        busy = min(1.0, sum(seconds for _, seconds in self._last(self._busy, 1.0)) / len(self._engines))
        itls = [(took, n) for _, took, n in self._last(self._itls) if n]
        tokens = sum(n for _, n in itls)
        p50 = ttfts[len(ttfts) // 2] if ttfts else None
        ends = self._last(self._ends)
        row: dict[str, Any] = {
            "t_s": self._now,
            "target_rps": self._rate,
            "completed_rps": sum(1 for t, *_ in ends if t > self._now - 2) / 2,
            "in_flight": self._in_flight,
            "ttft_p50_ms": p50,
            "ttft_mean_ms": fmean(ttfts) if ttfts else None,
            "lag_p99_ms": lag,
            "worker_cpu": cpu,
            "client_limited": client_limited(lag, p50, {}, None, cpu),
            "gpu_util_max": busy if s.gpu_busy else 0.4 * busy,
            "gpu_util_min": busy if s.gpu_busy else 0.4 * busy,
            "comb_ms": s.hold_ms if s.gathers and ttfts else None,
            "figures": {},
            "totals": {},
            "engines": [],
            "deployments": [],
        }
        if not s.tells_engine:
            return row
        served = [ttft for _, ttft in self._last(self._server_ttfts)]
        row |= {
            "server_ttft_ms": fmean(served) if served and s.tells_front_parts else None,
            "server_itl_ms": sum(took * n for took, n in itls) / tokens if tokens else None,
            "running": float(sum(len(e.running) for e in self._engines)),
            "waiting": float(sum(len(e.waiting) for e in self._engines)),
            "kv_usage": fmean(1 - e.free / e.blocks for e in self._engines),
            "preemptions": float(self._preemptions),
            "totals": {"prompt_tokens": float(self._prompt_tokens)},
            "engines": [
                {
                    "name": e.name,
                    "running": float(len(e.running)),
                    "waiting": float(len(e.waiting)),
                    "kv_usage": 1 - e.free / e.blocks,
                    "ttft_ms": None,
                }
                for e in self._engines
            ],
        }
        steps = [n for _, n in self._last(self._steps)]
        if steps:
            row["figures"]["step_tokens"] = fmean(steps)
        if ends and s.tells_front_parts:
            row["figures"] |= {
                "queue_time": fmean(queue for _, queue, _ in ends),
                "prefill_time": fmean(prefill for *_, prefill in ends),
            }
        if (
            s.max_ongoing is not None
        ):  # a topology of ours on Serve tells the queue as an engine without a batch
            queue = {"name": "queue", "running": None, "waiting": float(len(self._routed)), "kv_usage": None}
            row["engines"].insert(0, {**queue, "ttft_ms": None})
            row["waiting"] += queue["waiting"]
            row["deployments"] = [
                {
                    "name": "llm/LLMServer",
                    "replicas": float(len(self._engines)),
                    "target_replicas": float(s.wanted or len(self._engines)),
                    "ongoing": float(sum(e.ongoing for e in self._engines)),
                    "queued": float(len(self._routed)),
                }
            ]
        elif s.wanted is not None:  # rvc scales by itself, and requests wait in its engines alone
            row["replicas"] = [{"model": "m", "wanted": s.wanted, "healthy": len(self._engines)}]
        return row
