"""A session as plain lines: for pipes, logs, CI and terminals that scroll."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rvtop.contract.command import Stop
from rvtop.contract.figures import RATIO_TOLERANCE, SHOWN, texts
from rvtop.contract.kv_lines import now_line, result_line
from rvtop.contract.pairs import pair_words, summary_words
from rvtop.contract.replicas import counts_line, is_scaled
from rvtop.contract.replicas import result_line as replicas_line
from rvtop.contract.snapshot import Event, Snapshot, StartStep
from rvtop.contract.steps import step_line
from rvtop.contract.stream import events_after
from rvtop.results.arms import arm_lines
from rvtop.results.beside_text import probe_lines, warm_up_line
from rvtop.results.parts_text import parts_lines
from rvtop.results.tasks_text import task_lines
from rvtop.session.request import Outcome, SessionRequest
from rvtop.system.stdio import LineWriter
from rvtop.text import digits, percent, phase_words

if TYPE_CHECKING:  # the dashboard's own process writes the result, and has no session in it
    from rvtop.session.session import Session

_LINE_S = 5.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAME_S = 1.0  # signals this close together count as one
_POLL_S = 0.25  # taking a snapshot uses the cores that the load is measured on

Print = Callable[[str], None]


def run_plain(request: SessionRequest, *, quiet: bool = False) -> Outcome:
    """Runs a session to its end in this process. Ctrl-C ends it early with its results written (see
    :class:`Interrupts`)."""
    import uvloop

    if quiet:
        return uvloop.run(_run(request, None))
    lines = LineWriter()
    try:
        return uvloop.run(_run(request, lines))
    finally:
        lines.close()


async def _run(request: SessionRequest, out: Print | None) -> Outcome:
    from rvtop.session.session import Session

    session = Session(request, seen=False)
    running = asyncio.create_task(session.run())
    interrupts = Interrupts(session, out or (lambda text: None))
    loop = asyncio.get_running_loop()
    interrupts.listen(loop)
    try:
        if out is None:
            return replace(await running, interrupted=interrupts.came)
        narrator = Narrator(out)
        while not running.done():
            narrator.look(session.snapshot())
            await asyncio.wait([running], timeout=_POLL_S)
        narrator.look(session.snapshot(), last=True)
        return replace(running.result(), interrupted=interrupts.came)
    finally:
        interrupts.hand_over(loop)


class Interrupts:
    """What SIGINT, SIGTERM and SIGHUP do to a session: the first one stops it; those within the next second
    count as the same one; a later one ends it without waiting for requests or processes. The results are
    written either way."""

    def __init__(self, session: Session, out: Print, clock: Callable[[], float] = time.monotonic) -> None:
        self._session = session
        self._out = out
        self._clock = clock
        self._last: float | None = None  # when the last one that counted came
        self._hurried = False
        self._before: dict[signal.Signals, Any] = {}  # what handled each signal before

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on ``loop`` hears the signals, until ``hand_over``."""
        handlers = {name: signal.getsignal(name) for name in SIGNALS}
        # What nohup, or a shell's background job, ignores stays ignored.
        self._before = {name: now for name, now in handlers.items() if now not in (signal.SIG_IGN, None)}
        for name in self._before:
            loop.add_signal_handler(name, self.take)

    def take(self) -> None:
        """Handles one signal."""
        if self._is_same():
            return
        first, self._last = self._last is None, self._clock()
        if first:
            self._session.command(Stop("interrupted"), "signal")
            self._out("stopping: writing the results …")
        elif not self._hurried:
            self._hurried = True
            self._session.kill()
            self._out("stopping at once: what has not ended is killed; writing the results …")

    @property
    def came(self) -> bool:
        """Whether there was a signal."""
        return self._last is not None

    def _is_same(self) -> bool:
        return self._last is not None and self._clock() - self._last < _SAME_S

    def hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Replaces the handlers of ``loop``, whose session has ended, by those before; after a signal by one
        that ignores another within a second, which must not interrupt the last lines."""

        def late(*_: object) -> None:
            if not self._is_same():
                raise KeyboardInterrupt

        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for name, before in self._before.items():
            loop.remove_signal_handler(name)  # uvloop's stay when it closes, and then nobody hears them
            signal.signal(name, before if self._last is None else late)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


class Narrator:
    """Prints what is new in a snapshot: steps and events as they come, figures every five seconds."""

    def __init__(self, out: Print) -> None:
        self._out = out
        self._steps: dict[str, StartStep] = {}
        self._reported: Event | None = None  # the newest event that was printed
        self._next_s = 0.0
        self._phase: str | None = None

    def look(self, snapshot: Snapshot, *, last: bool = False) -> None:
        """Prints what has changed since the last call."""
        for step in snapshot.steps:
            before = self._steps.get(step.name)
            if before is None or before.state != step.state:
                self._steps[step.name] = step
                self._out(step_line(step))
        for event in events_after(snapshot.events, self._reported):
            self._reported = event
            self._out(f"  {_clock(snapshot.t_s)}  {event.text}")
        phase = snapshot.phase
        if phase is None:
            return
        if phase.name != self._phase:
            self._phase = phase.name
            self._next_s = snapshot.t_s + _LINE_S
        elif snapshot.t_s >= self._next_s and not last:
            self._next_s = snapshot.t_s + _LINE_S
            self._out(figures_line(snapshot))


def figures_line(s: Snapshot) -> str:
    """One line with what matters now."""
    if s.pairs is not None and s.pairs.stage != "warm":
        return f"  {_clock(s.t_s)}  {pair_words(s.pairs)}"
    load, ttft = s.load, s.latency.ttft
    parts = [
        f"  {_clock(s.t_s)}  {phase_words(s.phase.name) if s.phase else s.state:<8}",
        f"target {digits(load.target_rps)} rps  done {digits(load.completed_rps)}",
        f"in flight {load.in_flight}  ok {load.ok}  errors {sum(n for _, n in load.errors)}",
    ]
    server = s.latency.server_ttft
    if load.sent or server is None:
        parts.append(f"TTFT p50 {digits(ttft.p50)} p99 {digits(ttft.p99)} ms")
        parts.append(f"~{digits(s.tokens.per_s)} tok/s")
    else:
        parts.append(f"SERVER TTFT p50 {digits(server.p50)} p99 {digits(server.p99)} ms (estimates)")
        parts.append(f"{digits(s.tokens.server_per_s)} tok/s")
    parts += _figures(s.figures if s.target_down_s is None else {})
    if s.kv_map is not None and (cached := now_line(s.kv_map)):
        parts.append(cached)
    if is_scaled(s.series.replicas_wanted, s.series.replicas_healthy):
        parts.append("replicas " + counts_line(s.replicas))
    if s.verdict is not None and s.verdict.binds:
        parts.append(s.verdict.title)
    if load.goodput_rps is not None:
        parts.append(f"good {digits(load.goodput_rps)} rps")
    if s.target_down_s is not None:
        parts.append(f"SERVER NOT ANSWERING {s.target_down_s:.0f} s")
    if load.client_limited:
        parts.append("CLIENT-LIMITED")
    return "  ".join(parts)


def _figures(values: Mapping[str, float]) -> Iterator[str]:
    """The figures of engines that belong into a line."""
    told = dict(texts((f for f in SHOWN if f.plain), values, _FORMATS))
    for figure in SHOWN:
        if figure in told or figure.always:
            yield " ".join((figure.plain, *told.get(figure, [_FORMATS[figure.format](None)])))


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def _ms(value: float | None) -> str:
    return f"{digits(value)} ms"


def _mib(value: float | None) -> str:
    return f"{digits(None if value is None else value / (1 << 20))} MiB"


#: How figures of ``contract.figures`` are written, by their format.
_FORMATS = {"count": digits, "percent": percent, "split": percent, "bytes": _mib, "ms": _ms}


def kpm_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The experiment's four figures, one row a run: name -> summary."""
    head = ("", "TTFT ms", "Latency_avg ms", "Latency_total s", "TPS tok/s", "completed")
    lines = [head]
    for name, summary in rows.items():
        kpm = summary["kpm"]
        done = kpm["completed_pct"]
        lines.append(
            (
                name,
                digits(kpm["ttft_ms"]),
                digits(kpm["latency_avg_ms"]),
                digits(kpm["latency_total_s"]),
                digits(kpm["tps"]),
                "--" if done is None else f"{done:.1f} %",
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _gaps_name(summary: Mapping[str, Any]) -> str:
    """Gaps between chunks are the inter-token latency only where each chunk holds one token."""
    chunks = summary["itl_ms"]["count"] + summary["requests"]["ok"]
    tokens = summary["tokens"]["output"]
    merged = chunks and tokens and abs(tokens / chunks - 1.0) > RATIO_TOLERANCE
    return "inter-chunk latency" if merged else "ITL"


def _search_lines(search: Mapping[str, Any] | None) -> list[str]:
    """The curve of a search and what it found."""
    if search is None or not search["curve"]:
        return []
    names = list(search["curve"][0]["figures"])
    rows = [("rps", *(name if name == "error_rate" else f"{name} ms" for name in names), "")]
    for step in sorted(search["curve"], key=lambda step: (step["rps"], step["confirms"])):
        verdict = ("holds" if step["held"] else "misses") + (" (confirmation)" if step["confirms"] else "")
        verdict += " (client-limited)" if step["limited_by"] else ""
        rows.append((digits(step["rps"]), *(digits(step["figures"].get(name)) for name in names), verdict))
    from rvtop.session.find_max import found_line

    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["", "find-max"]
    lines += ["  " + "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    lines.append(found_line(search) if search["ended"] else "find-max: ended before it found a rate")
    limited = [step for step in search["curve"] if step["limited_by"]]
    if limited:
        least = min(limited, key=lambda step: step["rps"])
        lines.append(
            f"the server may hold more: CLIENT-LIMITED at {digits(least['rps'])} rps: {least['limited_by']}"
        )
    return lines


def result_lines(summary: Mapping[str, Any], folder: str) -> list[str]:
    """The lines that a run prints at its end."""
    requests, ttft, itl = summary["requests"], summary["ttft_ms"], summary["itl_ms"]
    service, goodput = summary["ttft_service_ms"], summary["goodput_rps"]
    errors = ", ".join(f"{kind} {n}" for kind, n in requests["errors"].items()) or "none"
    chunked = summary["tokens"]["source"] == "chunks"
    if ttft["count"] or not summary["e2e_ms"]["count"]:
        latencies = [
            f"TTFT p50 {digits(ttft['p50'])} p90 {digits(ttft['p90'])} p99 {digits(ttft['p99'])} ms "
            f"(from the actual send: p50 {digits(service['p50'])} p99 {digits(service['p99'])})",
            *parts_lines(summary.get("ttft_parts")),
            f"{_gaps_name(summary)} p50 {digits(itl['p50'])} p99 {digits(itl['p99'])} ms",
        ]
    else:  # answers in one piece
        e2e = summary["e2e_ms"]
        figures = " ".join(f"{name} {digits(e2e[name])}" for name in ("p50", "p90", "p99"))
        latencies = [f"TTFT -- ITL -- (answers in one piece)   E2E {figures} ms"]
    late = f"late sends p99 {digits(summary['schedule_lag_ms']['p99'])} ms"
    lines = [
        "",
        kpm_table({"A and B" if "pairs" in summary else summary["topology"] or "target": summary}),
        "",
        f"requests {requests['planned']} planned, {requests['ok']} ok, errors: {errors}",
        *latencies[:-1],
        f"{latencies[-1]}   {late}",
        f"tokens: {digits(summary['tokens']['input'])} in, {digits(summary['tokens']['output'])} out"
        + (" (counted chunks: the server gave no usage)" if chunked else ""),
    ]
    from rvtop.results.spent_text import spent_facts

    lines += [f"{what}: {told}" for what, told in spent_facts(summary)]
    lines += _search_lines(summary.get("find_max"))
    lines += summary_words(summary.get("pairs"))
    if goodput is not None:
        lines.append(f"goodput {digits(goodput)} rps within the SLO")
    lines += arm_lines(summary)
    lines += task_lines(summary.get("tasks"))
    if kv := result_line(summary.get("kv_map")):
        lines.append(kv)
    if scaled := replicas_line(summary.get("replicas")):
        lines.append(scaled)
    for found in summary.get("findings") or ():
        lines.append(f"{found['kind']}: " + "; ".join(filter(None, (found["text"], found["knob"]))))
    lines += probe_lines(summary.get("probes"))
    lines += filter(None, [warm_up_line(summary.get("warm_up"))])
    lines += summary["unread"]
    lines.append(f"run folder: {folder}")
    return lines


def warnings_of(summary: Mapping[str, Any]) -> list[str]:
    """What distorts the figures of a run that has ended, beside how it ended: a line each."""
    return [f"CLIENT-LIMITED: {summary['client']['limited_by']}"] if summary["client_limited"] else []
