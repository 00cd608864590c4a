"""GPU nodes that Karpenter makes on EKS when a worker has no place, and takes away when they are empty."""

from __future__ import annotations

from rvtop.deploy.k8s.objects import Manifest
from rvtop.deploy.k8s.options import GPU_TAINT, Options

#: Disk for the image (vLLM's for GPUs has some 10 GB) and weights from the Hub.
_DISK = "300Gi"


def pools(options: Options) -> list[Manifest]:
    """NodePool and EC2NodeClass; none without ``cluster`` or without a GPU."""
    if options.cluster is None or not options.gpus:
        return []
    return [_pool(options), _node_class(options, options.cluster)]


def _pool(options: Options) -> Manifest:
    name = f"{options.name}-gpu"
    capacity = ["spot", "on-demand"] if options.spot else ["on-demand"]
    requirements = {
        "karpenter.k8s.aws/instance-family": list(options.families),
        "kubernetes.io/arch": ["amd64"],
        "karpenter.sh/capacity-type": capacity,
    }
    most = options.replicas[1]
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "rvtop"}},
        "spec": {
            "template": {
                "metadata": {"labels": {"rvtop.io/pool": options.name}},
                "spec": {
                    "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": name},
                    "requirements": [
                        {"key": key, "operator": "In", "values": values}
                        for key, values in requirements.items()
                    ],
                    "taints": [{"key": GPU_TAINT.key, "value": "true", "effect": GPU_TAINT.effect}],
                    "expireAfter": "720h",
                    "terminationGracePeriod": "1h",
                },
            },
            # Twice what serves: while one cluster takes over from another, both stand.
            "limits": {"nvidia.com/gpu": 2 * most * options.gpus},
            # Not WhenEmptyOrUnderutilized: that evicts engines to fill nodes.
            "disruption": {
                "consolidationPolicy": "WhenEmpty",
                "consolidateAfter": "10m",
                "budgets": [{"nodes": "1"}],
            },
        },
    }


def _node_class(options: Options, cluster: str) -> Manifest:
    terms = [{"tags": {"karpenter.sh/discovery": cluster}}]
    disk = {"volumeSize": _DISK, "volumeType": "gp3", "encrypted": True, "deleteOnTermination": True}
    return {
        "apiVersion": "karpenter.k8s.aws/v1",
        "kind": "EC2NodeClass",
        "metadata": {"name": f"{options.name}-gpu", "labels": {"app.kubernetes.io/part-of": "rvtop"}},
        "spec": {
            "role": f"KarpenterNodeRole-{cluster}",
            "amiSelectorTerms": [{"alias": options.ami}],
            "subnetSelectorTerms": terms,
            "securityGroupSelectorTerms": terms,
            "blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": disk, "rootVolume": True}],
            # Pods cannot take the node's own role.
            "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1},
        },
    }
