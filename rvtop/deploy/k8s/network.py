"""Who reaches what: NetworkPolicies that let in only what is named, and Ingresses where they were asked
for."""

from __future__ import annotations

from collections.abc import Sequence

from rvtop.deploy.k8s import objects, ray, servers
from rvtop.deploy.k8s.objects import DASHBOARD_PORT, METRICS_PORT, SERVE_PORT, Manifest
from rvtop.deploy.k8s.options import Options

_NAMESPACE = "kubernetes.io/metadata.name"  # Kubernetes itself puts it on each namespace
API, DASHBOARD = "api", "dashboard"


def policies(options: Options) -> list[Manifest]:
    """One for each component. What selects a pod closes it for all that no rule lets in."""
    clients = _from([{"podSelector": {"matchLabels": objects.CLIENT_LABEL}}], SERVE_PORT)
    outside = [clients, *_from_ingress(options, options.api_host, SERVE_PORT)]
    if not options.on_ray:
        scraped = _from([_prometheus(options)], SERVE_PORT)
        return [_policy(options, servers.VLLM, [*outside, scraped])]
    # Ray's nodes open ports of their own to each other, for objects and for workers.
    each_other = {"from": [{"podSelector": {"matchLabels": objects.instance(options)}}]}
    scraped = _from([_prometheus(options)], METRICS_PORT)
    operator = {
        **_namespace(options.operator_namespace),
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
    }
    # It asks Serve's state there.
    asks = _from([operator], DASHBOARD_PORT)
    head = [each_other, scraped, asks, *_from_ingress(options, options.dashboard_host, DASHBOARD_PORT)]
    worker = [each_other, scraped]
    made = [_policy(options, ray.HEAD, head)]
    if options.topology == "rvc":
        metrics = _from([_prometheus(options)], SERVE_PORT)
        made += [
            _policy(options, ray.WORKER, worker),
            _policy(options, servers.FRONT, [each_other, *outside, metrics]),
        ]
    else:  # each worker's proxy is a door
        made.append(_policy(options, ray.WORKER, [*worker, *outside]))
    head_only = {"podSelector": {"matchLabels": objects.labels(options, ray.HEAD)}}
    return [*made, _policy(options, ray.REDIS, [{"from": [head_only]}])]


def ingresses(options: Options) -> list[Manifest]:
    """Of the API and the dashboard, where they have a host. Whoever comes through the dashboard's runs code
    in the cluster: the Ingress asks who it is before Ray asks for its token."""
    made = []
    if options.api_host is not None:
        made.append(
            _ingress(options, API, options.api_host, options.service, SERVE_PORT, _annotations(options))
        )
    if options.dashboard_host is not None:
        head = f"{options.name}-head-svc"
        asks = _annotations(options) | _authentication(options)
        made.append(_ingress(options, DASHBOARD, options.dashboard_host, head, DASHBOARD_PORT, asks))
    return made


def _annotations(options: Options) -> dict[str, str]:
    """Only TLS; answers stream, for as long as they take."""
    if options.ingress == "alb":
        return {
            "alb.ingress.kubernetes.io/scheme": "internal",
            "alb.ingress.kubernetes.io/target-type": "ip",
            "alb.ingress.kubernetes.io/listen-ports": '[{"HTTPS": 443}]',
            "alb.ingress.kubernetes.io/load-balancer-attributes": "idle_timeout.timeout_seconds=3600",
        }
    return {
        "nginx.ingress.kubernetes.io/force-ssl-redirect": "true",
        "nginx.ingress.kubernetes.io/proxy-buffering": "off",
        "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
        "nginx.ingress.kubernetes.io/proxy-body-size": "8m",
    }


def _authentication(options: Options) -> dict[str, str]:
    """Asks each client who it is. Users, or the identity provider, are in objects that their owner makes."""
    if options.ingress == "alb":
        return {
            "alb.ingress.kubernetes.io/auth-type": "oidc",
            "alb.ingress.kubernetes.io/auth-idp-oidc": _PROVIDER.format(secret=f"{options.name}-oidc"),
            "alb.ingress.kubernetes.io/auth-on-unauthenticated-request": "authenticate",
        }
    return {
        "nginx.ingress.kubernetes.io/auth-type": "basic",
        "nginx.ingress.kubernetes.io/auth-secret": f"{options.name}-dashboard-users",
        "nginx.ingress.kubernetes.io/auth-realm": "Ray dashboard",
    }


# Endpoints of the provider: its owner puts the right ones here, in an overlay.
_PROVIDER = (
    '{{"issuer":"https://idp.invalid","authorizationEndpoint":"https://idp.invalid/authorize",'
    '"tokenEndpoint":"https://idp.invalid/token","userInfoEndpoint":"https://idp.invalid/userinfo",'
    '"secretName":"{secret}"}}'
)


def _ingress(
    options: Options, part: str, host: str, service: str, port: int, annotations: dict[str, str]
) -> Manifest:
    backend = {"service": {"name": service, "port": {"number": port}}}
    tls = {"hosts": [host], "secretName": f"{options.name}-{part}-tls"}
    if options.ingress == "alb":  # it finds a certificate of the host by itself
        del tls["secretName"]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": objects.metadata(options, f"{options.name}-{part}", part, annotations=annotations),
        "spec": {
            "ingressClassName": options.ingress,
            "tls": [tls],
            "rules": [
                {
                    "host": host,
                    "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
                }
            ],
        },
    }


def _policy(options: Options, component: str, rules: Sequence[Manifest]) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": objects.metadata(options, f"{options.name}-{component}", component),
        "spec": {
            "podSelector": {"matchLabels": objects.labels(options, component)},
            "policyTypes": ["Ingress"],
            "ingress": list(rules),
        },
    }


def _from(peers: list[Manifest], port: int) -> Manifest:
    return {"from": peers, "ports": [{"protocol": "TCP", "port": port}]}


def _from_ingress(options: Options, host: str | None, port: int) -> list[Manifest]:
    """The Ingress controller, where there is an Ingress. A load balancer of AWS comes from no pod: its
    traffic has an address of the subnets, which an overlay has to name."""
    if host is None or options.ingress == "alb":
        return []
    return [_from([_namespace(options.ingress_namespace)], port)]


def _prometheus(options: Options) -> Manifest:
    return _namespace(options.prometheus_namespace)


def _namespace(name: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {_NAMESPACE: name}}}
