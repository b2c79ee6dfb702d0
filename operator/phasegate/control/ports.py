"""The ports of the control loop: what it needs from the world, as Protocols that adapters implement."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from phasegate.rollout.decision import Announcement
from phasegate.rollout.observed import RouteSeen
from phasegate.rollout.route import RoutePlan

Manifest = Mapping[str, Any]
"""A Kubernetes object as plain data: typed models drop the fields they do not know."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Where a kind lives at the API server."""

    api_version: str
    kind: str
    plural: str


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Namespace and name of an AgentDeployment: the unit of work."""

    namespace: str
    name: str


class Cluster(Protocol):
    """The API server. Errors are those of ``phasegate.api.errors``; every call has a deadline."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        """The live object; raises NotFound."""

    async def list(
        self, kind: Kind, namespace: str | None, selector: str = ""
    ) -> Sequence[Manifest]:
        """Live objects with the given label selector."""

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Server-side apply of the fields we own, forced; the object as it is now."""

    async def create(self, manifest: Manifest) -> Manifest:
        """Create; raises Conflict if it exists."""

    async def patch_status(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        status: Mapping[str, Any],
        resource_version: str | None,
    ) -> Manifest:
        """Replace ``.status`` (merge patch with explicit nulls); Conflict unless at `resource_version`."""

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    ) -> Manifest:
        """Merge patch (mapping) or JSON patch (sequence) of the main resource."""

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None = None
    ) -> None:
        """Delete in the background; an object already gone is fine."""


@runtime_checkable
class ByAgent(Protocol):
    """A cluster that knows which agent an object is about without reading every object."""

    async def about(self, kind: Kind, key: Key) -> Sequence[Manifest]:
        """Objects about an agent, and maybe others."""


class Router(Protocol):
    """One way to split traffic (an HTTPRoute, a mesh, pod counts)."""

    async def observe(self, agent: Manifest, *, live: bool = False) -> RouteSeen:
        """The route of `agent` as it is now; `live`: ask the API server, whatever is remembered."""

    async def write(self, agent: Manifest, plan: RoutePlan) -> None:
        """Make the route say `plan`: one idempotent write."""

    async def remove(self, agent: Manifest) -> None:
        """Take the route of `agent` away, if it has one: requests are sent nowhere any more."""

    def forget(self, key: Key) -> None:
        """The agent is gone, and its route with it."""


@dataclass(frozen=True, slots=True)
class RawSeries:
    """One raw series as the provider stores it: name, labels, (scrape time in unix s, value)."""

    name: str
    labels: Mapping[str, str]
    samples: tuple[tuple[float, float], ...]
    identity: Hashable = field(default=None, compare=False)
    """The same for the same series of a provider, and quick to look up; None: name and labels are."""


class MetricsProvider(Protocol):
    """A Prometheus-compatible store."""

    async def raw(self, selector: str, start: float, end: float) -> Sequence[RawSeries]:
        """Raw samples with their scrape times in (start, end]; raises ProviderError, never partial data."""

    async def instant(self, query: str, at: float) -> Sequence[RawSeries]:
        """Value of a PromQL expression at one time; raises ProviderError."""

    async def stepped(
        self, query: str, start: float, end: float, step: float
    ) -> Sequence[RawSeries]:
        """Values of a PromQL expression at start, start + step, … end; raises ProviderError."""


class Clock(Protocol):
    """Time, so that tests can own it."""

    def now(self) -> datetime:
        """Wall clock, UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class Recorder(Protocol):
    """Where transitions are announced (Kubernetes Events, the log)."""

    async def announce(self, agent: Manifest, announcement: Announcement) -> None:
        """Best effort: never raises, never delays a decision."""


class Notifier(Protocol):
    """Where transitions are told outside of the cluster (chat, pager, mail)."""

    def notify(
        self, agent: Manifest, announcement: Announcement, at: datetime, *, again: bool
    ) -> None:
        """Never raises, never waits. `again`: a process before this one may have told it."""


class References(Protocol):
    """Which agents use which policy and ConfigMaps, so that a change of those reaches them."""

    def set(self, key: Key, policy: str | None, config_maps: Iterable[str] = ()) -> None:
        """The agent `key` uses these, and no others, of its namespace."""

    def forget(self, key: Key) -> None:
        """The agent is gone."""
