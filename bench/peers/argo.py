"""Argo Rollouts, with its built-in router that writes TraefikServices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peers.tools import HOLD_S, WEIGHT, Change, Json, Kind, Setting, Sites, pods, queries

_API = "argoproj.io/v1alpha1"
_ROLLOUTS = Kind(f"/apis/{_API}/namespaces/{{namespace}}/rollouts")
_WEIGHTS = Kind("/apis/traefik.io/v1alpha1/namespaces/{namespace}/traefikservices")
_FIRST_S = 10
"""The first look comes when the ten seconds that are looked at are full."""
_FASTEST = Setting("every 1 s, failureLimit 0", interval=1, qps=400)


@dataclass(frozen=True)
class ArgoRollouts:
    """`bench.peers.tools.Tool`."""

    program: Path
    name: str = "Argo Rollouts"
    namespace: str = "argo"
    main: Kind = _ROLLOUTS
    route: Kind = _WEIGHTS
    fastest: Setting = _FASTEST

    @property
    def settings(self) -> Sequence[Setting]:
        """The documentation's example looks every 5 minutes, with failureLimit 3."""
        return (
            self.fastest,
            Setting("every 10 s, failureLimit 0", interval=10),
            Setting("documented: every 5 min, failureLimit 3", interval=300, failures=3),
        )

    def command(self, sites: Sites, setting: Setting) -> Sequence[str]:
        """As its documentation runs it out of a cluster, without its election."""
        limits = (f"--qps={setting.qps}", f"--burst={2 * setting.qps}") if setting.qps else ()
        return (
            *(str(self.program), f"--kubeconfig={sites.kubeconfig}", "--leader-elect=false"),
            *("--namespaced", f"--namespace={self.namespace}", "--loglevel=warn"),
            *(f"--metricsPort={sites.port}", f"--healthzPort={sites.port + 1}", *limits),
        )

    def objects(self, subject: str, setting: Setting, metrics: int, sites: Sites) -> list[Json]:
        """Two Services, their weights, what to measure, and the Rollout."""
        asked = queries(self.namespace, subject, "canary", metrics)
        return [
            _service(f"{subject}-stable", subject),
            _service(f"{subject}-canary", subject),
            {
                "apiVersion": "traefik.io/v1alpha1",
                "kind": "TraefikService",
                "metadata": {"name": subject},
                "spec": {
                    "weighted": {
                        "services": [
                            {"name": f"{subject}-stable", "port": 8080, "weight": 100},
                            {"name": f"{subject}-canary", "port": 8080, "weight": 0},
                        ]
                    }
                },
            },
            {
                "apiVersion": _API,
                "kind": "AnalysisTemplate",
                "metadata": {"name": subject},
                "spec": {"metrics": _metrics(asked, setting, sites.prometheus)},
            },
            _rollout(subject),
        ]

    def next_revision(self, subject: str) -> Change:
        """A label of the pods."""
        template = {"metadata": {"labels": {"prompt": "2"}}}
        path = f"{self.main.of(self.namespace)}/{subject}"
        return Change(path, {"spec": {"template": template}})

    def settled(self, item: Json) -> bool:
        """Healthy, by its own word."""
        return bool(item.get("status", {}).get("phase") == "Healthy")


def _metrics(asked: Mapping[str, tuple[str, float]], setting: Setting, address: str) -> list[Json]:
    return [
        {
            "name": name,
            "initialDelay": f"{_FIRST_S}s",
            "interval": f"{setting.interval}s",
            "failureLimit": setting.failures,
            "successCondition": f"len(result) == 0 || isNaN(result[0]) || result[0] <= {limit}",
            "provider": {"prometheus": {"address": address, "query": query}},
        }
        for name, (query, limit) in asked.items()
    ]


def _service(name: str, subject: str) -> Json:
    spec = {"selector": {"app": subject}, "ports": [{"port": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def _rollout(subject: str) -> Json:
    canary = {
        "stableService": f"{subject}-stable",
        "canaryService": f"{subject}-canary",
        "trafficRouting": {"traefik": {"weightedTraefikServiceName": subject}},
        "analysis": {"templates": [{"templateName": subject}], "startingStep": 1},
        "steps": [{"setWeight": WEIGHT}, {"pause": {"duration": HOLD_S}}],
    }
    return {
        "apiVersion": _API,
        "kind": "Rollout",
        "metadata": {"name": subject},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": subject}},
            "template": pods({"app": subject}),
            "strategy": {"canary": canary},
        },
    }
