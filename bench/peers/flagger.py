"""Flagger, on the Gateway API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peers.stage import GATEWAY
from bench.peers.tools import (
    HTTP_ROUTES,
    WEIGHT,
    Change,
    Json,
    Kind,
    Setting,
    Sites,
    pods,
    queries,
)

_API = "flagger.app/v1beta1"
_CANARIES = Kind(f"/apis/{_API}/namespaces/{{namespace}}/canaries")
_FASTEST = Setting("every 10 s (its floor), threshold 1", interval=10, failures=1, qps=400)
_DEPLOYMENTS = "/apis/apps/v1/namespaces/{namespace}/deployments"


@dataclass(frozen=True)
class Flagger:
    """`bench.peers.tools.Tool`."""

    program: Path
    name: str = "Flagger"
    namespace: str = "flagger"
    main: Kind = _CANARIES
    route: Kind = HTTP_ROUTES
    fastest: Setting = _FASTEST

    @property
    def settings(self) -> Sequence[Setting]:
        """The documentation's example looks every minute, with threshold 5."""
        documented = Setting("documented: every 1 min, threshold 5", interval=60, failures=5)
        return self.fastest, documented

    def command(self, sites: Sites, setting: Setting) -> Sequence[str]:
        """As its chart runs it."""
        qps = setting.qps
        limits = (f"-kubeconfig-qps={qps}", f"-kubeconfig-burst={2 * qps}") if qps else ()
        return (
            *(str(self.program), f"-kubeconfig={sites.kubeconfig}", "-log-level=info"),
            *("-mesh-provider=gatewayapi:v1", f"-metrics-server={sites.prometheus}"),
            *(f"-namespace={self.namespace}", f"-port={sites.port}", *limits),
        )

    def objects(self, subject: str, setting: Setting, metrics: int, sites: Sites) -> list[Json]:
        """A Deployment, what to measure, and the Canary."""
        asked = queries(self.namespace, subject, "canary", metrics)
        return [
            _deployment(subject),
            *(_template(subject, name, query, sites) for name, (query, _) in asked.items()),
            _canary(subject, setting, asked, sites),
        ]

    def next_revision(self, subject: str) -> Change:
        """A label of the pods."""
        template = {"metadata": {"labels": {"prompt": "2"}}}
        path = f"{_DEPLOYMENTS.format(namespace=self.namespace)}/{subject}"
        return Change(path, {"spec": {"template": template}})

    def settled(self, item: Json) -> bool:
        """Initialized, by its own word."""
        return bool(item.get("status", {}).get("phase") == "Initialized")


def _deployment(subject: str) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": subject},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": subject}},
            "template": pods({"app": subject}),
        },
    }


def _template(subject: str, name: str, query: str, sites: Sites) -> Json:
    provider = {"type": "prometheus", "address": sites.prometheus}
    return {
        "apiVersion": _API,
        "kind": "MetricTemplate",
        "metadata": {"name": f"{subject}-{name}"},
        "spec": {"provider": provider, "query": query},
    }


def _canary(
    subject: str, setting: Setting, asked: Mapping[str, tuple[str, float]], sites: Sites
) -> Json:
    interval = f"{setting.interval}s"
    metrics = [
        {
            "name": name,
            "templateRef": {"name": f"{subject}-{name}"},
            "thresholdRange": {"max": limit},
            "interval": interval,
        }
        for name, (_, limit) in asked.items()
    ]
    # A gate that is never opened: the canary stays at its weight, and is judged all the time.
    stay = {"name": "stay", "type": "confirm-promotion", "url": f"{sites.exporter}/no"}
    return {
        "apiVersion": _API,
        "kind": "Canary",
        "metadata": {"name": subject},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": subject},
            "service": {
                "port": 8080,
                "hosts": [f"{subject}.example.com"],
                "gatewayRefs": [GATEWAY],
            },
            "progressDeadlineSeconds": 7200,
            "analysis": {
                "interval": interval,
                "threshold": setting.failures,
                "maxWeight": WEIGHT,
                "stepWeight": WEIGHT,
                "metrics": metrics,
                "webhooks": [stay],
            },
        },
    }
