"""A process that shows made-up snapshots in a real terminal; run by test_ui_terminal."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path

import made

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.app import RvtopApp
from rvtop.ui.run import run_app_async


class Moving(made.FakeHandle):
    """A new picture at every tenth of a second; leaves a note when it was closed."""

    def __init__(self, note: Path, broken: bool) -> None:
        super().__init__(made.live())
        self._note, self._broken, self._began = note, broken, time.monotonic()

    def snapshot(self) -> Snapshot | None:
        tenths = int((time.monotonic() - self._began) * 10)
        if self._broken and tenths > 10:
            raise RuntimeError("a fault on purpose")
        assert self.now is not None
        return replace(self.now, seq=tenths, t_s=92 + tenths / 10)

    async def close(self) -> None:
        await super().close()
        self._note.write_text("closed")


if __name__ == "__main__":
    handle = Moving(Path(sys.argv[1]), broken=sys.argv[2:] == ["broken"])
    sys.exit(asyncio.run(run_app_async(RvtopApp(handle))))
