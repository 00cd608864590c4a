"""ASCII in place of glyphs: what is replaced, and which terminals get it."""

from __future__ import annotations

import ast
import os
import pty
import select
import subprocess
import sys
import threading
from pathlib import Path

import made
import pytest
from driven import opened, screen_text

import rvtop.ui
from rvtop.ui.app import RvtopApp
from rvtop.ui.glyphs import TO_ASCII, glyph_cells, wants_ascii
from rvtop.ui.look import Look
from rvtop.ui.theme import DARK, Styles


@pytest.mark.parametrize("picture", ["live", "watching", "stale", "done", "starting", "failed", "crowded"])
@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_every_picture_is_ascii(picture: str, size: tuple[int, int]) -> None:
    app = RvtopApp(made.FakeHandle(getattr(made, picture)()), look=Look(Styles(DARK), ascii=True))
    async with opened(app, *size) as pilot:
        for keys in ([], ["tab", "?"], ["escape", ":"], ["escape", "?", "?"]):
            await pilot.press(*keys)
            await pilot.pause()
            shown = screen_text(app)
            assert {char for char in shown if not char.isascii()} == set()
            assert all(len(line) == size[0] for line in shown.splitlines())


def test_every_glyph_of_the_sources_has_one_in_ascii() -> None:
    """What no picture above shows, too: comments and docstrings are not drawn."""
    for path in Path(rvtop.ui.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
                missing = {char for char in node.value if not char.isascii() and ord(char) not in TO_ASCII}
                assert missing == set(), f"{path.name}:{node.lineno}"


async def test_large_digits_are_plain_ones() -> None:
    app = RvtopApp(made.FakeHandle(made.live()), look=Look(Styles(DARK), ascii=True))
    async with opened(app):
        assert " 48.0 " in screen_text(app)


def test_every_glyph_becomes_one_character() -> None:
    assert all(len(plain) == 1 and plain.isascii() for plain in TO_ASCII.values())
    assert not any(chr(full).isascii() for full in TO_ASCII)


@pytest.mark.parametrize(
    ("asked", "term", "encoding", "ascii"),
    [
        (None, "xterm", "UTF-8", False),
        (None, "linux", "UTF-8", True),
        (None, "dumb", "UTF-8", True),
        (None, "xterm", "ISO-8859-1", True),
        (None, "xterm", "no-such-code", True),
        (False, "linux", "ISO-8859-1", False),
        (True, "xterm", "UTF-8", True),
    ],
)
def test_who_gets_ascii(
    monkeypatch: pytest.MonkeyPatch, asked: bool | None, term: str, encoding: str, ascii: bool
) -> None:
    monkeypatch.setattr("locale.getencoding", lambda: encoding)
    assert wants_ascii(asked, {"TERM": term}) is ascii


@pytest.mark.parametrize(("name", "ascii"), [("C", True), ("C.UTF-8", False)])
def test_the_locale_counts_and_not_pythons_utf8_mode(name: str, ascii: bool) -> None:
    """With LC_ALL=C Python writes UTF-8 all the same, which such a terminal does not show."""
    code = "from rvtop.ui.glyphs import wants_ascii; print(wants_ascii(None, {'TERM': 'xterm'}))"
    environ = {**os.environ, "LC_ALL": name}
    environ.pop("PYTHONUTF8", None)
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, check=True, text=True
    )
    assert ran.stdout.strip() == str(ascii), ran.stderr


@pytest.mark.parametrize(("answer", "cells"), [(b"\x1b[7;2R", 1), (b"x\x1b[1;3R\x1b[A", 2)])
def test_a_terminal_is_asked_how_wide_it_draws(answer: bytes, cells: int) -> None:
    """And what was typed before, or meanwhile, is dropped."""
    ours, theirs = pty.openpty()
    asked = bytearray()
    os.write(ours, b"2")  # before anybody reads

    def terminal() -> None:
        while b"\x1b[6n" not in asked:
            asked.extend(os.read(ours, 64))
        os.write(ours, answer)

    thread = threading.Thread(target=terminal)
    thread.start()
    try:
        assert glyph_cells(theirs, theirs, timeout_s=60) == cells
        thread.join(60)
        assert "●".encode() in asked
        assert os.read(ours, 64) == b"\r\x1b[K"
        assert not select.select([theirs], [], [], 0)[0]
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_terminal_that_does_not_answer_is_not_waited_for() -> None:
    ours, theirs = pty.openpty()
    try:
        assert glyph_cells(theirs, theirs, timeout_s=0.05) is None
    finally:
        os.close(ours)
        os.close(theirs)
    read, write = os.pipe()
    try:
        assert glyph_cells(read, write) is None
    finally:
        os.close(read)
        os.close(write)
