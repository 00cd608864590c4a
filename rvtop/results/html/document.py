"""The document around a page's content: it needs no other file, and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

import orjson

from rvtop.text import printable, printable_json

#: The scripts of each kind of page; its styles have the same names.
_SCRIPTS = {"report": ("uPlot", "report"), "share": ("share",)}


def document(title: str, body: str, data: Mapping[str, Any], kind: str) -> str:
    """A page of ``kind`` ("report", "share"). ``body`` is HTML, of which all text of others is escaped;
    ``data`` is what the page's script reads."""
    scripts = [_asset(f"{name}.js") for name in _SCRIPTS[kind]]
    styles = [_asset(f"{name}.css") for name in _SCRIPTS[kind]]
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    # "<" would end the element that holds the data.
    told = orjson.dumps(printable_json(data)).decode().replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        f"content=\"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(printable(title))}</title><style>{''.join(styles)}</style></head>"
        f"<body><main>{body}</main>"
        f'<script type="application/json" id="data">{told}</script>'
        + "".join(f"<script>{script}</script>" for script in scripts)
        + "</body></html>\n"
    )


def _asset(name: str) -> str:
    return files("rvtop.results.html").joinpath("assets", name).read_text("utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
