"""What vLLM loads into its workers on the CPU, where adapters are served (``worker_extension_cls``): it adds
the class to that of its worker, and loading this module is the point."""

from __future__ import annotations

from backends.engines.lora_on_cpu import mend


class LeavesOutTheModel:
    """Adds nothing."""


mend()
