"""Ray's fake nodes with memory. Ray's own provider hands a node's ``memory`` to Ray as a resource of the
user's, which Ray refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import ray._private.parameter as parameter
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider


class NodesWithMemory(FakeMultiNodeProvider):  # type: ignore[misc]
    """For a cluster's configuration: ``provider: {type: external, module: …NodesWithMemory}``."""

    def _create_node_with_resources_and_labels(
        self, node_config: Any, tags: Any, count: int, resources: Mapping[str, float], labels: Any
    ) -> None:
        known = parameter.RayParams
        further = {name: amount for name, amount in resources.items() if name != "memory"}

        def with_memory(**given: Any) -> Any:
            return known(memory=resources["memory"], **given)

        with patch.object(parameter, "RayParams", with_memory):
            super()._create_node_with_resources_and_labels(node_config, tags, count, further, labels)
