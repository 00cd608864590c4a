"""What a server can be asked to do between phases, and what it says of itself.

``POST /reset_prefix_cache`` is vLLM's where ``VLLM_SERVER_DEV_MODE=1`` is set, and that of our backends;
``POST /start_profile`` and ``/stop_profile`` are vLLM's where it was started with ``--profiler-config``.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any

from rvtop.net.transport import Transport
from rvtop.target.accelerators import version_facts
from rvtop.target.probe import TargetError, TargetInfo, ask
from rvtop.text import printable, printable_json

RESET, START_PROFILE, STOP_PROFILE = "reset_prefix_cache", "start_profile", "stop_profile"
#: How long each may take, seconds; a profiler writes its traces before it answers.
LIMITS_S: Mapping[str, float] = {RESET: 5.0, START_PROFILE: 10.0, STOP_PROFILE: 60.0}
#: What a server needs so that it can do it.
_NEEDS = {
    RESET: "vLLM's own server needs VLLM_SERVER_DEV_MODE=1 for it",
    START_PROFILE: "vLLM needs --profiler-config for it",
    STOP_PROFILE: "vLLM needs --profiler-config for it",
}
_SAID_LIMIT = 200
_FACTS_LIMIT_S = 10.0
_TEXT_LIMIT = 20_000
#: Of the server's machine; the rest of what vLLM collects (packages, host names) is left out.
_SYSTEM = ("os", "python_version", "torch_version", "vllm_version", "cpu_info", "gpu_topo")
_SECRET_NAME = re.compile(r"key|token|secret|passw|auth|credential|cookie|bearer", re.IGNORECASE)
#: A setting with such a name, in a text: its value, quoted or up to the next separator.
_SECRET_VALUE = re.compile(
    r"(?i)(\b\w*(?:api_?key|token|secret|passw\w*|auth\w*|credential\w*)['\"]?\s*[=:]\s*)"
    r"('[^']*'|\"[^\"]*\"|\[[^\]]*\]|[^\s,)}]+)"
)
#: A name and a password in a URL.
_URL_SECRET = re.compile(r"(?<=://)[^/@\s'\"]+@")
#: Names that have such a word and are none: numbers of tokens, tokenizers.
_NO_SECRET = re.compile(r"(?i)\b(?:\w*tokens\w*|\w*tokeni[sz]er\w*|skip_\w+|\w*token_id\w*)['\"]?\s*[=:]")


async def act(url: str, action: str, transport: Transport) -> str:
    """Asks the server at ``url`` for one of the three; empty if it was done, else why not, in one line."""
    try:
        status, body = await asyncio.to_thread(ask, f"{url}/{action}", transport, LIMITS_S[action], "POST")
    except TargetError as error:
        return str(error)
    if status == 200:
        return "" if _succeeded(body) else "the server could not: requests still hold blocks of it"
    said = printable(_message(body), _SAID_LIMIT)
    if status in (404, 405):
        return f"the server offers no POST /{action} (HTTP {status}); {_NEEDS[action]}"
    return f"HTTP {status}" + (f": {said}" if said else "")


def _succeeded(body: bytes) -> bool:
    """What vLLM answers to a reset; other answers with 200 have nothing to say."""
    try:
        told = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return True
    return not (isinstance(told, dict) and told.get("success") is False)


def _message(body: bytes) -> str:
    try:
        told = json.loads(body)
        told = told.get("error", told)
        return str(told.get("message", "") if isinstance(told, dict) else told)
    except (ValueError, AttributeError, RecursionError):
        return ""


async def server_facts(info: TargetInfo, transport: Transport) -> dict[str, Any]:
    """What a vLLM server says of itself, for ``environment.json``: ``version``, and where it offers
    ``/server_info`` its configuration, settings and machine. Secrets are left out, by their names. Empty for
    a server that is no vLLM, or does not tell."""
    if info.engine != "vllm" and info.topology != "vllm":
        return {}
    facts: dict[str, Any] = {}
    version = await _told(f"{info.pages}/version", transport)
    if isinstance(version.get("version"), str):
        facts["version"] = printable(version["version"], _SAID_LIMIT)
    told = await _told(f"{info.pages}/server_info", transport)
    if isinstance(told.get("vllm_config"), str):
        facts["vllm_config"] = without_secrets(printable(told["vllm_config"], _TEXT_LIMIT))
    for key, names in (("vllm_env", None), ("system_env", (*_SYSTEM, *version_facts()))):
        if isinstance(found := told.get(key), dict):
            kept = {
                name: without_secrets(value) if isinstance(value, str) else value
                for name, value in found.items()
                if not _SECRET_NAME.search(name) and (names is None or name in names)
                if isinstance(value, str | int | float | bool | None)
            }
            facts[key] = printable_json(kept)
    return facts


async def _told(url: str, transport: Transport) -> dict[str, Any]:
    """The JSON object there; empty where there is none."""
    try:
        status, body = await asyncio.to_thread(ask, url, transport, _FACTS_LIMIT_S)
        told = json.loads(body) if status == 200 else {}
    except (TargetError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def without_secrets(text: str) -> str:
    """``text`` with *** for the values of settings that are named as secrets are."""

    def hidden(found: re.Match[str]) -> str:
        return found[0] if _NO_SECRET.match(found[1]) else f"{found[1]}***"

    return _URL_SECRET.sub("***@", _SECRET_VALUE.sub(hidden, text))
