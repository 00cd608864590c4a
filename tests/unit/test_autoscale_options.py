"""``--autoscale`` and its companions: what they become, and what is refused in one line."""

from __future__ import annotations

import argparse

import pytest

from backends.errors import UsageError
from backends.serve.deployment import autoscaling_config
from backends.settings import autoscale
from backends.settings.autoscale import Autoscale, parse
from backends.settings.scale_rules import Rule, parse_pattern, parse_rules


def flags(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    autoscale.add_arguments(parser)
    return parser.parse_args(argv)


EVERY = (
    "min=1,max=3,initial=2,target=4,up=2,down=10,down_to_zero=20,up_factor=1.5,down_factor=0.5,look_back=5,"
    "aggregate=max,interval=1"
)
ALL = Autoscale(1, 3, 2, 4.0, 2.0, 10.0, 20.0, 1.5, 0.5, 5.0, "max", 1.0)


def test_every_field_has_a_short_name_and_rays() -> None:
    assert parse(EVERY) == ALL
    long = EVERY
    for full, (_, short) in autoscale._FIELDS.items():
        long = (
            long.replace(f"{short}=", f"{full}=", 1)
            if long.startswith(f"{short}=")
            else long.replace(f",{short}=", f",{full}=")
        )
    assert "upscale_delay_s=2" in long
    assert parse(long) == ALL
    assert parse("1:4") == Autoscale(1, 4)
    assert autoscale.from_args(flags()) is None


def test_all_of_them_reach_ray() -> None:
    from ray.serve.config import AutoscalingConfig

    config = AutoscalingConfig(**autoscaling_config(ALL, 7))
    for name in autoscale._FIELDS:
        assert getattr(config, name) == getattr(ALL, name), name
    short = AutoscalingConfig(**autoscaling_config(parse("min=1,max=2,look_back=4"), 7))
    assert (short.target_ongoing_requests, short.metrics_interval_s) == (7, 2.0)
    assert autoscaling_config(Autoscale(1, 4), 7) == {
        "min_replicas": 1,
        "max_replicas": 4,
        "target_ongoing_requests": 7,
    }


@pytest.mark.parametrize(
    ("text", "same", "words"),
    [
        ("max=2,smoothing_factor=0.5", "max=2,up_factor=0.5,down_factor=0.5", "give upscaling_factor and"),
        ("max=2,upscale_smoothing_factor=2", "max=2,up_factor=2", "give upscaling_factor"),
        ("max=2,downscale_smoothing_factor=2,down_factor=3", "max=2,down_factor=3", "downscaling_factor"),
        ("max=2,target_num_ongoing_requests_per_replica=3", "max=2,target=3", "target_ongoing_requests"),
        ("max=2,metrics_interval_s=3", "max=2,interval=3", "which still takes it"),
    ],
)
def test_deprecated_names_are_taken_with_a_warning(text: str, same: str, words: str) -> None:
    scale = parse(text)
    assert scale == parse(same)
    (warned,) = scale.warned
    assert "deprecated in Ray 2.60" in warned
    assert words in warned


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--autoscale", "4"), "write MIN:MAX with 1 ≤ MIN ≤ MAX, for example 1:4, or min=1"),
        (("--autoscale", "4:2"), "write MIN:MAX with 1 ≤ MIN ≤ MAX"),
        (("--autoscale", "most=3"), "'most=3': no field of Ray's autoscaling_config; there are min, max"),
        (("--autoscale", "min=3,max=2"), "max must be at least min"),
        (("--autoscale", "max=2,initial=3"), "initial=3: must be from min=1 to max=2"),
        (("--autoscale", "max=2,target=0"), "target=0: must be a number greater than 0"),
        (("--autoscale", "max=2,up=soon"), "up=soon: must be a number"),
        (("--autoscale", "max=2,up=inf"), "up=inf: must be a number of seconds"),
        (("--autoscale", "max=x"), "max=x: must be a whole number, 1 or more"),
        (("--autoscale", "max=2,max=3"), "max_replicas is given twice"),
        (("--autoscale", "max=2,aggregate=sum"), "must be one of mean, max, min"),
        (("--autoscale-on", "kv_usage>0.8"), "--autoscale-on: needs --autoscale MIN:MAX"),
        (("--autoscale", "1:2", "--autoscale-on", "kv>0.8"), "write FIGURE>VALUE with kv_usage"),
        (("--autoscale", "1:2", "--autoscale-on", "kv_usage>8"), "is a share"),
        (("--autoscale", "1:2", "--autoscale-on", "ttft_p99>2"), "write its unit, ms or s"),
        (("--autoscale", "1:2", "--autoscale-on", "waiting>2s"), "is a number of requests"),
        (("--autoscale", "1:2", "--autoscale-pattern", "5"), "at least 10 s, such as 24h"),
        (("--autoscale", "1:2", "--autoscale-ahead", "5"), "needs --autoscale-pattern"),
    ],
)
def test_what_can_not_be_is_refused(argv: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        autoscale.from_args(flags(*argv))
    assert words in str(refused.value)


def test_rules_and_patterns() -> None:
    assert parse_rules(["kv_usage>80%", "ttft_p99>2s", "waiting > 3"]) == (
        Rule("kv_usage", 0.8),
        Rule("ttft_p99", 2000.0),
        Rule("waiting", 3.0),
    )
    assert (parse_pattern("24h"), parse_pattern("5m"), parse_pattern("300")) == (86400.0, 300.0, 300.0)


def test_other_topologies_refuse() -> None:
    with pytest.raises(UsageError, match="--autoscale-on: topology rac has a fixed number of engines"):
        autoscale.refuse_flags(flags("--autoscale-on", "kv_usage>0.8"), "rac")
