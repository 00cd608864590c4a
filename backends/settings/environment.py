"""What the head's environment says to engines on other nodes. The one list; stdlib only.

Known names (``HF_HOME``, the three switches ``HF_HUB_OFFLINE``, ``HF_DATASETS_OFFLINE`` and
``TRANSFORMERS_OFFLINE``, ``VLLM_*``, and ``OTEL_*``, which says where and how an engine sends its spans) mean
the same for an engine wherever it runs. A Ray job's runtime environment can be read by every user of the
cluster, so secrets go to engines in their own arguments only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from backends.settings.vllm import OUR_ENV

#: The API key that clients must give.
KEY_ENV = "RVTOP_API_KEY"
#: The model to serve, where nothing else names one: NAME=SOURCE, or a source alone.
MODEL_ENV = "MODEL_ID"
NAMES = ("RVTOP_CACHE", "TRANSFORMERS_OFFLINE")
PREFIXES = ("HF_", "VLLM_", "OTEL_")
_SECRET = ("TOKEN", "KEY", "SECRET", "PASSWORD", "HEADERS")


def carried(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """All of it, secrets included. (Those of vLLM's that are ours travel as arguments.)"""
    environ = os.environ if environ is None else environ
    return {
        name: value
        for name, value in environ.items()
        if (name in NAMES or name.startswith(PREFIXES)) and name not in OUR_ENV
    }


def public(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What may stand in a job's runtime environment."""
    return {name: value for name, value in carried(environ).items() if not _is_secret(name)}


def _is_secret(name: str) -> bool:
    return any(part in _SECRET for part in name.split("_"))
