"""A small box for the file of a recording that ends."""

from __future__ import annotations

from rvtop.system.files import FileFault, check_new, yaml_path
from rvtop.ui.format import clock
from rvtop.ui.screens.dialog import Asked, TypedDialog


def file_named(text: str) -> str:
    """The file that ``text`` names, absolute. Raises ValueError with the line to show."""
    try:
        path = yaml_path(text.strip())
        check_new(path)
    except FileFault as error:
        raise ValueError(str(error)) from None
    return str(path)


class RecordingNameScreen(TypedDialog[str]):
    """Returns the file for a recording of ``recorded_s`` seconds, "" for one in the run folder, None where it
    is to go on."""

    NOTHING = ""

    def __init__(self, recorded_s: float) -> None:
        asked = Asked(
            "end the recording",
            "enter writes it   esc goes on",
            f"{clock(recorded_s)} as a scenario, to which file? Nothing: recording.yaml in the run folder.",
            "evening-peak.yaml",
            200,
        )
        super().__init__(asked, file_named)
