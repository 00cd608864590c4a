"""``rvtop deploy k8s``: manifests of a topology, made from data; nothing here talks to a cluster."""
