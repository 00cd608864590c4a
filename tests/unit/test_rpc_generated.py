"""The generated code is what the .proto says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_generated_code_is_that_of_the_proto() -> None:
    pytest.importorskip("grpc_tools")
    path = ROOT / ".ci" / "make_proto.py"
    spec = importlib.util.spec_from_file_location("make_proto", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    texts = made.generated()
    assert len(texts) == 5
    for name, text in texts.items():
        assert (ROOT / name).read_text() == text, f"{name}: run `make proto`"
