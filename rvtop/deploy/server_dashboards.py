"""The dashboards of what servers tell: the cluster (Ray, Serve, GPUs), and serving (the engines)."""

from __future__ import annotations

from collections.abc import Sequence

from rvtop.contract.figures import BY_KEY, SHOWN, Figure
from rvtop.deploy.panel import Dashboard, Panel, Query, Variable
from rvtop.deploy.promql import WINDOW, Names, gauge, mean, quantile, rate, ray_metric, selector, share

_ENGINES = ('job=~"$job"', 'model_name=~"$model"')
_BY = ("job", "model_name")
_LEGEND = "{{job}} {{model_name}}"
_DEPLOYMENT = 'deployment=~"$deployment"'
_SERVE = "sum by (application, deployment)"
_OF_SERVE = "{{application}}/{{deployment}}"
_RAY_NODE = 'ip=~"$node"'
_DCGM_HOST = 'Hostname=~"$gpu_host"'

#: Figures of engines in rows; those that are shown on rvtop's screens and are in no row are in the last one.
SERVING_ROWS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Requests", ("requests_ok", "running", "waiting", "waiting_by_reason", "queue_time", "e2e")),
    (
        "First tokens and tokens",
        ("ttft", "itl", "generation_tokens", "prompt_tokens", "prefill_time", "decode_time"),
    ),
    ("KV cache", ("kv_usage", "preemptions", "prefix_hit_rate", "prompt_tokens_by_source")),
)  # fmt: skip

_UNITS = {"s": "s", "bytes": "bytes", "share 0..1": "percentunit"}
#: Titles of figures that have no heading on the screen, or one too short to stand alone.
_TITLES = {
    "requests_ok": "Request rate",
    "running": "Running",
    "waiting": "Queue",
    "queue_time": "Time in the queue",
    "prefill_time": "Time of prefill",
    "decode_time": "Time of decode",
    "kv_usage": "KV cache",
    "preemptions": "Preemptions",
    "generation_tokens": "Output tokens",
    "prompt_tokens": "Prompt tokens",
    "ttft": "TTFT",
    "itl": "ITL",
    "e2e": "E2E",
    "fragmentation": "Fragmentation of the allocator",
    "acceptance": "Drafted tokens accepted",
}


def serving(names: Names) -> Dashboard:
    """What engines tell, all models and servers (Prometheus' jobs) of a choice."""
    rows = [(title, tuple(_figure(names, BY_KEY[key]) for key in keys)) for title, keys in SERVING_ROWS]
    placed = {key for _, keys in SERVING_ROWS for key in keys}
    left = [figure for figure in SHOWN if figure.key not in placed and figure.kind != "info"]
    rest = tuple(_figure(names, figure) for figure in left)
    rows.append(("Energy", _energy(names)))
    rows.append(("More of the engines", rest))
    running = selector(names.series("running")[0])
    return Dashboard(
        "rvtop-serving",
        "rvtop: serving",
        "What vLLM's and rvtop's engines tell; Ray's re-export of them belongs into a job of its own.",
        (
            Variable("job", "server (job)", running, "job"),
            Variable("model", "model", selector(names.series("running")[0], 'job=~"$job"'), "model_name"),
        ),
        tuple(rows),
    )


def _figure(names: Names, figure: Figure) -> Panel:
    """The panel of a figure of engines: quantiles of a histogram, the growth of a counter, else its value."""
    title = _TITLES.get(figure.key) or figure.heading[:1].upper() + figure.heading[1:]
    unit = _UNITS.get(figure.unit, "short")
    by, legend = list(_BY), _LEGEND
    if figure.label:
        by, legend = [*by, figure.label], f"{_LEGEND} {{{{{figure.label}}}}}"
    if figure.parts:
        queries: Sequence[Query] = (Query(share(names, figure.key, by, _ENGINES), legend),)
    elif figure.kind == "histogram" and figure.buckets:
        queries = [
            Query(quantile(names, q, figure.key, by, _ENGINES), f"p{100 * q:g} {legend}")
            for q in (0.5, 0.9, 0.99)
        ]
        queries = [*queries, Query(mean(names, figure.key, by, _ENGINES), f"mean {legend}")]
    elif figure.kind == "histogram":
        queries = (Query(mean(names, figure.key, by, _ENGINES), f"mean {legend}"),)
    elif figure.kind == "counter":
        unit = "reqps" if figure.unit == "requests" else unit
        queries = (Query(rate(names, figure.key, by, _ENGINES), legend),)
    else:
        queries = (Query(gauge(names, figure.key, by, _ENGINES), legend),)
    return Panel(title, figure.help, unit, tuple(queries))


def dcgm(name: str) -> str:
    """A figure of each whole GPU from NVIDIA's exporter, which lists a GPU once for each pod on it, and a
    MIG instance apart."""
    series = selector(f"DCGM_FI_DEV_{name}", _DCGM_HOST)
    return f"sum by (Hostname, gpu) (max by (Hostname, gpu, GPU_I_ID) ({series}))"


def ray_gpu(names: Names, field: str) -> str:
    """The same of Ray's pages, in our unit."""
    metric = ray_metric("gpu", field)
    expr = f"max by (ip, GpuIndex) ({selector(names.ray('gpu', field), _RAY_NODE)})"
    return expr if metric.scale == 1 else f"{expr} * {metric.scale:.12g}"


_OF_DCGM, _OF_RAY = "{{Hostname}} GPU {{gpu}} (DCGM)", "{{ip}} GPU {{GpuIndex}} (Ray)"


def _energy(names: Names) -> tuple[Panel, ...]:
    tokens = rate(names, "generation_tokens", [], _ENGINES)
    about = (
        "Joules of all GPUs for one output token: their power over the tokens a second of all engines of the "
        "choice. The GPUs must be those of these engines."
    )
    dcgm_watts = "sum(max by (Hostname, gpu, GPU_I_ID) (DCGM_FI_DEV_POWER_USAGE))"
    ray_watts = (
        f"sum(max by (ip, GpuIndex) ({names.ray('gpu', 'watts')})) * {ray_metric('gpu', 'watts').scale:g}"
    )
    both = (
        Query(f"{dcgm_watts} / ({tokens})", "J/token (DCGM)"),
        Query(f"{ray_watts} / ({tokens})", "J/token (Ray)"),
    )
    return (Panel("Energy per token", about, "joule", both),)  # fmt: skip


def cluster(names: Names) -> Dashboard:
    """Nodes, Serve's deployments and GPUs of a Ray cluster, and GPUs by NVIDIA's exporter."""
    healthy = names.ray("deployment", "replicas")
    return Dashboard(
        "rvtop-cluster",
        "rvtop: cluster",
        "A Ray cluster's nodes, Serve deployments and GPUs.",
        (
            Variable("node", "node", names.ray("node", "cpu"), "ip"),
            Variable("deployment", "deployment", healthy, "deployment"),
            Variable("gpu_host", "GPU host (DCGM)", "DCGM_FI_DEV_GPU_UTIL", "Hostname"),
        ),
        (("Serve", _serve(names)), ("Nodes", _nodes(names)), ("GPUs", _gpus(names))),
    )


def _serve(names: Names) -> tuple[Panel, ...]:
    def of(field: str) -> str:
        return selector(names.ray("deployment", field), _DEPLOYMENT)

    def grown(field: str) -> str:
        return f"{_SERVE} (rate({of(field)}[{WINDOW}]))"

    def value(field: str) -> str:
        how = ray_metric("deployment", field).combine
        return f"{how} by (application, deployment) ({of(field)})"

    def told(field: str) -> str:
        return ray_metric("deployment", field).help

    latency = ray_metric("deployment", "latency_sum_ms").series.removesuffix("_sum")
    buckets = selector(f"{latency}_bucket", _DEPLOYMENT)
    p = "histogram_quantile({q}, sum by (le, application, deployment) (rate({buckets}[{window}])))"
    quantiles = tuple(
        Query(p.format(q=q, buckets=buckets, window=WINDOW), f"p{100 * q:g} {_OF_SERVE}") for q in (0.5, 0.99)
    )
    requests = grown("requests")
    wanted = (Query(value("target_replicas"), f"wanted {_OF_SERVE}"),) if names.tells_wanted else ()
    return (
        Panel("Request rate by deployment", told("requests"), "reqps", (Query(requests, _OF_SERVE),)),
        Panel(
            "Latency inside replicas", "Time inside replicas, from Ray's buckets.", "ms", quantiles,
        ),
        Panel("Queue by deployment", told("queued"), "short", (Query(value("queued"), _OF_SERVE),)),
        Panel(
            "Replicas", "Replicas that pass their health check, and those that Serve wants.", "short",
            (Query(value("replicas"), f"healthy {_OF_SERVE}"), *wanted),
        ),
        Panel("Ongoing in replicas", told("ongoing"), "short", (Query(value("ongoing"), _OF_SERVE),)),
        Panel(
            "Errors in replicas", "Share of the requests that failed inside replicas.", "percentunit",
            (Query(f"({grown('errors')} or 0 * {requests}) / {requests}", _OF_SERVE),),
        ),
        Panel(
            "Replica starts", told("starts"), "short",
            (Query(f"{_SERVE} ({of('starts')})", _OF_SERVE),),
        ),
    )  # fmt: skip


def _nodes(names: Names) -> tuple[Panel, ...]:
    def node(field: str) -> str:
        metric = ray_metric("node", field)
        expr = f"max by (ip) ({selector(names.ray('node', field), _RAY_NODE)})"
        return expr if metric.scale == 1 else f"{expr} * {metric.scale:g}"

    memory = ray_metric("node", "memory_used")
    return (
        Panel(
            "CPU", ray_metric("node", "cpu").help, "percentunit", (Query(node("cpu"), "{{ip}}"),), width=12,
        ),
        Panel(
            "Memory", memory.help, "bytes",
            (Query(node("memory_used"), "used {{ip}}"), Query(node("memory_total"), "of {{ip}}")), width=12,
        ),
    )  # fmt: skip


def _gpus(names: Names) -> tuple[Panel, ...]:
    mib = 1024 * 1024
    return (
        Panel(
            "GPU use", ray_metric("gpu", "util").help, "percentunit",
            (
                Query(f"{dcgm('GPU_UTIL')} / 100", _OF_DCGM),
                Query(ray_gpu(names, "util"), _OF_RAY),
            ),
        ),
        Panel(
            "GPU memory", ray_metric("gpu", "memory_used").help, "bytes",
            (
                Query(f"{dcgm('FB_USED')} * {mib}", _OF_DCGM),
                Query(ray_gpu(names, "memory_used"), _OF_RAY),
            ),
        ),
        Panel(
            "GPU power", ray_metric("gpu", "watts").help, "watt",
            (Query(dcgm("POWER_USAGE"), _OF_DCGM), Query(ray_gpu(names, "watts"), _OF_RAY)),
        ),
    )  # fmt: skip
