"""Pictures and films of the screen: every cell in its place, rows held once, nothing that would act."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import made
import pytest
from driven import opened, screen_text
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from rvtop.ui.app import RvtopApp
from rvtop.ui.svg import CELL_W, Picture, Run, film, picture_of, still

NS = "{http://www.w3.org/2000/svg}"


def picture(*texts: str) -> Picture:
    width = max(map(cell_len, texts))
    rows = tuple((Run(text, cell_len(text), "#ffffff", "#000000"),) for text in texts)
    return Picture(rows, width, "#000000")


async def test_a_picture_holds_what_the_screen_shows() -> None:
    app = RvtopApp(made.FakeHandle(made.full()))
    async with opened(app):
        shot = picture_of(app)
        rows = ["".join(run.text for run in row) for row in shot.rows]
        assert "\n".join(rows) == screen_text(app)
        words = " ".join(e.text or "" for e in ElementTree.fromstring(still(shot)).iter(f"{NS}text"))
    assert len(shot.rows) == 40
    assert {cell_len(row) for row in rows} == {120}
    assert "GPU memory" in words
    assert "TTFT" in words


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=40))
def test_any_text_is_a_sound_document_and_stays_in_its_cells(text: str) -> None:
    shot = picture(text)
    for element in ElementTree.fromstring(still(shot)).iter(f"{NS}text"):
        end = int(element.attrib["x"]) + int(element.attrib["textLength"])
        assert 0 < end <= shot.width * CELL_W


def test_blocks_are_shapes_that_touch() -> None:
    (path,) = ElementTree.fromstring(still(picture("██▄"))).iter(f"{NS}path")
    assert path.attrib["d"] == "M0 0h16v17h-16zM16 8.5h8v8.5h-8z"


def test_a_film_holds_equal_rows_once_and_shows_each_frame_for_its_time() -> None:
    a, b = picture("same", "one"), picture("same", "two")
    text = film([(a, 1.0), (b, 3.0)])
    root = ElementTree.fromstring(text)
    assert [e.text for e in root.iter(f"{NS}text")] == ["same", "one", "two"]
    assert "animation:4s step-end infinite" in text
    shown = re.findall(r"@keyframes f(\d)\{(.*?\}.*?)\}\}?", text)
    assert [number for number, _ in shown] == ["0", "1"]
    assert "@keyframes f0{0%{visibility:visible}25.000%,100%{visibility:hidden}}" in text
    assert (
        "@keyframes f1{0%{visibility:hidden}25.000%{visibility:visible}100.000%,100%{visibility:hidden}}"
        in text
    )
    with pytest.raises(ValueError, match="needs a frame"):
        film([])
