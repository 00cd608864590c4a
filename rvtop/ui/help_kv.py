"""What the figures of the KV map are."""

from __future__ import annotations

from rvtop.ui.panel_help import Figure, PanelHelp

KV = "the engines' KV events (vLLM's --kv-events-config)"

KV_PANELS: dict[str, PanelHelp] = {
    "kv_engines": PanelHelp(
        "KV map",
        "What is in each engine's prefix cache: blocks that it told it stored, less those that it told it "
        "evicted. Cached is not in use: a block stays cached when no request needs it, until its place is "
        "wanted.",
        (
            Figure("cached", "different full blocks that a request could find", KV),
            Figure("shared", "of these, those seen in more than one request", KV),
            Figure("twice", "blocks that are there once more: computed side by side", KV),
            Figure("stored/s, evict/s", "blocks a second, in the last second", KV),
            Figure("hits ≥", "of the requests seen to begin, how many branch off a cached beginning", KV),
            Figure("lost", "batches of events that did not come and could not be had again", KV),
            Figure(
                "✗ EVICTION STORM", "half of what is cached evicted in 10 s, a tenth of it stored again", KV
            ),
            Figure("locality", "how often the replica with the longest beginning got the request", KV),
        ),
    ),
    "kv_heat": PanelHelp(
        "blocks",
        "The blocks of the engine at the cursor: how many requests were seen to share them, and how long ago "
        "they were stored. When a block was last used, engines do not tell.",
        (
            Figure("░ ▒ ▓ █", "few to many blocks, on a log scale; the number stands beside", KV),
            Figure(
                "requests", "at least so many; who found all of a prompt stores nothing, and is not seen", KV
            ),
        ),
    ),
    "kv_prefixes": PanelHelp(
        "prefixes",
        "Beginnings that several requests have in common, those that go on from one below it. Their text is "
        "not known here: rvtop leaves the tokens of events unread.",
        (
            Figure("tokens", "length of the beginning, in whole blocks", KV),
            Figure("requests", "seen to use it, the one that stored it among them", KV),
            Figure("■ ·", "of all requests seen to begin, how many branch off at its end or behind it", KV),
            Figure("branches", "different continuations that are cached now", KV),
        ),
    ),
}
