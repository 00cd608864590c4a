"""The screen of a stored run: its keys, its handle, and nothing that steers a load."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest
from driven import opened, screen_text, text_of, until

from rvtop.contract.snapshot import Event, Snapshot
from rvtop.results.recording import Recording
from rvtop.session.replay import ReplaySession
from rvtop.ui.app import RvtopApp
from rvtop.ui.look import Look
from rvtop.ui.screens.instant import parse_instant
from rvtop.ui.screens.replay import ReplayScreen
from rvtop.ui.screens.verdict import VerdictScreen
from rvtop.ui.theme import DARK, Styles
from rvtop.ui.widgets.footer import Footer
from rvtop.ui.widgets.load import LoadPanel
from rvtop.ui.widgets.recording import NAMES, RecordingPanel


class Still:
    """A clock that stands."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def at(t: int) -> Snapshot:
    """A second of a run of two phases, with a mark in it."""
    of = made.live(float(t))
    assert of.phase is not None
    phase = replace(of.phase, name="climb" if t < 60 else "hold", index=0 if t < 60 else 1)
    mark = (Event(1e9, "cache on", kind="mark", t_s=40.0),) if t >= 40 else ()
    return replace(of, seq=t, t_s=float(t), phase=phase, events=mark, series=made.series(float(t)))


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Two minutes, which no session changes."""
    kept = Recording()
    for t in range(121):
        kept.add(at(t))
    return kept


@pytest.fixture
def replay(recording: Recording) -> ReplaySession:
    return ReplaySession(recording, "runs/climb-1127", Still())


def shown(replay: ReplaySession) -> RvtopApp:
    return RvtopApp(replay=replay, look=Look(Styles(DARK)), clock=lambda: 0.0)


async def test_keys_move_in_it(replay: ReplaySession) -> None:
    app = shown(replay)
    async with opened(app) as pilot:
        assert isinstance(app.live, ReplayScreen)

        async def stands_at(t_s: float) -> None:
            await until(pilot, lambda: app.live.snapshot is not None and app.live.snapshot.t_s == t_s)  # type: ignore[union-attr]

        await stands_at(0)
        for keys, t_s in (
            (("right",), 1),
            (("shift+right", "shift+right"), 21),
            (("apostrophe",), 40),
            (("n",), 60),
            (("left",), 59),
            (("N",), 0),
            (("pagedown",), 10),
            (("full_stop", "full_stop", "comma"), 11),
            (("g", "1", "colon", "3", "0", "enter"), 90),
        ):
            await pilot.press(*keys)
            await stands_at(t_s)
        assert not replay.playing, "one picture on holds it"
        await pilot.press("space", "right_square_bracket")
        assert (replay.playing, replay.speed) == (True, 2.0)
        assert "▶ 2×" in text_of(app, RecordingPanel)
        await pilot.press("n")
        assert "this is the last phase" in text_of(app, Footer)


async def test_a_click_on_the_handle_goes_there(replay: ReplaySession) -> None:
    app = shown(replay)
    async with opened(app) as pilot:
        width = app.screen.query_one(RecordingPanel).size.width - 2 - NAMES
        await pilot.click(RecordingPanel, offset=(1 + NAMES + width // 2, 2))
        assert replay.position_s == pytest.approx(60, abs=1)


async def test_nothing_there_steers_a_load(replay: ReplaySession) -> None:
    app = shown(replay)
    async with opened(app) as pilot:
        assert not [a.name for a in app.actions if a.holds("AP") and a.where == "*"]
        await pilot.press("up", "plus", "m", "u", "space")
        assert isinstance(app.screen, ReplayScreen)
        for key in ("up", "minus", "r", "L"):
            app.live.notify_briefly("")  # type: ignore[union-attr]
            await pilot.press(key)
            await until(pilot, lambda: "no load to steer" in text_of(app, Footer))
        app.live.notify_briefly("")  # type: ignore[union-attr]
        assert "±10 %" not in text_of(app, LoadPanel)
        await pilot.click(LoadPanel, offset=(60, 2))  # the dial
        await until(pilot, lambda: "no load to steer" in text_of(app, Footer))
        app.live.notify_briefly("")  # type: ignore[union-attr]
        await pilot.pause()
        keys = text_of(app, Footer)
        assert "play" in keys
        assert "pause" not in keys
        for key in ("2", "3", "1"):
            await pilot.press(key)
        assert app.screen is app.live


async def test_its_verdict_opens_there() -> None:
    kept = Recording()
    for t in range(3):
        kept.add(replace(at(t), verdict=made.bound().verdict))
    app = shown(ReplaySession(kept, "runs/climb-1127", Still()))
    async with opened(app) as pilot:
        await pilot.press("v")
        await until(pilot, lambda: isinstance(app.screen, VerdictScreen))


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
def test_replay(snap_compare: object, replay: ReplaySession, size: tuple[int, int]) -> None:
    replay.seek(70)
    assert snap_compare(shown(replay), terminal_size=size)  # type: ignore[operator]


async def test_every_size_has_the_handle_where_there_is_room(replay: ReplaySession) -> None:
    app = shown(replay)
    async with opened(app, 120, 40) as pilot:
        for width, height in ((40, 12), (60, 16), (300, 100), (120, 40)):
            await pilot.resize_terminal(width, height)
            await pilot.pause()
            assert "/ 02:00" in screen_text(app), (width, height)


def test_the_times_that_can_be_typed() -> None:
    assert [parse_instant(text, 7200) for text in ("90", "90s", "1:30", "1:02:03", "0.5")] == [
        90,
        90,
        90,
        3723,
        0.5,
    ]
    for text, why in (
        ("soon", "not a time: soon; type for example 90 or 1:30"),
        ("3:00", "the run is over at 02:00"),
    ):
        with pytest.raises(ValueError, match=why):
            parse_instant(text, 120)


async def test_what_could_not_be_read_is_said_first(replay: ReplaySession) -> None:
    replay.notes = ["screen.jsonl.gz: 1 line of 40 can't be read (line 17: not JSON); left out"]
    app = shown(replay)
    async with opened(app) as pilot:
        await until(pilot, lambda: "line 17: not JSON" in screen_text(app))


async def test_its_help_begins_with_its_own_keys(replay: ReplaySession) -> None:
    app = shown(replay)
    async with opened(app, 120, 60) as pilot:
        await pilot.press("?")
        shown_first = screen_text(app)
        assert "keys here" in shown_first
        assert "replay: go to a time" in shown_first
        assert "rate: one more" not in shown_first
