"""The web view of a real session: who gets in, what a viewer sees and may do, and that it all ends; in a real
browser too, where there is one."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from rvtop.web.gate import Gate
from rvtop.web.server import WebView
from tests.mock.fast import any_mock
from tests.mock.process import MockProcess
from tests.ui.test_ui_terminal import Terminal
from tests.unit.processes import alive, children, wait_for
from tests.web.browser import PROGRAM, tab
from tests.web.sessions import LIMIT_S, Served, client, served, serving, view

PATHS = ("/", "/ws", "/page.css", "/static/js/textual.js", "/download/x", "/nothing", "/static/")
VIEWER, SERVER = "rvtop.cli attach", "rvtop.web"


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with any_mock(ttft_ms=20, step_ms=5, tokens=8) as running:
        yield running


@pytest.fixture(scope="module")
def shared(mock: MockProcess) -> Iterator[Served]:
    """One run for all tests that do not end it."""
    with tempfile.TemporaryDirectory() as folder, served(mock.url, Path(folder) / "run") as running:
        yield running


@pytest.fixture
async def browser(shared: Served) -> AsyncIterator[aiohttp.ClientSession]:
    """One that has opened the address."""
    async with client() as session:
        async with session.get(shared.url) as answer:
            assert answer.status == 200
        yield session


async def test_without_the_token_there_is_nothing_at_any_path(shared: Served) -> None:
    async with client() as session:
        for path in PATHS:
            for query in ("", "?token=", "?token=wrong", f"?token={shared.token[:-1]}"):
                async with session.get(f"{shared.base}{path}{query}") as answer:
                    assert answer.status == 403, path
                    assert (
                        await answer.text() == "open the whole address that rvtop printed, with its token\n"
                    )
                    assert not answer.cookies
        async with session.get(f"{shared.base}/static/js/textual.js?token={shared.token}") as answer:
            assert answer.status == 403  # the token opens the first page alone
        cookies = {f"rvtop-{shared.port}": shared.token}
        async with session.get(shared.base, cookies=cookies) as answer:
            assert answer.status == 403


async def test_the_token_is_changed_for_a_cookie_that_no_other_page_can_use(shared: Served) -> None:
    async with client() as session:
        async with session.get(shared.url) as answer:
            assert answer.status == 200
            cookie = answer.headers["Set-Cookie"]
            page = await answer.text()
        assert shared.token not in cookie + page
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
        assert 'content="0;url=/"' in page  # the address bar is left with /
        async with session.get(shared.base) as answer:
            assert answer.status == 200
            assert shared.token not in await answer.text()
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        for path in ("/page.css", "/page.js", "/static/js/textual.js", "/static/css/xterm.css"):
            async with session.get(shared.base + path) as answer:
                assert answer.status == 200, path
        async with session.get(shared.base + "/download/x") as answer:
            assert answer.status == 404


async def test_other_names_of_this_machine_and_other_pages_are_refused(
    shared: Served, browser: aiohttp.ClientSession
) -> None:
    for url in (shared.base, shared.url):
        async with browser.get(url, headers={"Host": f"evil.example:{shared.port}"}) as answer:
            assert answer.status == 403
            assert await answer.text() == "this is not the name of a web view of rvtop\n"
    for origin in (None, "http://evil.example", "null"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await browser.ws_connect(f"{shared.base}/ws", origin=origin)
        assert caught.value.status == 403
    wait_for(lambda: not shared.below(VIEWER), "no viewer")  # those of the tests before may still be ending


async def test_viewers_see_the_same_session_and_steer_nothing(
    shared: Served, browser: aiohttp.ClientSession
) -> None:
    one, two = await view(browser, shared.base), await view(browser, shared.base)
    for viewing in (one, two):
        await viewing.until(lambda v=viewing: "READ-ONLY" in v.text, "the first picture")
        await viewing.until(lambda v=viewing: len(seconds(v.text)) >= 3, "three seconds")
    await two.until(lambda: seconds(one.text) & seconds(two.text), "a second that both have drawn")
    wait_for(lambda: len(shared.below(VIEWER)) == 2, "two viewers alone")
    for junk in ("}", "[]", "[1]", '["resize"]', '["stdin", 5]', "[" * 9999, '["resize", {"width": "x"}]'):
        await one.socket.send_str(junk)
    await one.socket.send_json(["resize", {"width": 10**9, "height": -5}])
    await one.socket.send_json(["resize", {"width": 110, "height": 40}])
    await one.socket.send_json(["stdin", "g"])
    await one.until(lambda: "read-only: this screen only watches" in one.text, "the notice")
    await one.socket.send_json(["stdin", "q"])
    await one.until(lambda: one.socket.closed, "the end of the view that was left")
    wait_for(lambda: len(shared.below(VIEWER)) == 1, "the end of the viewer that was left")
    pids = shared.below(VIEWER)
    await two.until(lambda: two.text.count("running"), "pictures")
    await two.close()
    wait_for(lambda: not any(map(alive, pids)), "the end of a viewer whose browser left")
    await one.close()
    rows = (shared.out / "commands.jsonl").read_text()
    assert "control" not in rows


async def test_a_picture_is_a_download_and_leaves_no_file_here(
    shared: Served, browser: aiohttp.ClientSession
) -> None:
    viewing = await view(browser, shared.base)
    await viewing.until(lambda: "READ-ONLY" in viewing.text, "the first picture")
    await viewing.socket.send_json(["stdin", "S"])
    await viewing.until(lambda: viewing.told, "the download")
    kind, key = viewing.told[0]
    assert kind == "deliver_file_start"
    async with browser.get(f"{shared.base}/download/{key}") as answer:
        assert answer.status == 200
        assert re.fullmatch(
            r'attachment; filename="rvtop-[\d-]+\.svg"', answer.headers["Content-Disposition"]
        )
        assert (await answer.text()).lstrip().startswith("<svg")
    await viewing.close()
    assert not (shared.out / "pictures").exists()


async def test_a_session_that_runs_already_is_served_by_its_socket_and_outlives_that(shared: Served) -> None:
    words = ("attach", str(socket_of(shared)), "--ui", "plain", "--serve")
    with serving(shared.out, *words) as second:
        async with client() as session:
            await (await session.get(second.url)).release()
            viewing = await view(session, second.base)
            await viewing.until(lambda: "READ-ONLY" in viewing.text, "the first picture")
            second.process.send_signal(signal.SIGINT)
            await viewing.until(lambda: viewing.socket.closed, "the end of the view")
            await viewing.close()
        assert second.process.wait(LIMIT_S) == 130
    assert shared.process.poll() is None
    assert socket_of(shared).is_socket()


def test_the_dashboard_in_a_terminal_says_where_it_is_and_ends_it(shared: Served) -> None:
    words = ("attach", str(socket_of(shared)), "--serve", "--readonly")
    terminal = Terminal(*words, command=(sys.executable, "-P", "-m", "rvtop.cli"))
    try:
        terminal.read(b"its whole address: palette, web view")
        terminal.read(b"READ-ONLY")
        said = re.search(rb"rvtop: web view: http://127\.0\.0\.1:(\d+)/\?token=(\S+)", terminal.seen)
        assert said
        assert terminal.seen.count(said[2]) == 1  # not on the screen
        wait_for(lambda: len(children(terminal.process.pid)) == 1, "the web view's process alone")
        web = children(terminal.process.pid)
        os.write(terminal.fd, b"q")
        assert terminal.end() == 0
        wait_for(lambda: not any(map(alive, web)), "the end of the web view")
    finally:
        terminal.close()
    assert shared.process.poll() is None


def seconds(text: str) -> set[str]:
    """The times of the phase that were drawn."""
    return set(re.findall(r"(?<![\d:])\d\d:\d\d(?![\d:])", text))


async def test_the_token_is_in_no_argument_variable_or_file(
    shared: Served, browser: aiohttp.ClientSession
) -> None:
    secret = shared.token.encode()
    viewing = await view(browser, shared.base)
    await viewing.until(lambda: "READ-ONLY" in viewing.text, "the first picture")
    assert shared.below(VIEWER)
    for pid in (shared.process.pid, *shared.below("")):
        for name in ("cmdline", "environ"):
            with suppress(OSError):  # it has ended
                assert secret not in Path(f"/proc/{pid}/{name}").read_bytes()
    await viewing.close()
    folder = socket_of(shared).parent
    assert (folder.stat().st_mode & 0o777) == 0o700
    files = [path for place in (folder, shared.out) for path in place.rglob("*") if path.is_file()]
    assert files
    for path in files:
        with suppress(FileNotFoundError):  # the run has replaced it meanwhile
            assert secret not in path.read_bytes(), path


async def test_one_viewer_too_many_gets_a_page_that_says_so(shared: Served) -> None:
    gate = Gate("127.0.0.1")
    web = WebView(gate, socket_of(shared), most=1)
    base = f"http://127.0.0.1:{await web.open('127.0.0.1', 0)}"
    try:
        async with client() as session:
            await (await session.get(f"{base}/?token={gate.token}")).release()
            viewing = await view(session, base)
            await viewing.until(lambda: "READ-ONLY" in viewing.text, "the first picture")
            async with session.get(base) as answer:
                assert answer.status == 503
                assert (
                    await answer.text() == "1 of 1 viewers are here; load this page again when one has left\n"
                )
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await view(session, base)
            assert caught.value.status == 503
            await viewing.close()
            async with asyncio.timeout(LIMIT_S):
                while (await session.get(base)).status != 200:
                    await asyncio.sleep(0.05)
    finally:
        await web.close()


async def test_a_viewer_that_finds_no_session_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("rvtop.web.server._PATIENCE_S", 0.1)
    gate = Gate("127.0.0.1")
    web = WebView(gate, tmp_path / "none")
    base = f"http://127.0.0.1:{await web.open('127.0.0.1', 0)}"
    try:
        async with client() as session:
            await (await session.get(f"{base}/?token={gate.token}")).release()
            viewing = await view(session, base)
            await viewing.until(lambda: viewing.socket.closed, "the end")
            assert "the dashboard could not be drawn: rvtop: " in viewing.text
            await viewing.close()
    finally:
        await web.close()


@pytest.mark.skipif(PROGRAM is None, reason="needs chromium")
async def test_a_browser_draws_the_session_and_its_keys_arrive_there(shared: Served, tmp_path: Path) -> None:
    async with tab() as page:
        await page.open(shared.url)
        await page.until("document.body && document.body.classList.contains('-first-byte')")
        await page.until_drawn("READ-ONLY")
        assert await page.value("location.href") == f"{shared.base}/"
        await page.until("document.activeElement.classList.contains('xterm-helper-textarea')")
        await page.call("Input.insertText", text="g")
        await page.until_drawn("read-only: this screen only watches")
        async with asyncio.timeout(LIMIT_S):  # what has come is not drawn at once
            while await page.picture(tmp_path / "page.png") < 10_000:  # an empty page has half of it
                await asyncio.sleep(0.1)
        assert [line for line in page.log if "Content Security Policy" in line or "Failed" in line] == []


def socket_of(running: Served) -> Path:
    """The session's socket, which the web view has made up."""
    found = [Path(f"/proc/{pid}/fd/2").resolve() for pid in running.below(SERVER)]
    return found[0].parent / "session"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
async def test_the_end_of_the_session_ends_viewers_and_port_and_leaves_no_file(
    mock: MockProcess, tmp_path: Path, how: signal.Signals
) -> None:
    with served(mock.url, tmp_path / "run") as running:
        async with client() as session:
            await (await session.get(running.url)).release()
            viewing = await view(session, running.base)
            await viewing.until(lambda: "READ-ONLY" in viewing.text, "the first picture")
            wait_for(lambda: len(running.below(VIEWER)) == len(running.below(SERVER)) == 1, "one of each")
            folder, pids = socket_of(running).parent, [*running.below(VIEWER), *running.below(SERVER)]
            running.process.send_signal(how)
            await viewing.until(lambda: viewing.socket.closed, "the end of the view")
            await viewing.close()
        assert running.process.wait(LIMIT_S) == (130 if how is signal.SIGINT else -9)
        wait_for(lambda: not any(map(alive, pids)), "the end of the web view")
        wait_for(lambda: not folder.exists(), "the end of its folder")
        with pytest.raises(ConnectionRefusedError), socket.socket() as probe:
            probe.connect(("127.0.0.1", running.port))


async def test_a_web_view_that_was_killed_takes_its_viewers_along_and_the_run_goes_on(
    mock: MockProcess, tmp_path: Path
) -> None:
    with served(mock.url, tmp_path / "run") as running:
        async with client() as session:
            await (await session.get(running.url)).release()
            viewing = await view(session, running.base)
            await viewing.until(lambda: "READ-ONLY" in viewing.text, "the first picture")
            folder, viewers = socket_of(running).parent, running.below(VIEWER)
            assert viewers
            for pid in running.below(SERVER):
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not any(map(alive, viewers)), "the end of the viewer")
            await viewing.close()
        assert running.process.poll() is None
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(LIMIT_S) == 130
        assert not folder.exists()
        assert (tmp_path / "run" / "summary.json").exists()


async def test_viewers_steer_where_they_were_told_to(mock: MockProcess, tmp_path: Path) -> None:
    with served(mock.url, tmp_path / "run", "--serve-control") as running:
        async with client() as session:
            await (await session.get(running.url)).release()
            viewing = await view(session, running.base)
            await viewing.until(lambda: "running" in viewing.text, "the load")
            assert "READ-ONLY" not in viewing.text
            await viewing.socket.send_json(["stdin", "+"])
            await viewing.until(lambda: "5 → 6 rps" in viewing.text, "the event of the new rate")
            await viewing.close()


def refused(*words: str, **more: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "rvtop.cli", *words],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env={**os.environ, **more},
    )
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


def test_a_port_that_is_taken_is_said_before_anything_starts(mock: MockProcess, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        words = ("run", "--target", mock.url, "--rate", "1", "--out", str(tmp_path / "run"))
        code, said = refused(*words, "--serve-on", place)
    assert code == 2
    why = "something listens there already; give another port, or 0 for a free one"
    assert said == f"rvtop: --serve-on {place}: {why}\n"
    assert not (tmp_path / "run").exists()
