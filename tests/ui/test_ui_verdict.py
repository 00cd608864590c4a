"""The verdict's row, its box, and what enter does there."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest
from driven import opened, screen_text, text_of

from rvtop.contract.command import Retarget
from rvtop.contract.snapshot import Snapshot
from rvtop.stats.verdict_said import Verdict
from rvtop.ui.app import RvtopApp
from rvtop.ui.sharing import READ_ONLY, Sharing
from rvtop.ui.widgets.verdict import VerdictPanel


def bound(verdict: Verdict | None = None, *, owned: bool = True) -> Snapshot:
    s = made.bound()
    return replace(s, target=replace(s.target, owned=owned), verdict=verdict or s.verdict)


@pytest.mark.parametrize(
    ("size", "there"),
    [
        ((120, 40), ("▌bound by batch │ batch 4/4 · wait 28 · KV 3.1 % │ max_num_seqs 4→8  v",)),
        ((80, 24), ("▌bound by batch", "wait 28")),
        ((40, 12), ("▌bound by batch",)),
    ],
)
async def test_the_row_says_what_binds_at_every_size(size: tuple[int, int], there: tuple[str, ...]) -> None:
    app = RvtopApp(made.FakeHandle(bound()))
    async with opened(app, *size):
        row = text_of(app, VerdictPanel) if size[0] == 120 else screen_text(app)
        for text in there:
            assert text in row


async def test_the_row_makes_way_for_what_is_worse_and_is_not_there_without_load() -> None:
    handle = made.FakeHandle(bound())
    app = RvtopApp(handle)
    async with opened(app, 120, 40) as pilot:
        s = handle.now
        assert s is not None
        limited = replace(s, load=replace(s.load, client_limited="sends are late by 9 ms"))
        for number, worse in enumerate((limited, replace(s, target_down_s=4.0), replace(s, verdict=None))):
            handle.now = replace(worse, seq=s.seq + number + 1)
            app.poll()
            await pilot.pause()
            await pilot.pause()
            assert "bound by" not in screen_text(app)


async def test_v_explains_and_enter_starts_the_server_with_the_knob() -> None:
    handle = made.FakeHandle(bound())
    app = RvtopApp(handle)
    async with opened(app, 120, 40) as pilot:
        await pilot.press("v")
        await pilot.pause()
        text = screen_text(app)
        for part in ("all places of the batch are taken", "source", "● batch", "○ client", "· decode",
                     "not told: the engine's ITL", "--max-num-seqs 8", "ghost"):  # fmt: skip
            assert part in text
        await pilot.press("enter")
        await pilot.pause()
        assert handle.sent == [Retarget(topology="vllm", arguments=("--max-num-seqs", "8"))]


async def test_of_a_server_that_is_not_ours_the_line_is_copied() -> None:
    handle = made.FakeHandle(bound(owned=False))
    app = RvtopApp(handle)
    async with opened(app, 120, 40) as pilot:
        await pilot.press("v")
        await pilot.pause()
        assert "copies   vllm serve … --max-num-seqs 8" in screen_text(app)
        await pilot.press("enter")
        await pilot.pause()
        assert handle.sent == []
        assert app.clipboard == "vllm serve … --max-num-seqs 8"


async def test_what_is_not_known_says_what_it_needs() -> None:
    unknown = Verdict("not known yet", "needs 20 s of one rate, has 3", ("TTFT 24 ms",))
    app = RvtopApp(made.FakeHandle(bound(unknown)))
    async with opened(app, 120, 40):
        assert text_of(app, VerdictPanel).startswith("▌not known yet │ needs 20 s of one rate, has 3")


async def test_a_screen_that_only_watches_explains_and_starts_nothing() -> None:
    handle = made.FakeHandle(bound())
    app = RvtopApp(handle, sharing=Sharing(readonly=True))
    async with opened(app, 120, 40) as pilot:
        await pilot.press("v")
        await pilot.pause()
        assert "all places of the batch are taken" in screen_text(app)
        await pilot.press("enter")
        await pilot.pause()
        assert handle.sent == []
        assert READ_ONLY in screen_text(app)


async def test_the_row_takes_the_focus_has_help_and_enter_there_tries_the_knob() -> None:
    handle = made.FakeHandle(bound())
    app = RvtopApp(handle)
    async with opened(app, 120, 40) as pilot:
        await pilot.press("tab", "tab")
        assert isinstance(app.focused, VerdictPanel)
        assert "enter tries it, same load" in text_of(app, VerdictPanel)
        assert text_of(app, VerdictPanel).startswith("▸bound by batch")
        await pilot.press("question_mark")
        await pilot.pause()
        assert "help · verdict" in screen_text(app)
        assert "rvtop's own load workers delay" in screen_text(app)
        await pilot.press("escape", "enter")
        await pilot.pause()
        assert handle.sent == [Retarget(topology="vllm", arguments=("--max-num-seqs", "8"))]


async def test_enter_on_a_row_without_a_knob_explains() -> None:
    unknown = Verdict("not known yet", "needs 20 s of one rate, has 3", ("TTFT 24 ms",))
    handle = made.FakeHandle(bound(unknown))
    app = RvtopApp(handle)
    async with opened(app, 120, 40) as pilot:
        await pilot.press("tab", "tab")
        assert "enter explains" in text_of(app, VerdictPanel)
        await pilot.press("enter")
        await pilot.pause()
        text = screen_text(app)
        assert "needs 20 s of one rate" in text
        assert "enter try it" not in text
        assert not handle.sent
