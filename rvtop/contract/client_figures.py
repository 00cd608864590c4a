"""The one table of what the client's figures mean. The help of the screens, the report and the page for
Prometheus read it; the engines' figures are in ``contract.figures``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClientFigure:
    """``brief`` is a phrase for a line of help, to which a window may be added; ``help`` is whole sentences,
    for whoever reads a report."""

    name: str
    brief: str
    help: str

    @property
    def sentence(self) -> str:
        """``brief`` as a sentence."""
        return f"{self.brief[0].upper()}{self.brief[1:]}."


TTFT = ClientFigure(
    "TTFT",
    "intended time to first token",
    "Time to first token: from the time a request was meant to be sent to the first chunk with text or a "
    "token. A queue counts, also one in the client.",
)
ITL = ClientFigure(
    "ITL",
    "gap between two tokens of one request",
    "Inter-token latency: the gaps between two tokens of one request, all requests together; within 1 %. "
    "Where chunks hold several tokens it is the gap between chunks.",
)
TPOT = ClientFigure(
    "TPOT",
    "(E2E − TTFT) / (output tokens − 1) of each request",
    "Time per output token: (E2E − TTFT) / (output tokens − 1) of each request.",
)
E2E = ClientFigure(
    "E2E",
    "intended time to the last token",
    "From the time a request was meant to be sent to its last token.",
)
TOKENS = ClientFigure(
    "tokens/s",
    "output tokens received in the last second",
    "Output tokens of all good requests, over the time from the first intended send to the last token.",
)
GOODPUT = ClientFigure(
    "goodput",
    "requests a second that meet the SLO",
    "Requests a second that ended well and within the SLO.",
)
COMPLETED = ClientFigure(
    "completed",
    "requests that were answered whole, of those planned",
    "Requests that ended well, of those planned. Means over survivors flatter whoever drops most: compare "
    "latencies only where this is the same.",
)
LATE = ClientFigure(
    "late sends",
    "how late requests left",
    "How long after its intended time a request left the client.",
)
LIMITED = ClientFigure(
    "CLIENT-LIMITED",
    "the client's own delays could distort the figures",
    "The client's own delays could distort a figure of this run.",
)

#: In the order of a report's definitions.
CLIENT_FIGURES = (TTFT, ITL, TPOT, E2E, TOKENS, GOODPUT, COMPLETED, LATE, LIMITED)
