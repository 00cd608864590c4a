"""``rvtop deploy alerts``: each rule fires and resolves, by limits of the SLO; bad input is refused."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rvtop.deploy.alerts import FILE, Limits, files, groups
from rvtop.deploy.promql import Names
from rvtop.errors import UserError
from tests.conftest import Rvtop
from tests.unit.prom_names import asked_names, labels_of, recorded

SLO = {"error_rate": 0.01, "ttft_p99": 200.0, "itl_p99": 100.0, "e2e_p50": 5000.0, "tpot_mean": 50.0}
LIMITS = Limits(SLO)
RULES = [rule for group in groups(LIMITS) for rule in group["rules"]]
OLD = [rule for group in groups(LIMITS, Names(ray_before_2_53=True)) for rule in group["rules"]]

ENGINE = '{job="rvc", instance="a:1", model_name="m", engine="0"}'
OTHER = '{job="rvc", instance="a:1", model_name="m", engine="1"}'
#: A histogram by its buckets: for five minutes all events are in the highest, then all are in the lowest.
SLOW_THEN_FAST = ((0.01, "0x20 0+100x40"), (60.0, "0+10x20 200+100x40"), ("+Inf", "0+10x20 200+100x40"))


def histogram(name: str) -> dict[str, str]:
    """A latency that is bad for five minutes and good from then on, with its sum and count."""
    made = {
        f'vllm:{name}_bucket{{job="rvc", model_name="m", le="{le}"}}': line for le, line in SLOW_THEN_FAST
    }
    made[f'vllm:{name}_sum{{job="rvc", model_name="m"}}'] = "0+300x20 6000+1x40"
    made[f'vllm:{name}_count{{job="rvc", model_name="m"}}'] = "0+10x20 200+100x40"
    return made


SERVE = '{application="a", deployment="D"}'
#: Of each alert the series (15 s apart) that make it true for five minutes and false from then on.
SERIES: dict[str, dict[str, str]] = {
    "RvtopTTFTP99High": histogram("time_to_first_token_seconds"),
    "RvtopITLP99High": histogram("inter_token_latency_seconds"),
    "RvtopE2EP50High": histogram("e2e_request_latency_seconds"),
    "RvtopTPOTMeanHigh": histogram("inter_token_latency_seconds"),
    "RvtopErrorRateHigh": {
        'rvtop:request_success_total{job="rsc", model_name="m", finished_reason="stop"}': "0+10x60",
        'rvtop:request_success_total{job="rsc", model_name="m", finished_reason="error"}': "0+1x20 20x40",
    },
    "RvtopServeErrorRateHigh": {
        f"ray_serve_deployment_request_counter_total{SERVE}": "0+10x60",
        f"ray_serve_deployment_error_counter_total{SERVE}": "0+1x20 20x40",
    },
    "RvtopKvCacheFull": {f"vllm:kv_cache_usage_perc{ENGINE}": "0.97x20 0.5x40"},
    "RvtopNoTokens": {
        f"vllm:num_requests_running{ENGINE}": "3x60",
        f"vllm:generation_tokens_total{ENGINE}": "100x20 100+50x40",
    },
    "RvtopQueueLong": {
        f"vllm:num_requests_waiting{ENGINE}": "20x20 0x40",
        'vllm:request_success_total{job="rvc", model_name="m", finished_reason="stop"}': "0+30x60",
    },
    "RvtopEngineLost": {
        f"vllm:num_requests_running{ENGINE}": "1x60",
        f"vllm:num_requests_running{OTHER}": "1x4 stale _x16 1x40",
    },
    "RvtopServerDown": {
        'up{job="rvc", instance="a:1"}': "1x4 0x16 1x40",
        f"vllm:num_requests_running{ENGINE}": "1x4 stale _x16 1x40",
    },
    "RvtopReplicaUnhealthy": {
        f"ray_serve_autoscaling_target_replicas{SERVE}": "2x60",
        f"ray_serve_deployment_replica_healthy{SERVE}": "1x20 2x40",
    },
    "RvtopGpuLost": {
        'DCGM_FI_DEV_GPU_UTIL{Hostname="n1", gpu="0"}': "50x60",
        'DCGM_FI_DEV_GPU_UTIL{Hostname="n1", gpu="1"}': "50x4 stale _x16 50x40",
    },
    "RvtopRayGpuLost": {
        'ray_node_gpus_utilization{ip="10.0.0.1", GpuIndex="0"}': "50x4 stale _x16 50x40",
    },
}


def fires(alert: str, at: str, count: int) -> dict[str, Any]:
    """A look at how often an alert fires at a time."""
    samples = [{"labels": "{}", "value": count}] if count else []
    expr = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    return {"expr": expr, "eval_time": at, "exp_samples": samples}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here: apt install prometheus")
def test_each_alert_fires_and_resolves(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(files(LIMITS)[FILE])
    cases = [
        {
            "interval": "15s",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [fires(alert, "4m", 1), fires(alert, "9m", 0)],
        }
        for alert, series in SERIES.items()
    ]
    test = {"rule_files": [FILE], "evaluation_interval": "30s", "tests": cases}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    checked = subprocess.run(
        ["promtool", "check", "rules", FILE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = subprocess.run(
        ["promtool", "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_no_alert_is_left_out_of_what_promtool_tests() -> None:
    assert {rule["alert"] for rule in RULES} == set(SERIES)
    assert len(RULES) == len(SERIES)


def told() -> Iterator[tuple[str, str, bool]]:
    for rules, old in ((RULES, False), (OLD, True)):
        for rule in rules:
            yield rule["alert"], rule["expr"], old


@pytest.mark.parametrize(("alert", "expr", "old"), list(told()))
def test_a_rule_asks_for_names_and_labels_that_are_on_a_recorded_page(
    alert: str, expr: str, old: bool
) -> None:
    pages = recorded(old)
    for name, labels in asked_names(expr, old):
        if name != "up":
            assert name in pages, f"{alert}: {name}"
            assert labels <= pages[name] | {"job", "instance"}, f"{alert}: {name}"
    assert labels_of(expr) <= {"job", "instance", *(label for page in pages.values() for label in page)}


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_a_rule_names_what_to_open(rule: dict[str, Any]) -> None:
    assert re.search(r"\brvtop (attach|ps|logs|doctor)\b", rule["annotations"]["runbook"])
    assert rule["labels"]["severity"] in ("critical", "warning")
    asked = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert asked <= set(re.findall(r"\w+", rule["expr"]))


def test_thresholds_are_those_of_the_slo() -> None:
    by_name = {rule["alert"]: rule["expr"] for rule in RULES}
    assert by_name["RvtopTTFTP99High"].endswith("> 0.2")
    assert by_name["RvtopQueueLong"].endswith("> 0.2")
    assert by_name["RvtopTPOTMeanHigh"].endswith("> 0.05")
    assert by_name["RvtopErrorRateHigh"].endswith("> 0.01")
    (latency, *_) = groups(Limits({"ttft_p90": 700.0}, hold="3m"))
    (rule,) = latency["rules"]
    assert rule["expr"].startswith("(histogram_quantile(0.9,")
    assert (rule["expr"][-5:], rule["for"]) == ("> 0.7", "3m")


@pytest.mark.parametrize("figure", ["tpot_p99", "ttft_service_p99"])
def test_a_figure_that_no_server_tells_is_refused(figure: str) -> None:
    with pytest.raises(UserError, match=f"--slo {figure}: no server tells it"):
        groups(Limits({figure: 10.0}))


def test_the_command_writes_what_prometheus_loads_and_refuses_what_it_would_not(
    rvtop_here: Rvtop, tmp_path: Path
) -> None:
    code, out, _ = rvtop_here("deploy", "alerts", "--slo", "ttft_p99=200", "--for", "0", "--out", tmp_path)
    assert (code, out) == (0, f"{tmp_path / FILE}\n")
    written = yaml.safe_load((tmp_path / FILE).read_text())
    assert written["groups"][0]["rules"][0]["alert"] == "RvtopTTFTP99High"
    for option, value in (("--window", "soon"), ("--kv", "95"), ("--slo", "speed=3")):
        code, _, err = rvtop_here("deploy", "alerts", option, value, "--out", tmp_path)
        assert code == 2
        assert re.match(rf"rvtop: {option} '?{value}'?: \w", err)
        assert err.count("\n") == 1


def test_a_file_that_somebody_changed_is_not_overwritten(rvtop_here: Rvtop, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("mine\n")
    code, _, err = rvtop_here("deploy", "alerts", "--out", tmp_path)
    assert (code, (tmp_path / FILE).read_text()) == (2, "mine\n")
    assert "another text" in err
    assert "--force" in err
    assert rvtop_here("deploy", "alerts", "--force", "--out", tmp_path)[0] == 0
    assert yaml.safe_load((tmp_path / FILE).read_text())["groups"]
