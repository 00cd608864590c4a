"""What ``--serve`` needs and takes, its warning, and its places on the screen."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import rvtop.cli.app
from rvtop.cli.options import SessionOptions
from rvtop.cli.serve import serving
from rvtop.errors import UserError
from rvtop.ui.app import RvtopApp
from rvtop.ui.sharing import Sharing
from rvtop.ui.widgets.footer import Footer
from rvtop.web import client
from rvtop.web.client import WebAddress, WebOptions, address, web_options
from rvtop.web.viewer import size_of
from tests.ui import made

URL = "http://127.0.0.1:4711/?token=SECRET"


@pytest.mark.parametrize(
    ("place", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:8080", "::1", 8080),
        ("box", "box", 0),
        ("0.0.0.0:0", "0.0.0.0", 0),
    ],
)
def test_a_place_to_listen_is_a_host_and_a_port(place: str, host: str, port: int) -> None:
    assert web_options(place, control=False) == WebOptions(host, port)


@pytest.mark.parametrize(
    "place", ["", ":8080", "a:b", "1.2.3.4:99999", "http://a:1", "a:1/x", "u@a:1", "[::1"]
)
def test_a_place_that_is_none_is_refused(place: str) -> None:
    with pytest.raises(UserError, match=r"must look like 127\.0\.0\.1:8080") as caught:
        web_options(place, control=False)
    assert caught.value.exit_code == 2


def test_each_option_asks_for_the_web_view() -> None:
    assert SessionOptions().web() is None
    assert SessionOptions(serve=True).web() == WebOptions()
    assert SessionOptions(serve_on="[::1]:80").web() == WebOptions("::1", 80)
    assert SessionOptions(serve_control=True).web() == WebOptions(control=True)


def test_without_the_extra_it_is_said_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "textual_serve" else found(name)
    )
    monkeypatch.setattr(sys, "argv", ["rvtop", "attach", "http://127.0.0.1:1", "--serve"])
    assert rvtop.cli.app.command() == 2
    said = "--serve: textual_serve is not installed; pip install 'rvtop[web]'"
    assert capfd.readouterr() == ("", f"rvtop: {said}\n")


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_where_others_can_come_it_is_said_once_that_this_is_plain_http(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], host: str, warned: bool
) -> None:
    @contextmanager
    def no_view(options: WebOptions, socket: Path | None) -> Iterator[WebAddress]:
        yield WebAddress(URL, Path("s"))

    monkeypatch.setattr(client, "web_view", no_view)
    with serving(WebOptions(host), None) as view:
        assert view is not None
        assert view.public == "http://127.0.0.1:4711/"
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == f"rvtop: web view: {URL}"
    assert len(lines) == 1 + warned
    assert not warned or "plain HTTP" in lines[1]


def test_an_address_names_a_host_that_can_be_opened() -> None:
    assert address("127.0.0.1", 80) == "http://127.0.0.1:80"
    assert address("::1", 80) == "http://[::1]:80"
    assert "0.0.0.0" not in address("0.0.0.0", 80)


@pytest.mark.parametrize(
    ("asked", "drawn"),
    [
        (("120", "40"), (120, 40)),
        ((10**9, -5), (500, 1)),
        ((None, None), (80, 24)),
        (("x", 5), (80, 24)),
        ((float("inf"), 5), (80, 24)),
    ],
)
def test_a_browser_s_size_is_one_that_can_be_drawn(asked: tuple[Any, Any], drawn: tuple[int, int]) -> None:
    assert size_of(*asked) == drawn


async def test_the_screen_says_where_the_web_view_is_and_copies_its_address() -> None:
    app = RvtopApp(made.FakeHandle(made.live()), yes=True, sharing=Sharing(web_url=URL))
    async with app.run_test(size=(120, 40)) as pilot:
        while not app.hears:
            await pilot.pause(0.02)
        await pilot.pause()
        said = "\n".join(app.screen.query_one(Footer).plain_text())
        assert "web view: http://127.0.0.1:4711/;" in said
        assert "SECRET" not in said
        await pilot.press("colon", *"web view", "enter")
        await pilot.pause()
        assert app.clipboard == URL
        assert "SECRET" not in "\n".join(app.screen.query_one(Footer).plain_text())


async def test_without_a_web_view_there_is_no_action_for_it() -> None:
    app = RvtopApp(made.FakeHandle(made.live()), yes=True)
    assert [one for one in app.actions if one.name.startswith("web view")] == []
