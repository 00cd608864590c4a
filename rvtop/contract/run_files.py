"""The names of the files in a run folder."""

from __future__ import annotations

SCENARIO = "scenario.yaml"
ENVIRONMENT = "environment.json"
PROMPTS = "prompts.jsonl"
REQUESTS = "requests.jsonl"
COMMANDS = "commands.jsonl"
TIMELINE = "timeline.jsonl"
EVENTS = "events.jsonl"
SCREEN = "screen.jsonl.gz"
SUMMARY = "summary.json"
SESSION_LOG = "session.log"
HEARTBEAT = "heartbeat.json"
#: Of ``--probe-rate``: requests beside the load, which are none of its own.
PROBES = "probes.jsonl"
PROBE_PROMPTS = "probes.prompts.jsonl"
BACKEND_LOG = "backend.log"
#: Of a run of pairs (``rvtop ab``).
PAIRS = "pairs.jsonl"
#: Of a quality check.
QUALITY = "quality.json"
ANSWERS = "answers.jsonl"

#: What a run writes besides the log of a backend; a folder that has one of these is not ours to fill.
FILES = (
    SCENARIO,
    ENVIRONMENT,
    PROMPTS,
    REQUESTS,
    COMMANDS,
    TIMELINE,
    EVENTS,
    SCREEN,
    SUMMARY,
    SESSION_LOG,
    HEARTBEAT,
    PAIRS,
    PROBES,
    PROBE_PROMPTS,
)
