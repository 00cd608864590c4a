"""What makes files for others to run: Grafana's dashboards, Prometheus' rules, manifests.

Each generator is a function from options to ``{path below --out: text}``; ``files.write_all`` writes them.
"""
