"""What this package adds. rvtop imports this file to list the topology, so it imports nothing heavy."""

TOPOLOGY = {
    "module": "rvtop_haiku.topology",  # with `async def start(options, steps)`; imported when it is started
    "about": "a server that answers everything with a haiku",
    "engine": "a list of words",
    "where": "one process",
    "route": "a call",
    "adds": "--",
    "extras": [],  # of rvtop's, such as ["hf"]
    "packages": [],  # further modules that must be importable
    "flags": [],  # groups of options that it takes beyond those of all topologies, such as ["vllm"]
}
