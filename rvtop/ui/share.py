"""A stored run as one page that plays its screens in a browser: the pictures that a replay draws, second by
second, each different row once."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable
from html import escape
from typing import Any

import orjson

from rvtop.results.html.document import document
from rvtop.results.recording import Recording
from rvtop.session.replay import ReplaySession
from rvtop.text import phase_words, printable
from rvtop.ui.app import RvtopApp
from rvtop.ui.look import Look
from rvtop.ui.svg import CELL_H, CELL_W, LOOKS, picture_of, row_of
from rvtop.ui.widgets.footer import Footer
from rvtop.ui.widgets.recording import RecordingPanel

#: A longer run shows every second, third … of its seconds.
MOST_FRAMES = 900
#: The screens that are played, by their names in the table of screens.
_SCREENS = ("live", "map", "requests")

Progress = Callable[[str], None]


async def shared_page(
    recording: Recording, name: str, look: Look, size: tuple[int, int], progress: Progress
) -> str:
    """The page of ``recording``, drawn with ``size`` (columns, rows). ``progress`` gets a line now and then.
    Takes about a tenth of a second a screen and frame."""
    step = -(-len(recording) // MOST_FRAMES)
    seconds = range(0, len(recording), step)
    replay = ReplaySession(recording, name)
    replay.toggle()  # it stands still but for what is asked for here
    rows: dict[str, int] = {"": 0}
    screens: dict[str, list[list[int]]] = {}
    app = RvtopApp(replay=replay, look=look)
    background = ""
    async with app.run_test(size=size) as pilot:
        for screen in _SCREENS:
            await app.action_show_screen(screen)
            await pilot.pause()
            frames = screens[screen] = []
            for number, index in enumerate(seconds):
                replay.seek(recording.t_s[index])
                app.poll()
                await pilot.pause()
                picture = picture_of(app)
                background = picture.background
                kept = picture.rows[: _keys_at(app)]
                frames.append([rows.setdefault(row_of(row, background), len(rows)) for row in kept])
                if number % 60 == 0:
                    progress(f"{screen}: {number} of {len(seconds)} seconds")
    told = {
        "cell": [CELL_W, CELL_H],
        "size": [size[0], max(len(frame) for frames in screens.values() for frame in frames)],
        "looks": LOOKS,
        "background": background,
        "t": [round(recording.t_s[index], 3) for index in seconds],
        "phases": [[t_s, printable(phase_words(phase))] for t_s, phase in recording.phases],
        "events": [[e.t_s, e.level, printable(e.text)] for e in recording.events if e.t_s is not None],
    }
    return document(f"{name} · rvtop", _body(name), {**told, "packed": _packed(list(rows), screens)}, "share")


def _keys_at(app: RvtopApp) -> int:
    """The row from which on a screen has only its handle and its keys: the page has its own."""
    below = (*app.screen.query(Footer), *app.screen.query(RecordingPanel))
    return min((one.region.y for one in below if one.region.area), default=app.size.height)


def _packed(rows: list[str], screens: dict[str, Any]) -> str:
    """The pictures, gzipped, as base64: rows of SVG, and each screen's frames as rows' numbers."""
    data = gzip.compress(orjson.dumps({"rows": rows, "screens": screens}), 9, mtime=0)
    return base64.b64encode(data).decode()


def _body(name: str) -> str:
    tabs = "".join(
        f'<button type="button" data-screen="{screen}" aria-pressed="false">{screen}</button>'
        for screen in _SCREENS
    )
    return (
        f"<h1>{escape(printable(name))}</h1>"
        '<noscript>This page needs scripts to play.</noscript><p id="problem" role="alert"></p>'
        f'<nav aria-label="Screens">{tabs}</nav>'
        '<div id="screen" tabindex="0" role="img" aria-label="The screen at this second"></div>'
        '<div id="controls"><button type="button" id="play">play</button>'
        '<label>speed <select id="speed"><option>0.5</option><option selected>1</option><option>2</option>'
        "<option>4</option><option>8</option><option>16</option><option>32</option></select></label>"
        '<button type="button" id="before">◂ event</button><button type="button" id="after">event ▸</button>'
        '<output id="clock" for="at"></output>'
        '<input type="range" id="at" min="0" value="0" aria-label="Second of the run"></div>'
        '<div id="phases" aria-hidden="true"></div>'
        '<details><summary>this second as text</summary><pre id="text" tabindex="0"></pre></details>'
        '<h2>Events</h2><ol id="events"></ol>'
    )
