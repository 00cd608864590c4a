"""The local models: built from the sample corpus on first use, then found in the cache.

Nothing heavy is imported until something has to be built.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from backends.corpus import sample
from backends.models import Progress, build_once

SIZES = ("tiny", "large")
_HERE = Path(__file__).parent


def ensure_model(size: str = "tiny", progress: Progress | None = None) -> Path:
    """The folder of a small Qwen2 model with its tokenizer, as `transformers` and vLLM load them.

    ``tiny`` (2 layers x 128) is trained for some 20 s on one core; ``large`` (8 layers x 512, for loads
    where arithmetic is the cost) says exactly what ``tiny`` says. Raises ValueError for another size,
    OSError when the cache cannot be written.
    """
    if size not in SIZES:
        raise ValueError(f"no local model of size {size!r}: there are {' and '.join(SIZES)}")
    report = progress or _silent
    recipe = _recipe("qwen2.py", "school.py", "bpe.py", "chat_template.jinja")

    def build_tiny(folder: Path) -> None:
        from backends.models.tiny.qwen2 import build_tiny

        build_tiny(folder, report)

    def build_large(folder: Path) -> None:
        from backends.models.tiny.qwen2 import build_large

        build_large(tiny, folder, report)

    tiny = build_once("models", f"qwen2-tiny-{recipe}", build_tiny)
    if size == "tiny":
        return tiny
    return build_once("models", f"qwen2-large-{recipe}-{_recipe('widen.py')}", build_large)


def ensure_embedder(progress: Progress | None = None) -> Path:
    """The folder of a small SentenceTransformer for Korean and English. Raises OSError as above."""

    def build(folder: Path) -> None:
        from backends.models.tiny.static_embedder import build_embedder

        build_embedder(folder, progress or _silent)

    return build_once("models", f"embedder-tiny-{_recipe('static_embedder.py', 'bpe.py')}", build)


@cache
def _recipe(*sources: str) -> str:
    """Names a build by all that decides its bytes: change a recipe and the cached model is left alone."""
    h = hashlib.sha256(sample.digest().encode())
    corpus = Path(sample.__file__).parents[1]
    for path in (*(_HERE / s for s in sources), corpus / "chunk.py", corpus / "prompt.py"):
        h.update(path.read_bytes())
    return h.hexdigest()[:12]


def _silent(label: str, done: float) -> None:
    pass
