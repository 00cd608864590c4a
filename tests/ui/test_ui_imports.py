from __future__ import annotations

import json
import subprocess
import sys

FORBIDDEN = (
    "torch",
    "ray",
    "vllm",
    "transformers",
    "faiss",
    "backends",
    "sentence_transformers",
    "pandas",
    "scipy",
)


def test_the_screen_imports_nothing_heavy() -> None:
    code = "import json, sys, rvtop.ui.app; print(json.dumps([m.partition('.')[0] for m in sys.modules]))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not set(json.loads(out)) & set(FORBIDDEN)
