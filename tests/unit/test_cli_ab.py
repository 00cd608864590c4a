"""What `rvtop ab` makes of its arguments: servers by name, and how long a load lasts."""

from __future__ import annotations

from dataclasses import replace

import pytest

import rvtop.lifecycle.state as state
from rvtop.cli.ab import _url_of, _work
from rvtop.cli.load_options import SteadyOptions
from rvtop.errors import UserError
from rvtop.lifecycle.state import Deployment

UP = Deployment("rvc", "rvc", "ready", url="http://127.0.0.1:8000")


@pytest.fixture(autouse=True)
def deployments(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [UP, replace(UP, name="slow", state="starting", url=None)]
    monkeypatch.setattr(state, "deployments", lambda: rows)
    monkeypatch.setattr(Deployment, "running", property(lambda self: True))


def test_a_server_is_a_url_or_the_name_of_a_deployment() -> None:
    assert _url_of("rvc") == UP.url
    assert _url_of("http://h:1/x") == "http://h:1/x"
    assert _url_of("h:8000") == "h:8000"
    with pytest.raises(UserError, match=r"gone: neither a URL nor the name of a deployment \(rvc, slow; "):
        _url_of("gone")
    with pytest.raises(UserError, match="slow: is starting"):
        _url_of("slow")


def test_a_steady_load_lasts_as_long_as_its_pairs_need_and_a_scenario_as_it_says() -> None:
    work, pairs = _work(None, SteadyOptions(), None)
    assert pairs == 300
    assert (work.phases[0].peak_rps, work.phases[0].duration_s) == (5.0, 120.0)
    work, pairs = _work(None, SteadyOptions(rate=50.0), 1000)
    assert (pairs, work.phases[0].duration_s) == (1000, 60.0)
    work, pairs = _work(None, SteadyOptions(rate=50.0, duration="20s"), None)
    assert (pairs, work.phases[0].duration_s) == (None, 20.0)
    work, pairs = _work("smoke", SteadyOptions(seed=9), None)
    assert (work.name, work.seed, pairs) == ("smoke", 9, None)
    with pytest.raises(UserError, match="--prompt-tokens goes with --rate"):
        _work("smoke", SteadyOptions(prompt_tokens=9), None)
