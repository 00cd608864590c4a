"""``rvtop size``: its formulas, the rate it allows against a queue in virtual time, and what it refuses."""

from __future__ import annotations

import heapq
import json
import math
import random
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from rvtop.cli.size import _value
from rvtop.deploy.model_files import read_model
from rvtop.deploy.service_time import MARGIN, Load, ServiceTime, allowed, estimate, wait_quantile, waits
from rvtop.deploy.size import Asked, gpus, measured, roofline, size
from tests.conftest import Rvtop
from tests.unit.telemetry_pages import golden

CONFIG = {
    "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096, "num_hidden_layers": 32,
    "vocab_size": 128256, "torch_dtype": "bfloat16", "max_position_embeddings": 131072,
}  # fmt: skip
PARAMETERS = 8_030_261_248


def model_folder(folder: Path, parameters: int = PARAMETERS, **config: Any) -> Path:
    """A model by its headers; its weights are a hole in the file."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    tensor = {"dtype": "BF16", "shape": [parameters], "data_offsets": [0, 2 * parameters]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": tensor}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 2 * parameters)
    return folder


def asked(**more: Any) -> Asked:
    given: dict[str, Any] = {"slo": {"ttft_p99": 500.0, "tpot_mean": 20.0}, "dtype": "bfloat16"}
    return Asked(**{"rps": 24, "tokens_in": 600, "tokens_out": 256, "kv_dtype": "bfloat16", **given, **more})


def test_llama_8b_s_weights_and_kv_are_those_of_its_shape(tmp_path: Path) -> None:
    """128 KiB a token and 16 GB: Llama 3.1 8B's known figures."""
    model = read_model(model_folder(tmp_path / "m"))
    assert (model.parameters, model.weights) == (PARAMETERS, 2 * PARAMETERS)
    assert model.kv_bytes("bfloat16") == 128 * 1024
    answer = size(model, gpus()["H200"], asked())
    room = answer.value("room for KV")
    assert room == pytest.approx(0.9 * 141e9 - 2 * PARAMETERS - 8192 * 4096 * 12 * 2)
    assert answer.value("KV tokens") == room // (128 * 1024)
    assert answer.value("batch that fits") == 256
    assert size(model, gpus()["H200"], asked(kv_dtype="fp8")).value("KV per token") == 64 * 1024


def test_kv_per_token_is_what_a_real_vllm_divides_its_memory_by(tmp_path: Path) -> None:
    """The recorded page of vLLM 0.29 on the CPU, of the tiny model in float32."""
    line = next(
        line
        for line in golden("vllm_0.29_during.prom").splitlines()
        if line.startswith("vllm:cache_config_info{")
    )
    told = dict(re.findall(r'(\w+)="([^"]*)"', line))
    shape = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 128, "num_hidden_layers": 2}
    model = read_model(model_folder(tmp_path / "m", parameters=1000, torch_dtype="float32", **shape))
    tokens = int(told["num_gpu_blocks"]) * int(told["block_size"])
    assert tokens * model.kv_bytes("float32") == int(told["kv_cache_memory_bytes"])


def test_a_step_of_1_5b_on_an_h200_is_near_what_was_measured(tmp_path: Path) -> None:
    """2.9 to 3.2 ms TPOT at 24 requests a second of 600 + 256 tokens: within a third."""
    shape = {
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "hidden_size": 1536,
        "num_hidden_layers": 28,
    }
    model = read_model(model_folder(tmp_path / "m", parameters=1_543_714_304, **shape))
    found = estimate(24.0, 256, roofline(model, gpus()["H200"], asked()), Load(256))
    assert 1000 * found.tpot_mean == pytest.approx(3.0, rel=1 / 3)


def test_two_gpus_a_replica_halve_weights_and_kv_but_not_below_a_head(tmp_path: Path) -> None:
    model = read_model(model_folder(tmp_path / "m", num_key_value_heads=1))
    one, two = (size(model, gpus()["H200"], asked(tensor_parallel=n)) for n in (1, 2))
    assert two.value("weights") == PARAMETERS
    assert two.value("KV per token") == one.value("KV per token")


def test_what_does_not_fit_says_so(tmp_path: Path) -> None:
    model = read_model(model_folder(tmp_path / "m", parameters=70_000_000_000))
    answer = size(model, gpus()["H100"], asked())
    assert answer.replicas is None
    assert "more GPUs a replica (--tp)" in answer.why
    slow = size(read_model(model_folder(tmp_path / "n")), gpus()["L4"], asked())
    assert "an idle server misses the SLO" in slow.why


def test_replicas_cover_the_rate_and_cost_follows(tmp_path: Path) -> None:
    answer = size(read_model(model_folder(tmp_path / "m")), gpus()["H200"], asked(price=4.0))
    rate, replicas = answer.value("rate a replica"), answer.value("replicas")
    assert rate is not None
    assert replicas == math.ceil(24 / rate)
    assert answer.value("cost an hour") == 4.0 * replicas
    assert answer.value("cost a million output tokens") == pytest.approx(
        4.0 * replicas / 3600 / 24 / 256 * 1e6
    )


def test_erlang_s_c_is_that_of_the_tables() -> None:
    assert waits(0.5, 1) == pytest.approx(0.5)  # one server: its load
    assert waits(1.0, 2) == pytest.approx(1 / 3)
    assert waits(8.0, 10) == pytest.approx(0.4092, abs=1e-4)
    assert waits(10.0, 10) == 1.0
    assert wait_quantile(0.99, 10.0, 10, 1.0, 0.0) == math.inf
    assert wait_quantile(0.99, 1.0, 100, 1.0, 0.0) == 0.0


def p99_of_queue(rps: float, slots: int, service: ServiceTime, tokens: int, requests: int = 20_000) -> float:
    """TTFT p99, seconds, of a queue in virtual time: Poisson arrivals, a fixed service time, first come first
    served. It shares no formula with what it is compared with."""
    draw = random.Random(5)
    free, now, ttfts = [0.0] * slots, 0.0, []
    for _ in range(requests):
        now += draw.expovariate(rps)
        begins = max(now, heapq.heappop(free))
        heapq.heappush(free, begins + service.whole(0, tokens))
        ttfts.append(begins - now + service.prefill_s)
    return sorted(ttfts)[int(0.99 * requests)]


MOCK = ServiceTime(0.05, 0.01, 0.0, "the mock's")


@pytest.mark.parametrize("slots", [1, 4, 8, 32])
@pytest.mark.parametrize("limit_ms", [100.0, 300.0])
def test_at_the_rate_it_allows_the_slo_holds(slots: int, limit_ms: float) -> None:
    found = allowed(slots, MOCK, Load(16), {"ttft_p99": limit_ms})
    assert found is not None
    assert 1000 * p99_of_queue(found.rps, slots, MOCK, 16) <= limit_ms


@pytest.mark.parametrize("slots", [4, 8, 32])
@pytest.mark.parametrize("limit_ms", [100.0, 300.0])
def test_at_1_3_times_that_rate_it_is_missed(slots: int, limit_ms: float) -> None:
    """One place alone is not here: its rate is set too low where the wait may be longer than an answer."""
    found = allowed(slots, MOCK, Load(16), {"ttft_p99": limit_ms})
    assert found is not None
    assert 1000 * p99_of_queue(1.3 * found.rps, slots, MOCK, 16) > limit_ms


def test_a_batch_that_slows_its_steps_is_where_little_s_law_holds() -> None:
    service = ServiceTime(0.02, 0.005, 0.001, "x")
    found = estimate(8.0, 128, service, Load(100))
    assert found.batch == pytest.approx(8.0 * service.whole(found.batch, 100))
    limit = allowed(64, service, Load(100), {"tpot_mean": 20.0})
    assert limit is not None
    highest = estimate(limit.rps / MARGIN, 64, service, Load(100))
    assert 1000 * highest.tpot_mean == pytest.approx(20.0, rel=0.01)
    assert limit.tpot_mean < highest.tpot_mean


def test_runs_at_two_rates_give_the_line_of_a_step() -> None:
    def run(rps: float, tpot_ms: float) -> dict[str, Any]:
        e2e = 50 + 99 * tpot_ms
        return {
            "rate": {"completed_rps": rps}, "tpot_ms": {"mean": tpot_ms}, "e2e_ms": {"mean": e2e},
            "ttft_ms": {"mean": 50.0}, "ttft_service_ms": {"p50": 50.0}, "server": {},
        }  # fmt: skip

    true = ServiceTime(0.05, 0.005, 0.0005, "")
    points = [(rps, estimate(rps, 999, true, Load(100))) for rps in (2.0, 8.0)]
    found = measured([run(rps, 1000 * at.tpot_mean) for rps, at in points])
    assert found.prefill_s == 0.05
    assert found.step_s == pytest.approx(0.005, rel=0.01)
    assert found.sequence_s == pytest.approx(0.0005, rel=0.01)
    assert "2 runs" in found.source
    with pytest.raises(ValueError, match="no TTFT"):
        measured([{"rate": {"completed_rps": 1.0}}])


WORDS = ("--gpu", "H200", "--rps", "24", "--in", "600", "--out", "256")


def test_the_command_prints_each_line_with_its_formula(rvtop_here: Rvtop, tmp_path: Path) -> None:
    model = model_folder(tmp_path / "m")
    code, out, err = rvtop_here("size", "--model", model, *WORDS, "--slo", "tpot_mean=20", "--price", "4")
    assert (code, err) == (0, "")
    rows = {line[:29].strip(): line[29:].split("  ", 1) for line in out.splitlines()}
    assert rows["KV per token"][0] == "128 KiB" or "128 KiB" in out
    assert "PagedAttention" in out
    assert "Erlang" in out
    code, out, _ = rvtop_here("size", "--model", model, *WORDS, "--rps", "24000", "--out", "90000")
    assert not re.search(r"\de\+\d", out)
    code, out, _ = rvtop_here("size", "--model", model, *WORDS, "--slo", "tpot_mean=20", "--json")
    assert {line["name"] for line in json.loads(out)["lines"]} >= {"weights", "replicas", "Ray's overhead"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gpu", "V100"), "--gpu V100: not in the table"),
        (("--rps", "0"), "--rps 0: must be above 0"),
        (("--in", "0"), "--in 0: must be at least 1"),
        (("--slo", "itl_p99=5"), "--slo itl_p99: can't be told before a run"),
        (("--dtype", "int3"), "--dtype int3: must be auto"),
        (("--topology", "rac"), "--topology rac: must be one of"),
    ],
)
def test_bad_options_are_one_line(
    words: tuple[str, str], said: str, rvtop_here: Rvtop, tmp_path: Path
) -> None:
    code, _, err = rvtop_here("size", "--model", model_folder(tmp_path / "m"), *WORDS, *words)
    assert (code, err.count("\n")) == (2, 1)
    assert said in err


@pytest.mark.parametrize("fault", ["none", "cut", "garbage", "no config", "config", "other format"])
def test_a_damaged_model_is_one_line_that_names_the_file(
    fault: str, rvtop_here: Rvtop, tmp_path: Path
) -> None:
    folder = model_folder(tmp_path / "m", parameters=1000)
    weights, config = folder / "model.safetensors", folder / "config.json"
    match fault:
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-10])
        case "garbage":
            weights.write_bytes(b"\xff" * 100)
        case "no config":
            config.unlink()
        case "config":
            config.write_text("[]")
        case "other format":
            weights.rename(folder / "model.bin")
    code, _, err = rvtop_here("size", "--model", folder, *WORDS)
    assert err.count("\n") == (0 if fault == "none" else 1)
    assert code == (0 if fault == "none" else 2)
    if fault != "none":
        assert "--model" in err
        assert str(folder) in err


def test_no_figure_is_a_power_of_ten() -> None:
    for unit in ("bytes", "bytes/token", "s", "money", "count", "rps"):
        for exponent in range(-2, 17):
            for digits in (1.0, 9.994, 9.996, 9.9996):
                assert "e" not in _value(digits * 10.0**exponent, unit), (unit, digits, exponent)
