"""Writes the Python code of ``proto/rvtop_v1.proto``: one copy for the backends, which serve it, and one for
the load workers, which ask for it (the two packages import nothing of each other)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parents[1]
NAME = "rvtop_v1"
#: Folder -> whether the service's stubs are written too.
FOLDERS = {"backends/rpc": True, "rvtop/load/rpc": False}


def generated() -> dict[str, str]:
    """Path from the root -> text."""
    with tempfile.TemporaryDirectory() as out:
        arguments = [
            f"-I{ROOT / 'proto'}",
            f"--python_out={out}",
            f"--pyi_out={out}",
            f"--grpc_python_out={out}",
        ]
        if protoc.main(["protoc", *arguments, str(ROOT / "proto" / f"{NAME}.proto")]):
            raise SystemExit("protoc failed")
        texts = {path.name: path.read_text() for path in Path(out).iterdir()}
    found = {}
    for folder, with_stubs in FOLDERS.items():
        package = folder.replace("/", ".")
        for name, text in texts.items():
            if with_stubs or not name.endswith("_grpc.py"):
                text = text.replace(f"import {NAME}_pb2 as", f"from {package} import {NAME}_pb2 as")
                # By this name Ray Serve pickles a message.
                text = text.replace(f"DESCRIPTOR, '{NAME}_pb2'", f"DESCRIPTOR, '{package}.{NAME}_pb2'")
                found[f"{folder}/{name}"] = text
    return found


def main() -> int:
    """Writes them."""
    for path, text in generated().items():
        (ROOT / path).write_text(text)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
