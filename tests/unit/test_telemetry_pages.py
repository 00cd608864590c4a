"""Metrics pages, real and odd, read into engines and GPUs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from telemetry_pages import golden, many_engines

from rvtop.contract.figures import BY_KEY, FIGURES, SHOWN, shown, split
from rvtop.telemetry.exposition import NotPrometheus, SeriesReader
from rvtop.telemetry.metrics import NAMES
from rvtop.telemetry.prometheus import PageReader, parse

MIB = 1024 * 1024


def test_the_table_names_each_series_once_and_explains_it() -> None:
    suffixes = [suffix for figure in FIGURES if figure.kind != "info" for suffix in figure.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert len(BY_KEY) == len(FIGURES)
    for figure in FIGURES:
        assert figure.help.endswith(".")
        assert figure.unit
        assert bool(figure.suffixes) != bool(figure.parts)
        assert all(part in BY_KEY for part in figure.parts)
    for names in ([figure.heading for figure in SHOWN], [f.summary for f in SHOWN if f.summary]):
        assert len(names) == len(set(names))
    assert NAMES["vllm:generation_tokens_total"].figure.key == "generation_tokens"
    assert NAMES["ray_vllm_time_to_first_token_seconds_bucket"].figure.key == "ttft"
    assert NAMES["rvtop:kv_cache_bytes"].engine_kind == "hf"


def test_vllm_page_before_any_request() -> None:
    (engine,) = parse(golden("vllm_0.29_before.prom"))
    assert (engine.engine, engine.model, engine.kind) == ("0", "tiny", "vllm")
    assert engine.gauges["running"] == engine.gauges["waiting"] == engine.gauges["kv_usage"] == 0
    assert engine.counters["generation_tokens"] == 0
    assert engine.hists["ttft"].count == 0
    assert engine.hists["ttft"].le[-1] == math.inf


def test_vllm_page_under_load_and_after() -> None:
    (during,) = parse(golden("vllm_0.29_during.prom"))
    assert during.gauges["running"] >= 1
    assert 0 < during.gauges["kv_usage"] <= 1
    (after,) = parse(golden("vllm_0.29_after.prom"))
    # tests/golden/metrics/README.md: 6 requests of 24 tokens each, then one of 200.
    assert after.counters["requests_ok"] == 7
    assert after.counters["generation_tokens"] == 6 * 24 + 200
    assert after.counters["prompt_tokens"] > 0
    assert after.counters["prefix_queries"] > after.counters["prefix_hits"] > 0
    assert after.counters["preemptions"] == 0
    assert set(after.hists) == {figure.key for figure in FIGURES if figure.kind == "histogram"}
    assert after.hists["ttft"].count == after.hists["e2e"].count == 7
    assert after.hists["itl"].count == 6 * 23 + 199
    assert after.hists["e2e"].sum > after.hists["ttft"].sum > 0
    assert list(after.hists["ttft"].cumulative) == sorted(after.hists["ttft"].cumulative)


def test_every_table_metric_that_vllm_has_is_on_its_page() -> None:
    (engine,) = parse(golden("vllm_0.29_after.prom"))
    ours = {f.key for f in FIGURES if f.suffixes} - {"kv_bytes", "alloc_reserved", "alloc_allocated"}
    ours -= {"drafts", "drafted", "accepted", "accepted_at"}  # only where it decodes speculatively
    ours -= {"adapters_running", "adapters_waiting"}  # only with LoRA adapters
    assert ours == {name.partition("/")[0] for name in (*engine.gauges, *engine.counters, *engine.hists)}


def test_a_figure_that_a_label_splits_has_an_entry_for_each_value() -> None:
    (engine,) = parse(golden("vllm_0.29_after.prom"))
    assert engine.gauges["waiting_by_reason/capacity"] == engine.gauges["waiting_by_reason/deferred"] == 0
    assert {name: value for name, value in engine.counters.items() if "/" in name} == {
        "prompt_tokens_by_source/local_compute": 468,
        "prompt_tokens_by_source/local_cache_hit": 2304,
        "prompt_tokens_by_source/external_kv_transfer": 0,
    }
    page = "vllm:spec_decode_num_draft_tokens_total 40\nvllm:spec_decode_num_accepted_tokens_total 30\n"
    assert shown(parse(page)[0].counters) == {"acceptance": 0.75}
    page += "vllm:spec_decode_num_drafts_total 20\n" + "".join(
        f'vllm:spec_decode_num_accepted_tokens_per_pos_total{{position="{at}"}} {held}\n'
        for at, held in enumerate((18, 12, 0))
    )
    told = shown(parse(page)[0].counters)
    shares = {"acceptance_at/0": 0.9, "acceptance_at/1": 0.6, "acceptance_at/2": 0.0}
    assert {name: value for name, value in told.items() if name.startswith("acceptance_at")} == shares
    assert split(BY_KEY["acceptance_at"], told) == [("0", 0.9), ("1", 0.6), ("2", 0.0)]


def test_the_newest_set_of_adapters_counts() -> None:
    def info(at: float, running: str, waiting: str = "", more: str = "") -> str:
        labels = f'{more}max_lora="2",running_lora_adapters="{running}",waiting_lora_adapters="{waiting}"'
        return f"vllm:lora_requests_info{{{labels}}} {at}\n"

    page = 'vllm:num_requests_running{engine="0",model_name="m"} 2\n'
    sets = info(1.8e9, "a,b") + info(1.9e9, "c", "a,b") + info(1.7e9, "")
    (engine,) = parse(page + sets)
    told = {"running": 2, "adapters_running/c": 1, "adapters_waiting/a": 1, "adapters_waiting/b": 1}
    assert engine.gauges == told
    assert shown(engine.gauges).items() >= {"adapters_running/c": 1}.items()
    (engine,) = parse(page + sets + info(1.95e9, ""))
    assert engine.gauges == {"running": 2}
    # Of several processes in front of an engine vLLM adds up the times: none is the newest.
    assert parse(page + sets + info(3.7e9, "a"))[0].gauges == {"running": 2}
    # Of several engines, each has its own where the page says whose it is, and none where it does not.
    other = 'vllm:num_requests_running{engine="1",model_name="m"} 1\n'
    both = parse(page + other + sets + info(2e9, "d", more='engine="1",'))
    assert [set(engine.gauges) for engine in both] == [{"running"}, {"running", "adapters_running/d"}]
    names = ",".join(f"{n:03}" for n in range(500))
    assert len(parse(page + info(1.0, names))[0].gauges) == 1 + 16


def test_values_of_labels_are_bounded_over_all_pages_of_a_source() -> None:
    reader, seen = PageReader(), set()
    for first in (0, 5000):
        names = [f"r{n}" for n in range(first, first + 5000)]
        lines = [f'vllm:num_requests_waiting_by_reason{{engine="0",reason="{name}"}} 1' for name in names]
        page = reader.read("\n".join([*lines, 'vllm:num_requests_waiting_by_reason{engine="0"} 1', ""]))
        seen |= {name for engine in page.engines for name in engine.gauges}
    assert seen == {f"waiting_by_reason/r{n}" for n in range(16)}


def test_ray_page_tells_replicas_apart() -> None:
    first, second = parse(golden("ray_vllm.prom"))
    assert (first.engine, first.node, first.model) == ("a1b2c3d4", "10.0.0.1", "q3b")
    assert (second.engine, second.node) == ("e5f6a7b8", "10.0.0.2")
    assert first.gauges == {"running": 22, "waiting": 0, "kv_usage": 0.64}
    assert second.gauges == {"running": 19, "waiting": 3, "kv_usage": 0.52}
    assert second.counters == {"generation_tokens": 118200}
    assert first.hists["ttft"].le == (0.05, 0.1, math.inf)
    assert first.hists["ttft"].cumulative == (10, 18, 20)


def test_older_ray_page_with_colons_old_names_and_no_total() -> None:
    (engine,) = parse(golden("ray_vllm_colon.prom"))
    assert engine.engine == "5f6e7d8c"
    assert engine.gauges == {"running": 4, "kv_usage": 0.25}
    assert engine.counters == {"generation_tokens": 77}


def test_hugging_face_page() -> None:
    (engine,) = parse(golden("hf.prom"))
    assert (engine.engine, engine.kind, engine.model) == ("hf-0", "hf", "tiny")
    assert (engine.gauges["running"], engine.gauges["waiting"]) == (1, 2)
    assert engine.gauges["kv_bytes"] > 0
    assert "alloc_reserved" not in engine.gauges  # no CUDA allocator there: missing, not 0
    assert engine.counters == {"generation_tokens": 1195, "prompt_tokens": 34, "requests_ok": 1}
    assert engine.hists["ttft"].count == 2
    assert engine.hists["itl"].count == 1193


def test_dcgm_page() -> None:
    page = PageReader().read(golden("dcgm.prom"))
    assert page.engines == ()
    busy, idle = page.gpus
    assert (busy.node, busy.index, busy.name) == ("n1", 0, "NVIDIA H200")
    assert busy.memory_used == 100228 * MIB
    assert busy.memory_total == (100228 + 42939) * MIB
    assert busy.util == 0.87
    assert idle.memory_used == 0  # two pods on one GPU count once
    assert idle.memory_total == 143167 * MIB


def test_everything_the_format_allows() -> None:
    plain, odd = parse(golden("odd.prom"))
    assert plain.counters == {"preemptions": 2}
    assert plain.model is None
    assert odd.model == 'a "b" \\ {c} \\n d'  # a line end is shown
    assert odd.gauges == {"running": 3, "kv_usage": 0.5}  # infinity is no figure; the newer name wins
    assert odd.counters == {"requests_ok": 6}  # aborted ones are not ok; NaN preemptions are no figure
    assert odd.hists["itl"].cumulative == (5, 7)
    assert math.isnan(odd.hists["itl"].sum)


def test_the_second_page_of_a_source_reads_like_the_first() -> None:
    reader = PageReader()
    for name in ("vllm_0.29_before.prom", "vllm_0.29_after.prom", "odd.prom", "dcgm.prom", "odd.prom"):
        again = PageReader().read(golden(name))
        assert repr(reader.read(golden(name))) == repr(again)  # repr: NaN is not equal to itself


def test_many_engines_come_in_order_of_their_number() -> None:
    engines = parse(many_engines(golden("vllm_0.29_after.prom"), 12))
    assert [engine.engine for engine in engines] == [str(n) for n in range(12)]
    assert len({repr(engine.hists) for engine in engines}) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "an empty page"),
        ("\n \n", "an empty page"),
        ("<!DOCTYPE html><html><body>404</body></html>", "not Prometheus text"),
        ('{"detail":"Not Found"}', "not Prometheus text"),
        ("\x00\x01\x02", "not Prometheus text"),
        ("vllm:num_requests_running 1_0", "malformed line: vllm:num_requests_running 1_0"),
        ("vllm:num_requests_running one", "malformed line: vllm:num_requests_running one"),
        ("vllm:num_requests_running 1 2 3", "malformed line: vllm:num_requests_running 1 2 3"),
        ('vllm:num_requests_running{engine="0" 1', 'malformed line: vllm:num_requests_running{engine="0" 1'),
        ("vllm:num_requests_running{engine=0} 1", "malformed line: vllm:num_requests_running{engine=0} 1"),
    ],
)
def test_what_is_no_page_says_so_in_a_line(text: str, why: str) -> None:
    with pytest.raises(NotPrometheus, match=r"^[^\n]+$") as caught:
        parse(text)
    assert str(caught.value) == why


def test_a_page_of_something_else_is_a_page_without_engines() -> None:
    assert parse("# TYPE up gauge\nup 1\n") == ()
    assert parse('up{job="x"} 1\n') == ()


_NAMES = st.sampled_from([*sorted(NAMES)[:40], "other", "another_total"])
_LABELS = st.dictionaries(
    st.sampled_from(["engine", "model_name", "le", "x"]),
    st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=12),
    max_size=4,
)
_VALUES = st.floats()


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


@st.composite
def _lines(draw: st.DrawFn) -> str:
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in draw(_LABELS).items())
    number = draw(_VALUES)
    value = "+Inf" if number == math.inf else "-Inf" if number == -math.inf else repr(number)
    value = "NaN" if math.isnan(number) else value
    stamp = draw(st.sampled_from(["", " 1712345678901"]))
    return f"{draw(_NAMES)}{{{labels}}} {value}{stamp}" if labels else f"{draw(_NAMES)} {value}{stamp}"


@given(st.lists(_lines(), max_size=20))
def test_reads_what_prometheus_client_reads(lines: list[str]) -> None:
    text = "\n".join(lines) + "\n"
    wanted = [
        (sample.name, tuple(sorted(sample.labels.items())), repr(float(sample.value)))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in NAMES
    ]
    reader: SeriesReader[tuple[str, tuple[tuple[str, str], ...]]] = SeriesReader(
        NAMES, lambda name, labels: (name, tuple(sorted(labels.items())))
    )
    for _ in range(2):  # the second page comes from what is remembered of the first
        if not text.strip():
            return
        found = [(*slot, repr(value)) for slot, value in reader.read(text)]
        assert sorted(found) == sorted(wanted)


@given(st.text(max_size=300), st.integers(0, 20))
def test_any_text_is_a_page_or_a_short_refusal(noise: str, cut: int) -> None:
    for text in (noise, golden("odd.prom")[: cut * 60] + noise):
        refusal = _refusal(text)
        assert refusal is None or 0 < len(refusal) < 150


def _refusal(text: str) -> str | None:
    try:
        parse(text)
    except NotPrometheus as problem:
        return str(problem)
    return None
