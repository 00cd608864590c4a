"""Everything that can be done: by its key, by the palette, by a user's own key; and its page."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path

import made
import pytest
from driven import opened, screen_text, show, text_of, until
from textual.pilot import Pilot
from textual.widgets import Input, Static

from rvtop.contract.command import (
    Cancel,
    Mark,
    NextPhase,
    Pause,
    SetConcurrency,
    SetRate,
    SetSlo,
    SetWorkload,
    Undo,
)
from rvtop.contract.snapshot import Snapshot
from rvtop.errors import UserError
from rvtop.ui.action import Action
from rvtop.ui.app import RvtopApp
from rvtop.ui.figure_values import VALUES, value_now
from rvtop.ui.help_text import PANELS
from rvtop.ui.key_names import key_named, shown_key
from rvtop.ui.keymap import footer_key, names, with_keymap
from rvtop.ui.keys import ACTIONS
from rvtop.ui.look import Look
from rvtop.ui.rate_phrase import Bounds, parse_phrase, parse_rate, preview
from rvtop.ui.screens.confirm import CancelScreen
from rvtop.ui.screens.help import HelpScreen, PanelHelpScreen
from rvtop.ui.screens.mark import BARE, MarkScreen
from rvtop.ui.screens.palette import Choices, PaletteScreen, matching
from rvtop.ui.screens.rate import RateScreen
from rvtop.ui.screens.slo import parse_slo
from rvtop.ui.screens.stopping import StoppingScreen
from rvtop.ui.screens.table import SHOWDOWN_SCREENS
from rvtop.ui.screens.workload import parse_workload
from rvtop.ui.screens.workload import preview as workload_preview
from rvtop.ui.sharing import Sharing
from rvtop.ui.theme import DARK, Styles
from rvtop.ui.widgets.footer import Footer
from rvtop.ui.widgets.tokens import TokensPanel

DOCS = Path(__file__).parents[2] / "docs"


def steady() -> Snapshot:
    return replace(made.live(), load=replace(made.live().load, target_rps=5.0))


def state(app: RvtopApp, handle: made.FakeHandle) -> tuple[object, ...]:
    """All that an action can change."""
    screen = app.screen
    live = app.live
    assert live is not None
    return (
        tuple(handle.sent),
        type(screen),
        type(live.focused),
        live.has_class("zoom"),
        live._frozen,
        live.view.window_s,
        live.view.by_rate,
        live.query_one(Footer).notice,
        app.rich_styles.palette.name,
        app.clipboard,
    )


#: What is pressed first where an action needs it to do anything.
BEFORE = {"window: shorter": ["W"], "panel: one before": ["tab"], "back one step": ["z"]}
ON_LIVE = [a for a in ACTIONS if a.holds("A*L") and a.name != "session: choose another"]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures and copies go to places of this test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("way", ["key", "second key", "palette"])
async def test_each_action_does_something(way: str) -> None:
    least = {"key": 1, "second key": 2, "palette": 0}[way]
    left = [
        action
        for action in ON_LIVE
        if len(action.keys) >= least and not (way == "palette" and action.name == "palette")
    ]
    while left:  # one app for as long as it goes on: some actions end it
        handle = made.FakeHandle(steady())
        app = RvtopApp(
            handle, look=Look(Styles(DARK)), clock=lambda: 0.0, sharing=Sharing(web_url="http://a/?token=b")
        )
        async with opened(app) as pilot:
            while left and not app._exit:
                await done(pilot, app, handle, left.pop(0), way)


async def done(pilot: Pilot[int], app: RvtopApp, handle: made.FakeHandle, action: Action, way: str) -> None:
    """Does ``action`` and sees that something came of it; brings the app back to Live, if it still runs."""
    await pilot.press(*BEFORE.get(action.name, []))
    assert app.live is not None
    app.live.notify_briefly("")
    before = state(app, handle)
    if way == "palette":
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, PaletteScreen))
        app.screen.query_one(Input).value = action.name
        await pilot.pause()
        await pilot.press("enter")
    else:
        await pilot.press(action.keys[1 if way == "second key" else 0])
    await until(pilot, lambda: app._exit or state(app, handle) != before)
    assert not isinstance(app.screen, PaletteScreen) or action.name == "palette"
    while not app._exit and (app.screen is not app.live or app.live.has_class("zoom") or app.live.focused):
        await pilot.press("escape")
    if not app._exit and app.live._frozen:
        await pilot.press("f")


@pytest.mark.parametrize("screen", ["2", "3"])
async def test_the_load_is_steered_from_map_and_requests_too(screen: str) -> None:
    handle = made.FakeHandle(replace(made.mapped(), load=replace(made.live().load, target_rps=5.0)))
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press(screen)
        await until(pilot, lambda: app.screen is not app.live and app.session_screen.snapshot is not None)  # type: ignore[union-attr]
        for key, sent in (("+", SetRate(6.0)), ("}", SetRate(12.0)), ("space", Pause()), ("u", Undo())):
            await pilot.press({"+": "plus", "}": "right_curly_bracket"}.get(key, key))
            assert handle.sent[-1] == sent
        await pilot.press("g", *"7.5", "enter")
        await until(pilot, lambda: handle.sent[-1] == SetRate(7.5))
        count = len(handle.sent)
        await pilot.press("up")
        assert len(handle.sent) == count + (screen == "2"), "in a list the arrows are the cursor"


async def test_another_screen_goes_on_from_the_rate_that_a_pause_holds() -> None:
    running = replace(made.mapped(), load=replace(made.live().load, target_rps=50.0))
    handle = made.FakeHandle(running)
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        paused = replace(running, state="paused", load=replace(running.load, target_rps=0.0))
        await show(app, pilot, handle, paused)
        await pilot.press("2")
        await until(pilot, lambda: app.screen is not app.live and app.session_screen.snapshot is not None)  # type: ignore[union-attr]
        await pilot.press("up")
        assert handle.sent[-1] == SetRate(51.0)
        await pilot.press("1", "up")
        assert handle.sent[-1] == SetRate(52.0)


async def test_cancelling_asks_first() -> None:
    handle = made.FakeHandle(steady())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("X")
        await until(pilot, lambda: isinstance(app.screen, CancelScreen))
        await pilot.press("enter", "escape")
        assert handle.sent == []
        await pilot.press("X", "y")
        await until(pilot, lambda: handle.sent == [Cancel()])


@pytest.mark.parametrize(
    ("key", "typed", "sent"),
    [
        ("L", "200", SetSlo(200.0)),
        ("L", "ttft 150ms e2e 5 s", SetSlo(150.0, None, 5000.0)),
        ("L", "tpot=20", SetSlo(None, 20.0)),
        ("L", "off", SetSlo()),
        ("o", "in 512 out 128", SetWorkload(128, 512)),
        ("o", "out 64", SetWorkload(64)),
        ("o", "in off", SetWorkload(None, 0)),
        ("o", "off", SetWorkload(0, 0, 0)),
        ("o", "in 64 prefix 1024 80%", SetWorkload(None, 64, 1024, 0.8)),
        ("o", "prefix 1024 out 16", SetWorkload(16, None, 1024)),
        ("o", "prefix 25 %", SetWorkload(prefix_share=0.25)),
        ("o", "prefix none", SetWorkload(prefix_share=0.0)),
        ("o", "prefix off", SetWorkload(prefix_tokens=0)),
    ],
)
async def test_slo_and_workload_are_typed_in_words(key: str, typed: str, sent: object) -> None:
    handle = made.FakeHandle(steady())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press(key)
        app.screen.query_one(Input).value = typed
        await pilot.press("enter")
        await until(pilot, lambda: handle.sent == [sent])


@pytest.mark.parametrize("typed", ["fast", "ttft", "0", "ttft -5", "e2e nan", "200 300", "ttft 5 hours"])
def test_what_is_no_slo_is_one_line(typed: str) -> None:
    with pytest.raises(ValueError, match=r"^(not a (limit|number)|a limit is more than 0 ms)[^\n]*$"):
        parse_slo(typed)


@pytest.mark.parametrize(
    "typed",
    [
        "512",
        "in",
        "in 0",
        "out -3",
        "in 1.5",
        "size 3",
        "out x",
        "prefix",
        "prefix x",
        "prefix 120%",
        "prefix nan%",
    ],
)
def test_what_is_no_workload_is_one_line(typed: str) -> None:
    with pytest.raises(ValueError, match=r"^(not a length|a length is a number|a share is)[^\n]*$"):
        parse_workload(typed)


@pytest.mark.parametrize(
    ("typed", "lines"),
    [
        ("in 512 out 128", ["prompts of 512 tokens", "answers of at most 128 tokens"]),
        ("prefix 1024 80%", ["80 % of the prompts begin with a shared prefix of 1 024 tokens"]),
        ("prefix 25%", ["25 % of the prompts begin with the shared prefix"]),
        ("prefix 64", ["as many prompts as now begin with a shared prefix of 64 tokens"]),
        ("out off prefix none", ["answers as the workload has them", "no shared prefix"]),
    ],
)
def test_what_requests_will_be_is_said_before(typed: str, lines: list[str]) -> None:
    assert workload_preview(parse_workload(typed)).splitlines() == lines


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("rate: one more", SetRate(6.0)),
        ("rate: one less", SetRate(4.0)),
        ("rate: 10 % more", SetRate(5.5)),
        ("rate: 10 % less", SetRate(4.5)),
        ("rate: twice", SetRate(10.0)),
        ("rate: half", SetRate(2.5)),
        ("load: pause, go on", Pause()),
        ("phase: next", NextPhase()),
        ("phase: begin anew here", NextPhase("again")),
        ("load: undo the last command", Undo()),
    ],
)
async def test_what_steers_the_load_sends_its_command(name: str, sent: object) -> None:
    handle = made.FakeHandle(steady())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press(next(action.keys[0] for action in ACTIONS if action.name == name))
        assert handle.sent == [sent]


async def test_a_mark_has_a_note_or_none_and_can_be_left() -> None:
    handle = made.FakeHandle(steady())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("m", *"warm", "enter")
        await pilot.press("m", "enter")
        await pilot.press("m", *"no", "escape")
        assert not isinstance(app.screen, MarkScreen)
        assert handle.sent == [Mark("warm"), Mark(BARE)]


async def test_the_palette_narrows_completes_and_remembers() -> None:
    handle = made.FakeHandle(steady())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("colon", *"half")
        assert isinstance(app.screen, PaletteScreen)
        assert [action.name for action in app.screen.query_one(Choices).actions] == ["rate: half"]
        await pilot.press("tab")
        assert app.screen.query_one(Input).value == "rate: half"
        await pilot.press("enter")
        await until(pilot, lambda: handle.sent == [SetRate(2.5)])
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(app.screen, PaletteScreen))
        choices = app.screen.query_one(Choices)
        assert choices.actions[0].name == "rate: half", "the last one used comes first"
        await pilot.press("down", "down", "up")
        assert choices.cursor == 1
        await pilot.press(*"no such thing", "enter")
        assert "no action has all of these words" in screen_text(app)
        assert isinstance(app.screen, PaletteScreen)
        app.screen.query_one(Input).value = "rate: twice"
        await pilot.pause()
        await pilot.click(Choices, offset=(5, 0))
        await until(pilot, lambda: handle.sent == [SetRate(2.5), SetRate(5.0)])
        await pilot.press("colon", "escape")
        assert app.screen is app.live


def test_all_words_must_be_in_the_name() -> None:
    assert [action.name for action in matching("RATE more", ACTIONS, ())] == [
        "rate: one more",
        "rate: 10 % more",
    ]
    assert matching("", ACTIONS, ("help",))[0].name == "help"


async def test_ctrl_q_does_nothing_and_ctrl_z_says_why_not() -> None:
    handle = made.FakeHandle(steady())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("ctrl+q")
        assert app.screen is app.live
        await pilot.press("ctrl+z")
        assert "would stop the load's clocks" in text_of(app, Footer)
        assert not any(isinstance(screen, StoppingScreen) for screen in app.screen_stack)


async def test_a_frozen_picture_stands_and_the_load_goes_on() -> None:
    handle = made.FakeHandle(steady())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("f")
        handle.now = replace(steady(), seq=7, load=replace(steady().load, target_rps=8.0, ok=987654))
        app.poll()
        await pilot.pause()
        assert "FROZEN" in text_of(app, Footer)
        assert "987 654" not in screen_text(app)
        await pilot.press("up")
        assert handle.sent == [SetRate(9.0)], "from the rate in force, not from the one in the picture"
        await pilot.press("f")
        await pilot.pause()
        assert "987 654" in screen_text(app)
        assert "FROZEN" not in screen_text(app)
        await pilot.press("f")
        handle.now = replace(made.done(), seq=9)
        app.poll()
        await pilot.pause()
        assert "done" in screen_text(app), "the end is never held back"


async def test_the_window_of_the_charts_has_ends() -> None:
    app = RvtopApp(made.FakeHandle(steady()))
    async with opened(app, 160, 44) as pilot:
        assert "2 min" in text_of(app, TokensPanel)
        await pilot.press("W", "W", "W")
        assert "10 min" in text_of(app, TokensPanel)
        assert "10 min is the longest window" in text_of(app, Footer)
        await pilot.press("w", "w", "w", "w")
        assert "1 min" in text_of(app, TokensPanel)
        assert "1 min is the shortest window" in text_of(app, Footer)


async def test_a_picture_goes_into_the_run_folder_or_here(folders: Path) -> None:
    for out_dir, folder in ((str(folders / "run"), folders / "run" / "pictures"), (None, folders)):
        app = RvtopApp(made.FakeHandle(replace(steady(), out_dir=out_dir)))
        async with opened(app, 160, 40) as pilot:
            await pilot.press("S", "S")
            await pilot.pause()
            files = sorted(folder.glob("rvtop-*.svg"))
            assert len(files) == 2
            assert all("TTFT" in file.read_text("utf-8") for file in files)
            assert "picture: " in text_of(app, Footer)
    blocked = folders / "blocked"
    blocked.write_text("")
    app = RvtopApp(made.FakeHandle(replace(steady(), out_dir=str(blocked))))
    async with opened(app) as pilot:
        await pilot.press("S")
        assert "no picture: " in text_of(app, Footer)


async def test_copying_goes_to_the_terminal_and_into_a_file(folders: Path) -> None:
    app = RvtopApp(made.FakeHandle(steady()))
    async with opened(app) as pilot:
        written: list[str] = []
        assert app._driver is not None
        app._driver.write = written.append  # type: ignore[method-assign]
        await pilot.press("tab", "tab", "tab", "y")
        text = (folders / "cache" / "rvtop" / "copied.txt").read_text("utf-8")
        assert text.startswith("━━ ms")
        assert "E2E" in text
        assert "noise" not in text
        osc = next(part for part in written if part.startswith("\x1b]52;c;"))
        assert base64.b64decode(osc[7:-1]).decode() + "\n" == text
        await pilot.press("escape", "y")
        assert "noise" in (folders / "cache" / "rvtop" / "copied.txt").read_text("utf-8")


@pytest.mark.parametrize(
    ("typed", "rps"),
    [("+10%", 5.5), ("-50 %", 2.5), ("x2", 10.0), ("× 0,5", 2.5), ("*3", 15.0), ("+0%", 5.0)],
)
def test_a_change_can_be_typed(typed: str, rps: float) -> None:
    assert parse_rate(typed, None, 5.0) == rps


def test_a_change_beyond_the_maximum_is_refused() -> None:
    with pytest.raises(ValueError, match="over the maximum"):
        parse_rate("x20", 80.0, 5.0)
    with pytest.raises(ValueError, match="0 or more"):
        parse_rate("-200%", 80.0, 5.0)


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("96", SetRate(96.0)),
        ("2in 10s", SetRate(2.0, over_s=10.0)),
        ("off", SetRate(0.0)),
        ("96 in 60s", SetRate(96.0, over_s=60.0)),
        ("ramp x2 in 1m 30s linear", SetRate(10.0, over_s=90.0)),
        ("96 IN 60 exp", SetRate(96.0, over_s=60.0, shape="exponential")),
        ("spike 200 for 10s", SetRate(200.0, for_s=10.0)),
        ("+100% for 500ms", SetRate(10.0, for_s=0.5)),
        ("Closed 32", SetConcurrency(32)),
    ],
)
def test_a_ramp_and_a_spike_can_be_typed(typed: str, command: SetRate | SetConcurrency) -> None:
    assert parse_phrase(typed, Bounds(5.0, 500.0)) == command


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("96 in", "for how long?"),
        ("96 in soon", "not a time: soon; type 30s, 500ms or 2m"),
        ("96 in 0s", "a time is more than 0 and at most 24h, not 0s"),
        ("96 in 25h", "a time is more than 0 and at most 24h"),
        ("600 in 10s", "600 is over the maximum of 500"),
        ("spike 200", "for how long?"),
        ("ramp 96", "for how long?"),
        ("ramp 96 for 5s", "a ramp is 40 in 30s, a spike is 90 for 10s"),
        ("96 for 5s exp", "exp is for a ramp"),
        ("0 in 5s exp", "an exponential ramp goes from and to more than 0"),
        ("fast in 5s", "not a number: fast"),
        ("closed", "how many at once, from 1 to 100000? closed 32"),
        ("closed x2", "how many at once"),
        ("closed 0", "how many at once"),
        ("closed 100001", "how many at once"),
    ],
)
def test_a_ramp_or_a_spike_that_is_none_is_one_line(typed: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)) as refused:
        parse_phrase(typed, Bounds(5.0, 500.0))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) <= 54


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (SetRate(96.0, over_s=60.0), "ramp 48.0 → 96.0 rps, linear, 60 s  ▄▄▅▅▆▆▇▇██\nabout 4 320 requests"),
        (
            SetRate(96.0, over_s=60.0, shape="exponential"),
            "ramp 48.0 → 96.0 rps, exponential, 60 s  ▄▄▅▅▅▆▆▇▇█\nabout 4 155 requests",
        ),
        (
            SetRate(200.0, for_s=10.0),
            "spike of 200 rps for 10 s, then as before  ▂▂▂████▂▂▂\nabout 2 000 requests",
        ),
        (SetRate(12.0), "48.0 → 12.0 rps at once"),
        (
            SetConcurrency(32),
            "48.0 rps → 32 at once: each answer sends the next\nthe phase begins anew as a closed loop",
        ),
    ],
)
def test_what_a_rate_will_do_is_said_before(command: SetRate | SetConcurrency, text: str) -> None:
    assert preview(command, Bounds(48.0), ()) == text


def test_a_rate_that_missed_before_is_said_before() -> None:
    assert preview(SetRate(96.0, over_s=60.0), Bounds(48.0), (80.0, 60.0)).endswith("at 60.0 before")
    assert "missed" not in preview(SetRate(50.0), Bounds(48.0), (80.0, 60.0))


async def test_a_closed_loop_is_steered_by_words_alone() -> None:
    handle = made.FakeHandle(steady())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("g", *"closed 32", "enter")
        await until(pilot, lambda: handle.sent == [SetConcurrency(32)])
        await show(app, pilot, handle, made.closed())
        await pilot.press("up", "shift+up", "right_curly_bracket")
        assert handle.sent == [SetConcurrency(32)], "one key too many would end the loop"
        assert "a closed loop has no rate" in screen_text(app)
        await pilot.press("g", *"+10%", "enter")
        assert "a closed loop has no rate yet: type 12.5 first" in screen_text(app)
        app.screen.query_one(Input).value = "20"
        await until(pilot, lambda: "32 at once → 20.0 rps" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: handle.sent == [SetConcurrency(32), SetRate(20.0)])


async def test_a_typed_ramp_is_shown_before_and_sent() -> None:
    handle = made.FakeHandle(steady())
    app = RvtopApp(handle)
    async with opened(app) as pilot:
        await pilot.press("g", *"10 in 3s")
        await until(pilot, lambda: "5.0 → 10.0 rps" in str(app.screen.query_one("#preview", Static).content))
        await pilot.press("enter")
        await until(pilot, lambda: handle.sent == [SetRate(10.0, over_s=3.0)])
        assert app.pending_rate.pending is None, "the rate in force is where the ramp begins"


# -- a user's keys -----------------------------------------------------------------------------------


async def test_a_users_keys_take_the_place_of_ours() -> None:
    handle = made.FakeHandle(steady())
    keymap = {"rate: twice": ("i",), "rate: set, ramp, spike": (), "help": ("h", "?"), "leave": ("ctrl+x",)}
    app = RvtopApp(handle, look=Look(Styles(DARK), keymap))
    async with opened(app) as pilot:
        assert "h help" in text_of(app, Footer)
        await pilot.press("i", "}", "g", "q")
        assert handle.sent == [SetRate(10.0)]
        assert not isinstance(app.screen, RateScreen)
        await pilot.press("h")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen | PanelHelpScreen))


@pytest.mark.parametrize(
    ("keymap", "why"),
    [
        ({"rate: twise": ("u",)}, "did you mean rate: twice"),
        ({"leave at once": ("u",)}, "no such action"),
        ({"help": ("hyper+x",)}, "no such key"),
        ({"help": ("word",)}, "no such key"),
        ({"help": ("ctrl+s",)}, "can't be had"),
        ({"help": ("z",)}, "z would be the key of panel: zoom and of help"),
    ],
)
def test_keymaps_that_can_not_be_are_one_line(keymap: dict[str, tuple[str, ...]], why: str) -> None:
    with pytest.raises(UserError, match=why) as refused:
        with_keymap(keymap)
    assert str(refused.value).startswith("keymap: ")


def test_keys_are_read_as_people_write_them() -> None:
    read = {
        text: key_named(text)
        for text in ("z", "W", "+", "]", "shift+up", "PgUp", "ctrl+f", "space", ":", "f1")
    }
    assert read["+"] == "plus"
    assert read["]"] == "right_square_bracket"
    assert read["PgUp"] == "pageup"
    assert [shown_key(read[text]) for text in ("+", "]", "shift+up", ":")] == ["+", "]", "⇧↑", ":"]
    swapped = with_keymap({"panel: zoom": ("f",), "view: freeze, follow": ("z",)})
    assert footer_key(next(a for a in swapped if a.name == "view: freeze, follow"), swapped) == "z"


def test_the_footer_writes_pairs_together() -> None:
    feet = [a for a in ACTIONS if a.in_foot("A*L")]
    shown = [footer_key(a, ACTIONS) for a in sorted(feet, key=lambda a: a.foot)]
    assert shown == ["↑↓", "⇧↑↓", "g", "space", "t", "b", "m", "f", "w W", "r", "n", ":", "?", "q"]


async def test_the_footer_offers_what_can_be_done_now() -> None:
    handle = made.FakeHandle(steady())
    app = RvtopApp(handle)
    async with opened(app, 160, 40) as pilot:
        shown = text_of(app, Footer)
        assert "r record" in shown
        assert "b ghost" not in shown, "there is none yet"
        await pilot.press("B")
        handle.now = replace(steady(), seq=10**6, recording_s=2.0)
        app.poll()
        assert app.session_screen is not None
        app.session_screen.notify_briefly("")  # the keys again
        await until(pilot, lambda: "b ghost" in text_of(app, Footer))
        assert "r end recording" in text_of(app, Footer)


def test_every_value_of_the_help_is_of_a_figure_in_it() -> None:
    known = {(topic, figure.name) for topic, panel in PANELS.items() for figure in panel.figures}
    assert set(VALUES) <= known
    empty = Snapshot(0, 0.0, made.START, "running", "live", made.live().target)
    for topic, name in VALUES:
        for snapshot in (made.live(), made.watching(), made.stale(), empty, None):
            assert value_now(topic, name, snapshot)


WHERE_NOT = """Some say in the last line why they do nothing there: the load's keys and `m` in a replay (there
is no load), `w` `W` on a map without rows for its charts (it shows one instant), `1` to `6`, `e`, `l` and `s`
on Start before there is a session, `0` where rvtop shows one session alone (a showdown, a replay, another's),
`5` where no showdown runs."""

MOUSE = """The mouse does nothing that no key does. A click on a key in the footer presses it; on a panel
chooses it; on a name in a chart's legend hides its line (`H`); on the SLO sets it (`L`); on the dial opens
`g` with that rate; on a chart, the plan or an event freezes there (`f` `←` `→`); in the header on the target
switches it (`t`), on the phase begins the next (`n`), on REC ends the recording (`r`), on the client's health
opens its help (`?`). The wheel changes the window over a chart (`w` `W`), the rate over the load (`↑` `↓`),
and moves in lists. `mouse: off` in the settings leaves the mouse to the terminal."""


def page() -> str:
    """docs/keys.md as the table makes it."""
    where = {
        "A": "everywhere",
        "*": "where a load runs",
        "L": "live",
        "M": "map",
        "Q": "requests",
        "K": "KV map",
        "W": "showdown",
        "E": "events",
        "P": "replay",
        "C": "compare",
        "Z": "end card",
        "S": "start",
    }
    lines = [
        "# Keys",
        "",
        "Every action has a name, which the palette (`:`) lists and the settings' `keymap` takes. This page",
        "is made from `rvtop/ui/keys.py` and `rvtop/ui/screens/table.py`; a test compares them.",
        "",
        "| key | screen |",
        "|---|---|",
        *(
            f"| `{entry.key}` | {entry.title} |"
            for entry in sorted(SHOWDOWN_SCREENS, key=lambda one: one.key)
        ),
        "",
        "These keys are fixed; those below can be changed, but for `ctrl+c`.",
        "",
        "| key | name in palette and keymap | where | does |",
        "|---|---|---|---|",
    ]
    for action in ACTIONS:
        keys = " ".join(f"`{shown_key(key)}`" for key in action.keys) or "palette"
        places = ", ".join(where[place] for place in action.where)
        lines.append(f"| {keys} | {action.name} | {places} | {action.about} |")
    lines += ["", "`ctrl+q` does nothing, `ctrl+z` only says why not: it would stop the load's clocks.", ""]
    lines += [WHERE_NOT, "", MOUSE, ""]
    return "\n".join(lines)


def test_the_page_of_keys_is_that_of_the_table() -> None:
    assert (DOCS / "keys.md").read_text("utf-8") == page()
    assert len(names()) == len(ACTIONS) - 1
