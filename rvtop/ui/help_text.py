"""What each figure is and where it comes from, a panel at a time. The help screen reads this table."""

from __future__ import annotations

import rvtop.contract.client_figures as client
import rvtop.contract.figures as table
from rvtop.contract.figures import BY_KEY, SHOWN
from rvtop.stats.verdict_rules import RULES
from rvtop.telemetry.metrics import RAY_TABLE
from rvtop.ui.help_kv import KV_PANELS
from rvtop.ui.panel_help import Figure, PanelHelp

CLIENT = "rvtop's own load client"
SERVER = "the server's /metrics, once a second"


def source_of(figure: table.Figure) -> str:
    """Where a figure of engines comes from, with the name that Prometheus knows it by."""
    parts = [BY_KEY[part] for part in figure.parts] or [figure]
    return f"{SERVER}: {', '.join(part.suffixes[0] for part in parts)}"


def ray_figures(of: str) -> tuple[Figure, ...]:
    """The figures of nodes or deployments that are shown."""
    shown = (metric for metric in RAY_TABLE if metric.of == of and metric.heading)
    return tuple(Figure(m.heading, m.help, f"Ray's metrics pages: {m.series}") for m in shown)


def verdict_words() -> list[tuple[str, list[str], str]]:
    """Each verdict that there is, in the words of its rules, with the source of the first one."""
    names = dict.fromkeys(rule.name for rule in RULES)
    of = {name: [rule for rule in RULES if rule.name == name] for name in names}
    return [(name, [rule.words for rule in rules], rules[0].source) for name, rules in of.items()]


PANELS: dict[str, PanelHelp] = {
    "showdown": PanelHelp(
        "showdown",
        "Topologies one after another with the same requests and the same lengths of answers, a row each. "
        "Compare by reading down; below each figure stands its change against the reference.",
        (
            Figure("█ ╌", "TTFT of all that was measured, and the reference's, on one log axis", CLIENT),
            Figure(
                "TTFT ms", "mean time from when a request was meant to be sent to its first token", CLIENT
            ),
            Figure("Latency_avg ms", "mean time to the last token", CLIENT),
            Figure("Latency_total s", "from the first request to the last token of all", CLIENT),
            Figure("TPS", "output tokens of all requests by Latency_total", CLIENT),
            Figure(client.COMPLETED.name, client.COMPLETED.brief, CLIENT),
            Figure("CENSORED", "completion differs by over a point, so means are not compared", CLIENT),
            Figure("(+6.2 %)", "in brackets: this change is not significant", CLIENT),
            Figure("start", "seconds until the topology was ready", "the start of the backend"),
        ),
    ),
    "end": PanelHelp(
        "end",
        "A session that has ended: the figures of its summary, all that was measured, without warm-up.",
        (
            Figure("TTFT p99", "in large digits, with whether it held the SLO", CLIENT),
            Figure("to NAME", "change against the newest other run of the same work in runs/", CLIENT),
            Figure("same as NAME", "the change is not significant", CLIENT),
            Figure("trust", "what bends the figures (!), and what is known to be sound", CLIENT),
            Figure("next", "enter does it, or copies the command; y copies it", CLIENT),
        ),
    ),
    "compare": PanelHelp(
        "compare",
        "Two sides: A is the reference. Stored runs are compared where their work was the same: prompts, "
        "seed, phases, requests; no command by hand, no early end.",
        (
            Figure("B − A", "the difference, and as a share of A", CLIENT),
            Figure("├─●─┤", "the change and its 95 % interval, from ten blocks of each run", CLIENT),
            Figure("B lower", "significant: the interval leaves out 0; same: it does not", CLIENT),
            Figure("too few data", "a block has under ten requests, for a p99 under 100", CLIENT),
            Figure("no interval", "what chance does is not known; B lower is how the figures read", CLIENT),
            Figure("CENSORED", "completion differs by over a point, so means are not compared", CLIENT),
            Figure("█ ╌", "TTFT of B, and of A over it; ▲ their p50", CLIENT),
        ),
    ),
    "pairs": PanelHelp(
        "compare",
        "Live pairs: the same prompt to A and B at the same intended time, and what differs within them.",
        (
            Figure("B − A", "the mean difference within pairs", CLIENT),
            Figure("├─●─┤", "its interval, which holds at any time that it is looked at", CLIENT),
            Figure("░", "the interval that A against A had: what the instrument adds", CLIENT),
            Figure("B lower", "0 lies outside of the interval", CLIENT),
            Figure("same", "the interval lies within 5 % of A", CLIENT),
            Figure("not yet", "neither: more pairs tell", CLIENT),
            Figure("t A", "pairs with another second server; these two again, A against A first", CLIENT),
            Figure("CENSORED", "completion differs by over a point, so means are not compared", CLIENT),
        ),
    ),
    "map": PanelHelp(
        "map",
        "Requests where they are: outside of the engines, in an engine's queue, in its batch.",
        (
            Figure("outside", "in flight here and told by no engine: network, front end, router", CLIENT),
            Figure("■ ·", "a taken and a free place of a batch; untold: of the largest seen", SERVER),
            Figure("●", "requests that wait: 1, 10, 100 … each, the same all over the map", SERVER),
            Figure("━▶", "tokens a second out of the engine; as long as its share of all", SERVER),
            Figure("plan", "rvc --auto-place: each model's replicas, and the reason", SERVER),
            Figure("×1.2", "the load that they sustain within the SLO over what arrives", SERVER),
        ),
    ),
    **KV_PANELS,
    "before": PanelHelp(
        "before",
        "The ghost's half: what was, in the same places and on the same scale as what is, below it.",
        (
            Figure(
                "before", "a switch keeps the server before; B keeps now, b shows or hides it", "your keys"
            ),
            Figure("asked, served", "the rate then, requests a second", CLIENT),
            Figure("■ · ● ━▶", "as in the half of now", SERVER),
        ),
    ),
    "one_engine": PanelHelp(
        "one engine",
        "What an engine makes of its time, before and now: the mean of the engines that tell.",
        (
            Figure("tok/s", "tokens that one engine makes in one second; bars on one scale from 0", SERVER),
            Figure("×", "how often before goes into now", SERVER),
        ),
    ),
    "requests": PanelHelp(
        "requests",
        "The 50 slowest requests of the last minute by TTFT, and the last 50 that failed. The parts of a "
        "TTFT sum to it.",
        (
            Figure("late", "sent after its intended time", CLIENT),
            Figure("network", "what is left: network, front end, and what nobody tells", CLIENT),
            Figure("router", "from its arrival at our router to that at its engine", "usage.rvtop"),
            Figure("queue", "waited in front of an engine and in it", "usage.rvtop or vLLM's metrics"),
            Figure("search", "documents looked up for the prompt", "usage.rvtop of the answer"),
            Figure("prefill", "from the start of its computation to its first token", "as queue"),
            Figure("d", "decode: from its first token to its last", CLIENT),
            Figure("mean ~", "ESTIMATE, where answers tell nothing", "means of the server's histograms"),
        ),
    ),
    "load": PanelHelp(
        "load",
        "What you command, and what came of it. Open loop: requests are sent when they are due, "
        "however slow the server is.",
        (
            Figure("rps", "arrival rate in force, requests a second", "your keys or the scenario"),
            Figure(
                "dial",
                "how the SLO fared when the rate last stood there for 10 s or 100 requests: held by 99 %, "
                "missed, or both; grey: with another target. A click opens g with that rate",
                CLIENT,
            ),
            Figure("due", "requests that were due a second, since the last change, 1 to 10 s", "the plan"),
            Figure("served", "requests answered in full a second, over the same time", CLIENT),
            Figure("noise", "what arrivals at random vary by over that time: square root of n / t", CLIENT),
            Figure("in flight", "sent and not yet ended", CLIENT),
            Figure(client.GOODPUT.name, f"{client.GOODPUT.brief}, mean of 10 s", CLIENT),
            Figure("waiting", "in the queues of all engines", SERVER),
            Figure("ok", "answered in full since the start", CLIENT),
            Figure("errors", "failed since the start, by class; never part of a latency", CLIENT),
            Figure("dropped", "due but never sent, since max_in_flight was reached", CLIENT),
            Figure("client lag", f"{client.LATE.brief}, p99 of 10 s; large: {client.LIMITED.name}", CLIENT),
        ),
    ),
    "verdict": PanelHelp(
        "verdict",
        "What binds the system now: the first rule that holds, three figures that say so, and the knob that "
        "moves it. It changes after 5 s of agreement. enter on this row tries the knob: the server starts "
        "with it, same load, and what was before is the ghost; v explains.",
        (
            *(Figure(name, "; or: ".join(words), source) for name, words, source in verdict_words()),
            Figure("not known yet", "none of them can be told; the row says what is missing", "rvtop"),
        ),
    ),
    "ttft": PanelHelp(
        "TTFT, time to first token",
        "From a request's intended time to the first chunk with text or a token, so a queue counts, "
        "also one in the client. Log axis; a column's height is its share of the requests.",
        (
            Figure(
                "█ last 10 s",
                "those with a first token in the last 10 s; under 60, a dot each",
                CLIENT,
            ),
            Figure("▒ phase", "all requests of this phase", CLIENT),
            Figure("╌ ghost", "the last 10 s of what was before, in the same scale", CLIENT),
            Figure("p50 p90 p99", "not exceeded by 50, 90, 99 % of the last 10 s; within 1 %", CLIENT),
            Figure("SLO", "the TTFT that the scenario asks for", "slo.ttft_ms of the scenario"),
            Figure(
                "SERVER",
                "with no load of ours: the server's own buckets, differences over 10 s; "
                "percentiles between bucket edges are estimates",
                SERVER,
            ),
        ),
    ),
    "latency": PanelHelp(
        "latency, ms",
        "Successful requests only. What stands under SERVER is what the server says of itself: "
        "its clock starts when the request has arrived there.",
        (
            Figure(client.TTFT.name, client.TTFT.brief, CLIENT),
            Figure(client.ITL.name, client.ITL.brief, CLIENT),
            Figure("ICL", "gap between two chunks, where chunks are not tokens (more than 2 % off)", CLIENT),
            Figure(client.E2E.name, client.E2E.brief, CLIENT),
            Figure("p50 p90 p99", "of the last 10 s", CLIENT),
            Figure("phase p99", "of all requests of this phase", CLIENT),
            Figure("~", "an estimate, interpolated between the server's bucket edges", SERVER),
        ),
    ),
    "change": PanelHelp(
        "since the ghost",
        "How the figures of the last 10 s differ from those of the ghost: what B kept, or what the target "
        "before last did under load.",
        (
            Figure("done", "of the requests that ended in the last 10 s, those answered in full", CLIENT),
            Figure("CENSORED", "one side failed over a point more: latencies of what is left", CLIENT),
        ),
    ),
    "latency_time": PanelHelp(
        "TTFT over time",
        "What users saw, second by second, on a log axis. Charts beside each other show the same seconds in "
        "the same columns: ╎ a phase or the server, ◆ a mark, ▼ requests preempted.",
        (
            Figure("█ p50", "half of the requests of the 10 s before waited less", CLIENT),
            Figure("▒ p99", "99 of 100 waited less", CLIENT),
            Figure("┈ SLO", "the TTFT that the scenario asks for", "slo.ttft_ms of the scenario"),
        ),
    ),
    "gpu_use": PanelHelp(
        "GPU use over time",
        "From the GPU that is used least to the one that is used most; without GPUs, the machines' cores.",
        (
            Figure("█ least", "use of the least used, of the last second", "NVML, DCGM or Ray"),
            Figure("▒ most", "use of the most used one", "NVML, DCGM or Ray"),
        ),
    ),
    "tokens": PanelHelp(
        "output tokens a second",
        "What the clients received, over time.",
        (
            Figure("█ client", client.TOKENS.brief, CLIENT),
            Figure("~", "chunks scaled by the running usage-to-chunk ratio, until usage is known", CLIENT),
            Figure(
                "─ SERVER",
                "growth of the server's generation counter, its other clients included; drawn where it "
                "differs by over 5 % for 5 s",
                SERVER,
            ),
            Figure("max", "the highest second so far", CLIENT),
        ),
    ),
    "engines": PanelHelp(
        "engines",
        "One line an engine; below, all together. Without room for all, those in trouble come first. "
        "Counters count since rvtop began to watch, durations are means of the last 10 s.",
        (
            *(Figure(f.heading, f.help, source_of(f)) for f in SHOWN),
            Figure("STALE", "the source has not answered for that long; figures are left out", "rvtop"),
        ),
    ),
    "gpu": PanelHelp(
        "GPU memory",
        "One line a GPU.",
        (
            Figure("memory", "used and total, GiB", "NVML, a DCGM exporter, or Ray's metrics"),
            Figure("use", "share of the last second in which a kernel ran", "NVML, DCGM or Ray"),
            Figure(
                "idle",
                "of the seconds with requests in flight since the start, how many found the GPU idle "
                "(use below 5 %)",
                "rvtop, from the use once a second",
            ),
            Figure("power", "now; -- where the GPU does not tell", "NVML, DCGM or Ray"),
            Figure(
                "J/token, J/request",
                "energy of the GPUs that serve (else of this machine's processors) over the last half "
                "minute, by output tokens and by requests that ended well",
                "NVML's or DCGM's counter; else the power over time; RAPL",
            ),
            Figure("idle", "their power while nothing is in flight, measured, or gpu_idle_w", "as power"),
            Figure(
                "$/Mtok, $/h",
                "cost of a million tokens, split by the engines' times of prefill and decode; of an hour",
                "the settings' prices: docs/energy.md",
            ),
        ),
    ),
    "arms": PanelHelp(
        "arms",
        "Models behind one name, where the server splits its requests. < and > change the share of the one "
        "with ▸; rvtop split changes any. Else the models (LoRA adapters too) that the load goes to.",
        (
            Figure("█ ┃", "the share that an arm got, and where it was to be", CLIENT),
            Figure(
                "asked",
                "its share in percent, as server or scenario have it; down: no engine of it is up",
                SERVER,
            ),
            Figure("got %", "its share of the requests that ended in the last 10 s", CLIENT),
            Figure("TTFT p50 p99", "of these; goodput and mean E2E too", CLIENT),
            Figure("errors", "since the start; red: there were some in the last 10 s", CLIENT),
            Figure("(none)", "requests that ended without an answer that names an arm", CLIENT),
        ),
    ),
    "tasks": PanelHelp(
        "tasks of agents",
        "Tasks that are requests one after another with tools at work between them; means over those that "
        "were done in the last minute, steps since the phase began. Drawn where the workload has tasks.",
        (
            Figure("/min good", "tasks done a minute; those of which every step met the SLO", CLIENT),
            Figure("a task", "from the intended time of its first step to its last token", CLIENT),
            Figure(
                "█ model", "from sending a step to its last token, along the path that took longest", CLIENT
            ),
            Figure("▒ tools", "the stubbed tools on that path, as long as the workload says", CLIENT),
            Figure("░ own wait", "rest: from the end of a step or tool to the next sending", CLIENT),
            Figure("server's queue", "the part of model that requests waited inside the server", SERVER),
            Figure("prefix hits", "of a step's prompt tokens, those from the prefix cache (usage)", SERVER),
            Figure("cut", "tasks that the end of a phase or of its drain left open", CLIENT),
        ),
    ),
    "deployments": PanelHelp(
        "Ray Serve",
        "One line a deployment, as application/deployment. Drawn where Serve runs.",
        ray_figures("deployment"),
    ),
    "replicas": PanelHelp(
        "replicas",
        "Replicas of all models over time, a cell each. Drawn where their number changes.",
        (
            Figure("● healthy", "replicas that answer", SERVER),
            Figure("◐ starting", "replicas that are being placed or load their weights", SERVER),
            Figure("○ wanted", "replicas that are to be there and have not begun to start", SERVER),
            Figure("◌ draining", "replicas that get no more requests and end those they have", SERVER),
        ),
    ),
    "nodes": PanelHelp(
        "nodes",
        "One line a machine of the Ray cluster. Drawn for two and more, or where no GPU is seen.",
        ray_figures("node"),
    ),
    "kvqueue": PanelHelp(
        "KV cache and queue",
        "The two signs of an overloaded engine, over time.",
        (
            Figure("KV", "KV-cache use, mean over the engines", SERVER),
            Figure("waiting", "requests queued in all engines together", SERVER),
        ),
    ),
    "inflight": PanelHelp(
        "in flight",
        "Requests sent and not yet ended, over time: in the engines' batches, waiting there, or outside.",
        (
            Figure("█ batch", "requests that the engines work on", SERVER),
            Figure("▓ wait", "requests that wait in the engines", SERVER),
            Figure("░ outside", "in flight at the client, less what the engines tell of", "rvtop"),
        ),
    ),
    "plan": PanelHelp(
        "the scenario's plan",
        "The rate of the whole scenario over time, its phases, and what comes next.",
        (
            Figure("█ served", "requests answered in full a second, so far", CLIENT),
            Figure("░ planned", "the rate that the scenario asks for; by hand it may be another", "the plan"),
            Figure("┃", "now; a pause holds it", "the plan"),
        ),
    ),
    "events": PanelHelp(
        "events",
        "What happened, newest first: changes of rate, phases, sources gone stale, faults.",
        (),
    ),
}
