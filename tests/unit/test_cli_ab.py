"""What `rvtop ab` makes of its arguments: servers by name, and how long a load lasts."""

from __future__ import annotations

from dataclasses import replace

import pytest

import rvtop.lifecycle.state as state
from rvtop.cli.ab import _probed, _url_of, _work
from rvtop.cli.load_options import SteadyOptions
from rvtop.errors import UserError
from rvtop.lifecycle.state import Deployment
from rvtop.load.plan.api import Api
from rvtop.net.transport import Transport
from rvtop.target.probe import TargetError, TargetInfo, models_beside
from tests.mock.process import PythonMock

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


def serving(*models: str) -> TargetInfo:
    return TargetInfo("http://b:1", models, None, "vllm")


def test_models_of_b_are_chosen_by_name() -> None:
    a = serving("m", "n")
    assert models_beside(serving("x", "n", "m"), ("m",), a) == ("m",)
    assert models_beside(serving("x", "n", "m"), ("n", "m"), a) == ("n", "m")
    assert models_beside(serving("other"), ("m",), a) == ("other",)
    for there, ours in ((("x", "y"), ("m",)), (("m",), ("m", "n")), (("x",), ("m", "n"))):
        with pytest.raises(TargetError, match="does not serve all of what the first server is sent to"):
            models_beside(serving(*there), ours, a)


async def test_b_may_serve_more_than_what_is_compared() -> None:
    with PythonMock(models=("m",)) as a, PythonMock(models=("n", "m")) as b:
        urls = (a.url, b.url)
        assert await _probed(urls, ("m",), Transport(), Api()) == urls
        assert await _probed(urls, (), Transport(), Api()) == urls
        with pytest.raises(TargetError, match="serves no model 'n'"):
            await _probed(urls, ("n",), Transport(), Api())
