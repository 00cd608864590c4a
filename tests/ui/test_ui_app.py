"""The screen driven by keys: what it sends, what it asks, what it draws and when it does not."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import cast

import made
import pytest
from driven import opened, screen_text, show, text_of, until
from textual.widgets import Input, Static

from rvtop.contract.command import NextPhase, Pause, Resume, SetRate
from rvtop.contract.handle import Choice, SessionHandle
from rvtop.contract.replay import Replay
from rvtop.ui.app import INTERRUPTED, RvtopApp
from rvtop.ui.help_text import PANELS
from rvtop.ui.screens.confirm import ConfirmScreen
from rvtop.ui.screens.end import EndScreen
from rvtop.ui.screens.help import HelpScreen, PanelHelpScreen
from rvtop.ui.screens.live import LiveScreen
from rvtop.ui.screens.rate import RateScreen
from rvtop.ui.screens.start import StartScreen
from rvtop.ui.screens.stopping import StoppingScreen
from rvtop.ui.screens.table import SCREENS, SHOWDOWN_SCREENS
from rvtop.ui.sharing import Sharing
from rvtop.ui.widgets.engines import EnginesPanel
from rvtop.ui.widgets.footer import Footer
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.load import LoadPanel
from rvtop.ui.widgets.notice import NoticePanel
from rvtop.ui.widgets.panel import Panel
from rvtop.ui.widgets.steps import StepsPanel
from rvtop.ui.widgets.ttft import TtftPanel


@pytest.fixture
def handle() -> made.FakeHandle:
    return made.FakeHandle(replace(made.live(), load=replace(made.live().load, target_rps=5.0)))


async def test_presses_add_up_before_the_session_follows(handle: made.FakeHandle) -> None:
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("up", "up", "+", "down", "shift+up", "pageup", "]", "}")
        wanted = [6.0, 7.0, 8.0, 7.0, 7.7, 8.47, 9.32, 18.64]
        assert handle.sent == [SetRate(rps) for rps in wanted]
        assert app.live is not None
        assert app.live.query_one(LoadPanel).target == 18.64
        await pilot.press("shift+down", "[", "pagedown", "{", "-")
        assert [command.rps for command in handle.sent[8:]] == [16.8, 15.1, 13.6, 6.8, 5.8]  # type: ignore[union-attr]


async def test_the_rate_stops_at_nought_and_at_the_maximum(handle: made.FakeHandle) -> None:
    assert handle.now is not None
    handle.now = replace(handle.now, load=replace(handle.now.load, max_rate=12.0))
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("}", "}", "}")
        assert handle.sent == [SetRate(10.0), SetRate(12.0)]
        assert "maximum" in text_of(app, Footer)
        await pilot.press("{", "{", "{", "down", "down", "down")
        assert [command.rps for command in handle.sent[2:]] == [6.0, 3.0, 1.5, 0.5, 0.0]  # type: ignore[union-attr]
        assert "0 already" in text_of(app, Footer)


async def test_a_notice_gives_the_keys_back(handle: made.FakeHandle) -> None:
    now = [0.0]
    app = RvtopApp(handle, clock=lambda: now[0])
    async with opened(app) as pilot:
        await show(app, pilot, handle, replace(made.live(), phase=None))
        await pilot.press("n")
        assert "one phase" in text_of(app, Footer)
        now[0] += 60.0
        app.poll()
        assert "q quit" in text_of(app, Footer)


async def test_pause_resume_and_next_phase(handle: made.FakeHandle) -> None:
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("space")
        paused = replace(made.live(), state="paused", load=replace(made.live().load, target_rps=0.0))
        await show(app, pilot, handle, paused)
        assert "PAUSED" in text_of(app, LoadPanel)
        assert "send again" in text_of(app, LoadPanel)
        await pilot.press("space", "n")
        last = replace(made.live(), phase=replace(made.live().phase, index=3))  # type: ignore[type-var]
        await show(app, pilot, handle, last)
        await pilot.press("n")
        assert "last phase" in text_of(app, Footer)
        await show(app, pilot, handle, made.watching())
        await pilot.press("space")
        assert handle.sent == [Pause(), Resume(), NextPhase()]


async def test_a_typed_rate_is_checked(handle: made.FakeHandle) -> None:
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("g", *"abc", "enter")
        assert isinstance(app.screen, RateScreen)
        assert "not a number" in str(app.screen.query_one("#wrong", Static).content)
        assert handle.sent == []
        app.screen.query_one(Input).value = ""
        await pilot.press(*"12.5", "enter")
        assert isinstance(app.screen, LiveScreen)
        assert handle.sent == [SetRate(12.5)]
        await pilot.press("up", "g", "escape", "g", "enter")
        assert handle.sent == [SetRate(12.5), SetRate(13.5)]


async def test_the_first_load_on_a_server_of_others_is_asked_once() -> None:
    handle = made.FakeHandle(made.watching())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("up")
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press("n")
        assert handle.sent == []
        await pilot.press("pageup", "y")
        assert handle.sent == [SetRate(1.0)]
        await pilot.press("up", "down")
        assert handle.sent == [SetRate(1.0), SetRate(2.0), SetRate(1.0)]
        assert isinstance(app.screen, LiveScreen)


@pytest.mark.parametrize("why", ["yes", "owned"])
async def test_nothing_is_asked_where_it_need_not_be(why: str) -> None:
    s = made.watching()
    handle = made.FakeHandle(replace(s, target=replace(s.target, owned=why == "owned")))
    app = RvtopApp(handle, yes=why == "yes")
    async with opened(app) as pilot:
        await pilot.press("up")
        assert handle.sent == [SetRate(1.0)]


async def test_the_same_picture_is_not_drawn_again(
    handle: made.FakeHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.pause()
        painted: list[Panel] = []
        paint = Panel._paint
        monkeypatch.setattr(Panel, "_paint", lambda self, size: (painted.append(self), paint(self, size))[1])
        looks = handle.looks
        for _ in range(5):
            app.poll()
        await pilot.pause()
        assert handle.looks >= looks + 5
        assert painted == []
        assert handle.now is not None
        await show(app, pilot, handle, handle.now)
        assert painted


async def test_only_rows_that_changed_are_handed_to_the_terminal(handle: made.FakeHandle) -> None:
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.pause()
        assert handle.now is not None
        asked: list[tuple[str, int]] = []
        for panel in app.screen.query(Panel):
            refresh = panel.refresh

            def spy(*regions, panel=panel, refresh=refresh, **kw):  # type: ignore[no-untyped-def]
                asked.extend((type(panel).__name__, region.y) for region in regions)
                return refresh(*regions, **kw)

            panel.refresh = spy  # type: ignore[method-assign]
        phase = replace(handle.now.phase, elapsed_s=43.0)  # type: ignore[type-var]
        await show(app, pilot, handle, replace(handle.now, phase=phase))
        assert asked == [("Header", 0)]
        assert "00:43" in text_of(app, Header)


async def test_the_axis_says_that_it_moved(handle: made.FakeHandle) -> None:
    app = RvtopApp(handle)
    s = made.live(92.0)
    async with opened(app) as pilot:
        await show(app, pilot, handle, s)
        axis = app.screen.query_one(TtftPanel).axis
        before = (axis.low, axis.high)
        await show(app, pilot, handle, made.live(93.0))
        assert (axis.low, axis.high) == before
        slow = made.Histogram.of(made.lognormal_ns(4000, 0.3, 400)).distribution()
        late = replace(s, t_s=94.0, latency=replace(s.latency, ttft_recent=slow, ttft_phase=slow))
        await show(app, pilot, handle, late)
        assert axis.high > before[1]
        assert "axis now to" in text_of(app, TtftPanel)
        await show(app, pilot, handle, replace(late, t_s=99.0))
        assert "axis now to" not in text_of(app, TtftPanel)


async def test_quit_shows_that_it_is_stopping_and_closes_the_session_once() -> None:
    class Slow(made.FakeHandle):
        may_end = asyncio.Event()

        async def close(self) -> None:
            await super().close()
            await self.may_end.wait()

    handle = Slow(made.live())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("q", "y")
        assert isinstance(app.screen, StoppingScreen)
        assert "stopping" in screen_text(app)
        assert "runs/2025-10-09-rvc-ramp-48" in screen_text(app)
        await pilot.press("q")
        assert handle.closed == 1
        assert app.is_running
        Slow.may_end.set()
        await until(pilot, lambda: app._exit)
    assert handle.closed == 1
    assert app.exit_code == 0


@pytest.mark.parametrize(("made_by", "code"), [("lost", 3), ("failed", 4), ("done", 0)])
async def test_the_exit_code_tells_how_the_session_ended(made_by: str, code: int) -> None:
    handle = made.FakeHandle(getattr(made, made_by)())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("up", "g", "space")
        assert handle.sent == []
        await pilot.press("q")
        await until(pilot, lambda: app._exit)
    assert (handle.closed, app.exit_code) == (1, code)


async def test_ctrl_c_interrupts_and_a_second_one_does_not_wait() -> None:
    class Stuck(made.FakeHandle):
        async def close(self) -> None:
            await asyncio.Event().wait()

    app = RvtopApp(Stuck(made.live()))
    async with opened(app) as pilot:
        await pilot.press("ctrl+c")
        await until(pilot, lambda: isinstance(app.screen, StoppingScreen))
        await pilot.press("ctrl+c")
        await until(pilot, lambda: app._exit)
    assert app.exit_code == INTERRUPTED


async def test_help_begins_with_the_panel_in_focus(handle: made.FakeHandle) -> None:
    app = RvtopApp(handle)
    async with opened(app, 120, 60) as pilot:
        await pilot.press("?")
        assert isinstance(app.screen, HelpScreen)
        assert "rate: one more: one request a second more" in screen_text(app)
        await pilot.press("escape", "tab", "tab", "?")
        assert isinstance(app.screen, PanelHelpScreen)
        panel, box = app.screen._panel, app.screen.query_one("#box")
        await pilot.pause()
        assert isinstance(panel, TtftPanel)
        assert not panel.region.overlaps(box.region), "the help stands beside what it explains"
        await pilot.press("down", "down")
        shown = screen_text(app)
        assert "p50 38.0  p90 64.8  p99 100 ms" in shown
        assert "from rvtop's own load client" in shown
        await pilot.press("tab")
        await until(pilot, lambda: isinstance(app.screen, PanelHelpScreen) and app.screen._panel is not panel)
        assert "help · latency" in screen_text(app)
        await pilot.press("?")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("q")
        assert isinstance(app.screen, LiveScreen)


async def test_on_a_narrow_screen_the_help_stands_under_or_over_its_panel(handle: made.FakeHandle) -> None:
    app = RvtopApp(handle)
    async with opened(app, 80, 44) as pilot:
        await pilot.press("tab", "tab", "tab", "?")
        await pilot.pause()
        assert isinstance(app.screen, PanelHelpScreen)
        box = app.screen.query_one("#box").region
        assert not app.screen._panel.region.overlaps(box)
        for size in ((40, 12), (20, 6), (5, 2), (120, 40)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            box = app.screen.query_one("#box").region
            assert box.right <= max(size[0], 4)
        await pilot.press("escape")
        assert isinstance(app.screen, LiveScreen)


async def test_every_panel_has_its_help(handle: made.FakeHandle) -> None:
    screens = (*SCREENS, SHOWDOWN_SCREENS[0])
    app = RvtopApp(handle, screens=screens)
    topics: set[str | None] = set()
    async with opened(app) as pilot:
        for entry in screens:
            await pilot.press(entry.key)
            await until(pilot, lambda entry=entry: isinstance(app.screen, entry.screen))  # type: ignore[misc]
            topics |= {panel.TOPIC for panel in app.screen.query(Panel) if panel.can_focus}
        await show(app, pilot, handle, made.done())
        await until(pilot, lambda: isinstance(app.screen, EndScreen) and app.screen.ready)
        topics |= {panel.TOPIC for panel in app.screen.query(Panel) if panel.can_focus}
    assert topics == set(PANELS)
    for panel in PANELS.values():
        assert panel.about
        assert all(figure.what and figure.source for figure in panel.figures)


async def test_zoom_gives_the_panel_the_body(handle: made.FakeHandle) -> None:
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.pause()
        panel = app.screen.query_one(TtftPanel)
        small = panel.size
        await pilot.press("z")
        await pilot.pause()
        assert panel.size.width == 120
        assert panel.size.height > small.height
        await pilot.press("escape")
        await pilot.pause()
        assert panel.size == small
        load = app.screen.query_one(LoadPanel)
        load.focus()
        await pilot.press("z")
        await pilot.pause()
        assert load.size.height > 20
        await pilot.press("z")
        await pilot.pause()
        assert load.size.height == 4


async def test_clicks_press_keys_and_choose_panels(handle: made.FakeHandle) -> None:
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.click(TtftPanel)
        assert isinstance(app.focused, TtftPanel)
        at = text_of(app, LoadPanel).index("space")
        await pilot.click(LoadPanel, offset=(at + 1, 0))
        assert handle.sent == [Pause()]
        at = text_of(app, Footer).index("? help")
        await pilot.click(Footer, offset=(at + 1, 0))
        await until(pilot, lambda: isinstance(app.screen, PanelHelpScreen | HelpScreen))


SIZES = [(60, 16), *((w, h) for w in (80, 100, 160) for h in (24, 32, 44)), (99, 31)]
PICTURES = ["live", "watching", "full", "crowded", "cluster", "crowded_cluster", "starting"]


def misfits(app: RvtopApp, width: int, height: int, words: tuple[str, ...]) -> list[object]:
    """What of the screen does not fit that size, and which of ``words`` it lacks."""
    found: list[object] = []
    cells = 0
    for panel in app.screen.query(Panel):
        if not panel.region.area:
            continue
        cells += panel.region.area
        if width < 80 or height < 24:
            continue  # smaller than what is promised to fit: it only must not break
        if panel.region.right > width or panel.region.bottom > height:
            found.append((type(panel).__name__, panel.region))
        lines = panel._lines(*panel.size)
        found += [(type(panel).__name__, line.text) for line in lines if line.width > panel.size.width]
    if height >= 24 and cells > width * height:
        found.append(cells)
    shown = screen_text(app)
    return [*found, *(word for word in words if word not in shown)]


@pytest.mark.parametrize("picture", PICTURES)
async def test_every_picture_fits_every_size(picture: str) -> None:
    """No line is cut at its right, nothing is drawn twice, and every panel that shows has its size."""
    handle = made.FakeHandle(getattr(made, picture)())
    assert handle.now is not None
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        for width, height in SIZES:
            words: tuple[str, ...] = ()
            if height >= 24 and picture in ("live", "watching", "crowded"):
                words = ("rps", "TTFT", "ITL", "E2E", "KV", "GPU" if handle.now.gpus else "engines", "quit")
            await pilot.resize_terminal(width, height)
            await until(pilot, lambda size=(width, height): tuple(app.screen.size) == size)
            await pilot.pause()
            with contextlib.suppress(AssertionError):  # what is wrong is told below
                await until(pilot, lambda asked=(width, height, words): not misfits(app, *asked))
            assert misfits(app, width, height, words) == [], (width, height)


async def test_many_engines_show_the_worst_first() -> None:
    app = RvtopApp(made.FakeHandle(made.crowded()))
    async with opened(app) as pilot:
        await pilot.pause()
        lines = text_of(app, EnginesPanel).splitlines()
        order = [line for line in lines if " STALE " in line or " run " in line]
        assert "e20" in order[0]
        assert "e17" in order[1]
        assert "FULL" in order[1]
        listed = len(order)
        assert f"{24 - listed} more, all doing better" in screen_text(app)


async def test_missing_figures_are_dashes_and_stale_ones_say_so() -> None:
    app = RvtopApp(made.FakeHandle(made.stale()))
    async with opened(app) as pilot:
        await pilot.pause()
        shown = screen_text(app)
        assert "STALE 6 s" in shown
        assert "STALE 31 s" in shown
        row = next(line for line in shown.splitlines() if "ICL" in line)
        assert row.count("--") == 4
        assert re.search("due +--", shown)


async def test_an_empty_watch_says_how_to_begin() -> None:
    s = made.watching()
    app = RvtopApp(made.FakeHandle(replace(s, latency=replace(s.latency, server_ttft=None))))
    async with opened(app) as pilot:
        await pilot.pause()
        assert "↑ sends one request a second" in text_of(app, TtftPanel)


@pytest.mark.parametrize("how", ["read-only", "a stored run"])
async def test_where_no_load_can_be_sent_no_screen_says_how(how: str) -> None:
    s = made.watching()
    handle = made.FakeHandle(replace(s, latency=replace(s.latency, server_ttft=None)))
    app = RvtopApp(handle, sharing=Sharing(readonly=how == "read-only"))
    if how == "a stored run":
        app.replay = cast(Replay, handle)
    async with opened(app) as pilot:
        await pilot.pause()
        shown = screen_text(app)
        assert "Watching: no load of ours yet." in shown
        assert "↑ sends" not in shown
        assert "L sets one" not in shown


async def test_a_client_that_cannot_keep_up_says_so(handle: made.FakeHandle) -> None:
    s = made.live()
    limited = replace(s, load=replace(s.load, client_limited="loop lag 12 ms"))
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await show(app, pilot, handle, limited)
        assert "CLIENT-LIMITED" in text_of(app, Header)
        assert "loop lag 12 ms" in text_of(app, NoticePanel)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "CLIENT-LIMITED" in text_of(app, Header)


# -- a start ---------------------------------------------------------------------------------------


async def test_the_name_of_the_only_step_and_its_time_stand_apart(handle: made.FakeHandle) -> None:
    app = RvtopApp(handle)
    async with opened(app, 80, 24) as pilot:
        running = next(step for step in made.starting().steps if step.state == "run")
        await show(app, pilot, handle, replace(made.starting(), steps=(replace(running, name="import"),)))
        assert "import  00:08 of ~00:11" in text_of(app, StepsPanel)


async def test_a_step_says_how_long_it_takes_and_that_it_takes_too_long(handle: made.FakeHandle) -> None:
    app = RvtopApp(handle)
    async with opened(app, 80, 24) as pilot:
        await show(app, pilot, handle, made.starting())
        assert "00:08 of ~00:11" in text_of(app, StepsPanel)
        assert "~00:06" in text_of(app, StepsPanel)
        await show(app, pilot, handle, made.late())
        assert "longer than ever, l shows its log" in text_of(app, StepsPanel)
        await show(app, pilot, handle, made.failed())
        await until(pilot, lambda: isinstance(app.screen, EndScreen))
        await pilot.press("1")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
        assert all(line in text_of(app, StepsPanel) for line in made.BACKEND_LINES[:2])
        assert "longer than ever" not in text_of(app, StepsPanel)


async def test_the_log_of_a_server_of_ours_is_shown_as_it_grows(
    handle: made.FakeHandle, tmp_path: Path
) -> None:
    app = RvtopApp(handle)
    async with opened(app, 80, 24) as pilot:
        await show(app, pilot, handle, replace(made.starting(), out_dir=str(tmp_path)))
        await pilot.press("l")
        await until(pilot, lambda: "nothing is in it yet" in screen_text(app))
        (tmp_path / "backend.log").write_text("loading weights\n\x1b[2Jready\n")
        await until(pilot, lambda: "loading weights" in screen_text(app))
        assert "\x1b[2J" not in screen_text(app)
        await pilot.press("escape", "l", "l")
        assert isinstance(app.screen, LiveScreen)
        await show(app, pilot, handle, made.watching())
        await pilot.press("l")
        assert "rvtop did not start this server" in screen_text(app)


async def test_after_a_failed_start_another_one_can_be_chosen() -> None:
    failed, good = made.FakeHandle(made.failed()), made.FakeHandle(made.live())
    handles = [failed, good]

    async def connect(choice: Choice) -> SessionHandle:
        return handles.pop(0)

    app = RvtopApp(None, connect, facts=lambda: made.start_without_gpu())
    async with opened(app, 100, 30) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: "CUDA out of memory" in screen_text(app))
        assert "enter to choose another" in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, StartScreen))
        assert failed.closed == 1
        await pilot.press("enter")
        await until(pilot, lambda: "noise" in screen_text(app))
        assert app.handle is good
    assert good.closed == 0


async def test_the_screen_needs_something_to_show() -> None:
    with pytest.raises(ValueError, match="a session"):
        RvtopApp()
