"""The dashboards of what clients feel (``--metrics-port``): one session, and topologies side by side."""

from __future__ import annotations

from rvtop.contract.client_figures import E2E, GOODPUT, ITL, LATE, LIMITED, TOKENS, TTFT, ClientFigure
from rvtop.deploy.panel import Dashboard, Panel, Query, Variable
from rvtop.deploy.promql import WINDOW, Names, gauge, quantile, rate, selector

_COMPLETED = "Requests a second that were answered, last 2 s."
_MINE = '{instance=~"$instance"}'


def client() -> Dashboard:
    """What one client measures: load, latencies, tokens, errors, and whether it was in time itself."""
    stats = (
        _stat("Completed", _COMPLETED, "reqps", "completed_rps", "rps"),
        _stat("In flight", "Requests that were sent and have not ended.", "short", "in_flight", "in flight"),
        _stat("Tokens/s", TOKENS.sentence, "short", "output_tokens_per_second", "tokens/s"),
        Panel(
            "Failed", "Share of the requests that ended in the last minute and failed.", "percentunit",
            (
                Query(
                    '(sum(rate(rvtop_client_requests_total{instance=~"$instance",end!="ok"}[1m])) or '
                    f"vector(0)) / sum(rate(rvtop_client_requests_total{_MINE}[1m]))",
                    "failed",
                ),
            ),
            "stat", 4, 4,
        ),
        Panel(
            "Client limited", f"1 while it holds: {LIMITED.brief}.", "short",
            (Query(f"max(rvtop_client_limited{_MINE})", "limited"),), "stat", 4, 4,
            {"max": 1, "mappings": [{"type": "value", "options": _YES_NO}]},
        ),
        Panel(
            "What runs", "Scenario, phase and state of the session.", "string",
            (Query(f"rvtop_client_info{_MINE}", "{{scenario}} · {{phase}} · {{state}}"),), "stat", 4, 4,
            options={"graphMode": "none", "textMode": "name"},
        ),
    )  # fmt: skip
    load = tuple(
        Query(f"sum(rvtop_client_{name}_rps{_MINE})", legend)
        for name, legend in (
            ("target", "commanded"),
            ("offered", "intended"),
            ("sent", "sent"),
            ("completed", "completed"),
            ("goodput", "goodput"),
        )
    )
    about = (
        "Commanded, intended by the plan, sent, answered, and answered within the SLO. Sent below intended: "
        "the client is late."
    )
    ended = Query(f"sum by (end) (rate(rvtop_client_requests_total{_MINE}[{WINDOW}]))", "{{end}}")
    tokens = Query(f"sum(rate(rvtop_client_output_tokens_total{_MINE}[{WINDOW}]))", "tokens/s")
    heat = Query(f"sum by (le) (increase(rvtop_client_ttft_seconds_bucket{_MINE}[{WINDOW}]))", "{{le}}")
    rows = (
        ("", stats),
        (
            "",
            (
                Panel("Load", about, "reqps", load, width=12),
                Panel(
                    "Requests that ended", "By how: ok, or the class of their error.", "reqps", (ended,),
                    width=12,
                ),
            ),
        ),
        ("", (_latency(TTFT, "ttft"), _latency(ITL, "itl"), _latency(E2E, "e2e"))),
        (
            "",
            (
                Panel("TTFT, all of it", "Requests by their TTFT.", "short", (heat,), "heatmap", 12),
                Panel("Tokens/s over time", "Tokens of answers.", "short", (tokens,), width=6),
                _in_time(),
            ),
        ),
    )  # fmt: skip
    return Dashboard(
        "rvtop-client",
        "rvtop: what the client measures",
        "The figures of rvtop --metrics-port: docs/metrics.md says what each is.",
        (Variable("instance", "rvtop", "rvtop_client_info", "instance"),),
        rows,
    )


_YES_NO = {"0": {"text": "no", "color": "green"}, "1": {"text": "CLIENT-LIMITED", "color": "red"}}


def _stat(title: str, about: str, unit: str, name: str, legend: str) -> Panel:
    return Panel(title, about, unit, (Query(f"sum(rvtop_client_{name}{_MINE})", legend),), "stat", 4, 4)


def _latency(figure: ClientFigure, key: str) -> Panel:
    name = f"rvtop_client_{key}_seconds"
    quantiles = tuple(
        Query(
            f"histogram_quantile({q:g}, sum by (le) (rate({name}_bucket{_MINE}[{WINDOW}])))", f"p{100 * q:g}"
        )
        for q in (0.5, 0.9, 0.99)
    )
    mean = f"sum(rate({name}_sum{_MINE}[{WINDOW}])) / sum(rate({name}_count{_MINE}[{WINDOW}]))"
    return Panel(figure.name, figure.sentence, "s", (*quantiles, Query(mean, "mean")))


def _in_time() -> Panel:
    def rate(name: str) -> str:
        return f"sum(rate(rvtop_client_requests_{name}_total{_MINE}[{WINDOW}]))"

    right = {
        "matcher": {"id": "byRegexp", "options": ".*1/s"},
        "properties": [{"id": "unit", "value": "reqps"}, {"id": "custom.axisPlacement", "value": "right"}],
    }
    return Panel(
        "Is the client in time?",
        f"{LATE.sentence.rstrip('.')} (p99 of the last 10 s), and arrivals that were never sent.",
        "s",
        (
            Query(f"max(rvtop_client_late_sends_p99_seconds{_MINE})", "late sends p99"),
            Query(rate("dropped"), "never sent, 1/s"),
            Query(f"{rate('due')} - {rate('sent')}", "due, not sent, 1/s"),
        ),
        width=6,
        overrides=(right,),
    )


_INFO = 'on (instance) group_left (topology) rvtop_client_info{topology=~"$topology"}'
_ARM = 'model_name=~"$arm"'


def comparison(names: Names) -> Dashboard:
    """Topologies side by side, as a client of each feels them, and arms (versions behind one name, each a
    model of its own to the engines) side by side, as the servers tell."""
    of_clients = (
        _compared("Completed", _COMPLETED, "reqps", "completed_rps"),
        _compared("Goodput", GOODPUT.sentence, "reqps", "goodput_rps"),
        _compared("In flight", "Requests that were sent and have not ended.", "short", "in_flight"),
        *(
            Panel(
                f"{figure.name} p{100 * q:g}", figure.sentence, "s",
                (
                    Query(
                        f"histogram_quantile({q:g}, sum by (le, topology) "
                        f"(rate(rvtop_client_{key}_seconds_bucket[{WINDOW}]) * {_INFO}))",
                        "{{topology}}",
                    ),
                ),
            )
            for figure, key, q in (
                (TTFT, "ttft", 0.5), (TTFT, "ttft", 0.99), (ITL, "itl", 0.5), (ITL, "itl", 0.99),
                (E2E, "e2e", 0.99),
            )
        ),
        Panel(
            "Failed", "Share of the requests that ended and failed.", "percentunit",
            (Query(_failed(), "{{topology}}"),),
        ),
        Panel(
            "Output tokens", TOKENS.sentence, "short",
            (Query(_grown("output_tokens_total"), "{{topology}}"),),
        ),
    )  # fmt: skip
    by, arms = ["model_name"], (_ARM,)
    ended = rate(names, "requests_ok", by, arms)
    all_arms = rate(names, "requests_ok", [], arms)
    of_arms = (
        _arm("Requests", "Requests a second that ended well, by arm.", "reqps", ended),
        _arm(
            "Share got", "Share of the requests that each arm got.", "percentunit",
            f"({ended}) / on () group_left () ({all_arms})",
        ),
        _arm("TTFT p99, server", "Time to first token as the server sees it.", "s",
             quantile(names, 0.99, "ttft", by, arms)),
        _arm("ITL p99, server", "Time between two tokens as the server sees it.", "s",
             quantile(names, 0.99, "itl", by, arms)),
        _arm("Tokens", "Output tokens a second.", "short", rate(names, "generation_tokens", by, arms)),
        _arm("Running", "Requests that engines compute on.", "short", gauge(names, "running", by, arms)),
        _arm("Waiting", "Requests that wait in engines.", "short", gauge(names, "waiting", by, arms)),
    )  # fmt: skip
    engines = selector(names.series("running")[0])
    return Dashboard(
        "rvtop-comparison",
        "rvtop: topologies and arms side by side",
        "One client (rvtop --metrics-port) for each topology; the arms of a split by what engines tell.",
        (
            Variable("topology", "topology", "rvtop_client_info", "topology"),
            Variable("arm", "arm", engines, "model_name"),
        ),
        (("Topologies, as clients feel them", of_clients), ("Arms, as the engines tell", of_arms)),
    )


def _compared(title: str, about: str, unit: str, name: str) -> Panel:
    expr = f"sum by (topology) (rvtop_client_{name} * {_INFO})"
    return Panel(title, about, unit, (Query(expr, "{{topology}}"),))


def _grown(name: str) -> str:
    return f"sum by (topology) (rate(rvtop_client_{name}[{WINDOW}]) * {_INFO})"


def _failed() -> str:
    whole, bad = _grown("requests_total"), _grown('requests_total{end!="ok"}')
    return f"({bad} or 0 * {whole}) / {whole}"


def _arm(title: str, about: str, unit: str, expr: str) -> Panel:
    return Panel(title, about, unit, (Query(expr, "{{model_name}}"),), width=6)
