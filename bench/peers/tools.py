"""What a progressive-delivery tool is to the benchmark: how it is run, what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Json = dict[str, Any]

WEIGHT = 20
"""Percent of the users a candidate gets in every part of the benchmark."""
LIMIT = 0.05
"""Share of failed calls that is too much, for everybody."""
SEVEN = 7
HOLD_S = 7200
"""A candidate stays at its step this long if nobody takes it back."""


@dataclass(frozen=True)
class Setting:
    """How often a tool looks, and how often it may be disappointed before it acts.

    `interval` (seconds) and `failures` are the tool's own; Phasegate has neither. `qps`: the limit
    on requests to the API server, where it is not the tool's default.
    """

    name: str
    interval: int = 0
    failures: int = 0
    qps: int = 0


@dataclass(frozen=True)
class Sites:
    """Where a tool finds the others: kubeconfig, Prometheus, what only the benchmark serves."""

    kubeconfig: Path
    prometheus: str
    exporter: str
    folder: Path
    port: int
    """The first of three ports that are free for the tool."""


@dataclass(frozen=True)
class Kind:
    """The collection of a kind: `path` with `{namespace}`, as in `/apis/…/namespaces/{namespace}/x`."""

    path: str

    def of(self, namespace: str) -> str:
        """The collection in a namespace."""
        return self.path.format(namespace=namespace)


HTTP_ROUTES = Kind("/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes")


@dataclass(frozen=True)
class Change:
    """A PATCH (merge) of one object."""

    path: str
    body: Json


class Tool(Protocol):
    """One of the three. All names are those of subjects: one agent each, in the tool's namespace."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def namespace(self) -> str:
        """The namespace of its subjects."""
        ...

    @property
    def main(self) -> Kind:
        """The kind whose status says how a subject is."""
        ...

    @property
    def route(self) -> Kind:
        """The kind in which the weights are written."""
        ...

    @property
    def fastest(self) -> Setting:
        """The setting at which it is fastest."""
        ...

    @property
    def settings(self) -> Sequence[Setting]:
        """The fastest setting first, then those of its documentation."""
        ...

    def command(self, sites: Sites, setting: Setting) -> Sequence[str]:
        """How it is started; may write files into `sites.folder`."""
        ...

    def objects(self, subject: str, setting: Setting, metrics: int, sites: Sites) -> list[Json]:
        """What a user applies for one agent, judged by `metrics` (1 or 7) metrics."""
        ...

    def next_revision(self, subject: str) -> Change:
        """What a user changes to get a new revision."""
        ...

    def settled(self, item: Json) -> bool:
        """Whether the first revision serves, by the object of the main kind."""
        ...


def shares(route: Json, subject: str) -> dict[str, float]:
    """What a route says, HTTPRoute or TraefikService: revision -> share of the calls.

    All three call the Service of a revision `<subject>-<revision>`.
    """
    spec = route["spec"]
    if "weighted" in spec:
        refs = spec["weighted"]["services"]
    else:
        refs = next((r["backendRefs"] for r in spec["rules"] if r.get("backendRefs")), ())
    weights = {ref["name"].removeprefix(f"{subject}-"): ref.get("weight", 1) for ref in refs}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()} if total else {}


def pods(labels: Mapping[str, str]) -> Json:
    """A pod template; nothing of it is ever run."""
    container = {"name": "agent", "image": "phasegate.dev/sample-agent:1"}
    port = {"name": "http", "containerPort": 8080}
    return {
        "metadata": {"labels": dict(labels)},
        "spec": {"containers": [{**container, "ports": [port]}]},
    }


def queries(
    namespace: str, subject: str, revision: str, metrics: int
) -> dict[str, tuple[str, float]]:
    """Name -> PromQL and the largest value that is well, of the first or of all seven metrics.

    The questions a user of the peers would write for what Phasegate knows by name, each about the
    last ten seconds: shorter than in their documentations, and so sooner.
    """
    here = f'namespace="{namespace}",agent="{subject}",revision="{revision}"'

    def rate(series: str, more: str = "") -> str:
        return f"sum(rate({series}{{{here}{more}}}[10s]))"

    def outcome(word: str) -> str:
        return rate("agent_requests_total", f',outcome="{word}"')

    calls = f"clamp_min({rate('agent_requests_total')}, 0.001)"
    reviewed = f"clamp_min({rate('agent_eval_total')}, 0.001)"
    buckets = f"sum by (le) (rate(agent_request_duration_seconds_bucket{{{here}}}[10s]))"
    every = {
        "error-rate": (f"{outcome('error')} / {calls}", LIMIT),
        "escalation-rate": (f"{outcome('escalated')} / {calls}", 0.5),
        "latency-p95": (f"histogram_quantile(0.95, {buckets}) < 1000 or vector(0)", 10.0),
        "cost-per-call": (f"{rate('agent_cost_usd_total')} / {calls}", 1.0),
        "tokens-per-call": (f"{rate('agent_tokens_total')} / {calls}", 100_000.0),
        "inaccuracy": (f"1 - {rate('agent_eval_passed_total')} / {reviewed}", 1.0),
        "safety-flags": (rate("agent_safety_flags_total"), 0.0),
    }
    return {name: every[name] for name in list(every)[:metrics]}
