"""Data -> YAML, as people read it: keys in the order given, texts of several lines as blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def yaml_text(document: Any) -> str:
    """One document. Equal parts are written out each time, never as aliases."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    made: str = yaml.dump(document, Dumper=Dumper, sort_keys=False, width=110, allow_unicode=True)
    return made


def yaml_texts(documents: Iterable[Any]) -> str:
    """Several documents in one file."""
    return "---\n".join(yaml_text(document) for document in documents)
