"""A clock, an API server and a router in memory, with the semantics the control loop relies on."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Mapping, MutableSequence, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from phasegate.api.errors import ClusterError, Conflict, NotFound, Refused
from phasegate.control.ports import Key, Kind, Manifest
from phasegate.rollout.decision import Announcement
from phasegate.rollout.observed import Capabilities, RouteSeen
from phasegate.rollout.route import RoutePlan

_T = TypeVar("_T")
START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
_PLURALS = {
    "AgentDeployment": "agentdeployments",
    "RollbackPolicy": "rollbackpolicies",
    "AgentRollout": "agentrollouts",
    "RolloutAction": "rolloutactions",
    "Deployment": "deployments",
    "ControllerRevision": "controllerrevisions",
    "Service": "services",
    "ConfigMap": "configmaps",
    "Pod": "pods",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
    "HTTPRoute": "httproutes",
    "HTTPRouteFilter": "httproutefilters",
    "Gateway": "gateways",
    "GatewayClass": "gatewayclasses",
    "Event": "events",
}
_WITH_STATUS = {
    "agentdeployments",
    "agentrollouts",
    "rolloutactions",
    "rollbackpolicies",
    "httproutes",
}


class VirtualClock:
    """Time that moves only when a test says so."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        return START + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return self._seconds

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._seconds + seconds, next(self._order), future))
        await future

    def freeze(self, seconds: float) -> None:
        """Time passes and nobody wakes, as in a process that is stopped."""
        self._seconds += seconds

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass, waking who sleeps in the order of their times."""
        end = self._seconds + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._seconds = max(self._seconds, due)
            if not future.done():
                future.set_result(None)
                await settle()
        self._seconds = end
        await settle()


class OwnClock:
    """The operator's: its wall clock may be wrong, and may be set at any moment."""

    def __init__(self, true: VirtualClock) -> None:
        self._true = true
        self.wrong_by = timedelta(0)

    def now(self) -> datetime:
        return self._true.now() + self.wrong_by

    def monotonic(self) -> float:
        return self._true.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._true.sleep(seconds)


async def settle(rounds: int = 20) -> None:
    """Let everything that can run without time passing run."""
    loop = asyncio.get_running_loop()
    for _ in range(rounds):
        future: asyncio.Future[None] = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


class FakeCluster:
    """An API server: versions, generations, a status of its own, server-side apply, deletion."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._objects: dict[tuple[str, str | None, str], dict[str, Any]] = {}
        self._versions = itertools.count(1)
        self.writes: list[str] = []
        self.reads: list[str] = []
        self.broken: dict[str, ClusterError] = {}
        """Calls that fail: ``verb plural`` → error."""

    def put(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """What a user or another controller writes."""
        name = manifest["metadata"]["name"]
        key = (_PLURALS[manifest["kind"]], manifest["metadata"].get("namespace"), name)
        live = self._objects.get(key)
        new = _copied(dict(manifest))
        self._save(key, live, new)
        return _copied(self._objects[key])

    def set_status(self, kind: Kind, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """What another controller reports."""
        live = self._objects[(kind.plural, namespace, name)]
        live["status"] = _copied(dict(status))
        live["metadata"]["resourceVersion"] = str(next(self._versions))

    def remove(self, kind: Kind, namespace: str | None, name: str) -> None:
        del self._objects[(kind.plural, namespace, name)]

    def all(self, kind: Kind) -> list[dict[str, Any]]:
        found = [v for k, v in self._objects.items() if k[0] == kind.plural]
        return _copied(found)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        self._called("get", kind.plural, self.reads)
        return _copied(self._find(kind, namespace, name))

    async def list(
        self, kind: Kind, namespace: str | None, selector: str = ""
    ) -> Sequence[Manifest]:
        self._called("list", kind.plural, self.reads)
        wanted = [pair.partition("=")[::2] for pair in selector.split(",") if pair]
        return [
            _copied(item)
            for (plural, where, _), item in self._objects.items()
            if plural == kind.plural
            and namespace in (None, where)
            and all((item["metadata"].get("labels") or {}).get(k) == v for k, v in wanted)
        ]

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        plural = _PLURALS[manifest["kind"]]
        self._called(
            "dry-run" if dry_run else "apply", plural, self.reads if dry_run else self.writes
        )
        _check_containers(manifest)
        if dry_run:
            return manifest
        metadata = manifest["metadata"]
        key = (plural, metadata.get("namespace"), metadata["name"])
        live = self._objects.get(key)
        merged = _merge(_copied(live) if live else {}, manifest)
        if live is not None and merged == live:
            return _copied(live)
        self._save(key, live, merged)
        return _copied(self._objects[key])

    async def create(self, manifest: Manifest) -> Manifest:
        plural = _PLURALS[manifest["kind"]]
        self._called("create", plural, self.writes)
        metadata = manifest["metadata"]
        key = (plural, metadata.get("namespace"), metadata["name"])
        if key in self._objects:
            raise Conflict(f"{plural} {metadata['name']!r} already exists")
        self._save(key, None, _copied(dict(manifest)))
        return _copied(self._objects[key])

    async def patch_status(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        status: Mapping[str, Any],
        resource_version: str | None,
    ) -> Manifest:
        self._called("patch-status", kind.plural, self.writes)
        live = self._find(kind, namespace, name)
        if resource_version not in (None, live["metadata"]["resourceVersion"]):
            raise Conflict("the object has been modified")
        if live.get("status") != status:
            self.set_status(kind, namespace, name, status)
        return _copied(live)

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    ) -> Manifest:
        self._called("patch", kind.plural, self.writes)
        live = self._find(kind, namespace, name)
        if isinstance(patch, Mapping):
            self._save((kind.plural, namespace, name), live, _merge(_copied(live), patch))
            return _copied(self._find(kind, namespace, name))
        for operation in patch:
            *parents, last = operation["path"].strip("/").split("/")
            place = live
            for parent in parents:
                place = place[parent]
            if operation["op"] == "test" and place.get(last) != operation["value"]:
                raise Conflict("the object has been modified")
            if operation["op"] == "add":
                place[last] = operation["value"]
        live["metadata"]["resourceVersion"] = str(next(self._versions))
        if live["metadata"].get("deletionTimestamp") and not live["metadata"].get("finalizers"):
            self.remove(kind, namespace, name)
        return _copied(live)

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None = None
    ) -> None:
        self._called("delete", kind.plural, self.writes)
        live = self._objects.get((kind.plural, namespace, name))
        if live is not None and uid in (None, live["metadata"]["uid"]):
            self.remove(kind, namespace, name)

    def _called(self, verb: str, plural: str, log: MutableSequence[str]) -> None:
        log.append(f"{verb} {plural}")
        if f"{verb} {plural}" in self.broken:
            raise self.broken[f"{verb} {plural}"]

    def _find(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any]:
        live = self._objects.get((kind.plural, namespace, name))
        if live is None:
            raise NotFound(f"{kind.plural} {name!r} not found")
        return live

    def _save(
        self, key: tuple[str, str | None, str], live: dict[str, Any] | None, new: dict[str, Any]
    ) -> None:
        metadata = dict(live["metadata"]) if live else {}
        metadata |= new["metadata"]
        metadata["resourceVersion"] = str(next(self._versions))
        metadata.setdefault("uid", f"uid-{metadata['resourceVersion']}")
        metadata.setdefault("creationTimestamp", self._clock.now().isoformat())
        if key[0] in (*_WITH_STATUS, "deployments"):
            changed = live is None or live.get("spec") != new.get("spec")
            metadata["generation"] = metadata.get("generation", 0) + (1 if changed else 0)
            if live is not None and "status" in live:
                new["status"] = live["status"]
        self._objects[key] = {**new, "metadata": metadata}


class FakeRouter:
    """A gateway that accepts what it is given, and a router that writes only what differs."""

    def __init__(self, journal: list[str], *, mirror: bool = True) -> None:
        self.plan: RoutePlan | None = None
        self.history: list[RoutePlan] = []
        self.forgotten: list[Key] = []
        self.broken: ClusterError | None = None
        self.programmed = True
        self.on_write: Callable[[], None] = lambda: None
        self._journal = journal
        self._mirror = mirror

    async def observe(self, agent: Manifest, *, live: bool = False) -> RouteSeen:
        programmed = self.programmed and self.plan is not None
        abilities = Capabilities(mirror=self._mirror, mirror_percent=self._mirror, source="test")
        return RouteSeen(self.plan, programmed, "", abilities)

    async def write(self, agent: Manifest, plan: RoutePlan) -> None:
        if plan == self.plan:
            return
        self._journal.append("route")
        if self.broken is not None:
            raise self.broken
        self.plan = plan
        self.history.append(plan)
        self.on_write()

    async def remove(self, agent: Manifest) -> None:
        if self.plan is None:
            return
        self._journal.append("remove route")
        if self.broken is not None:
            raise self.broken
        self.plan = None
        self.on_write()

    def forget(self, key: Key) -> None:
        self.forgotten.append(key)


class FakeRecorder:
    """Keeps what was announced."""

    def __init__(self) -> None:
        self.announced: list[Announcement] = []

    async def announce(self, agent: Manifest, announcement: Announcement) -> None:
        self.announced.append(announcement)


def _check_containers(manifest: Manifest) -> None:
    """What the API server demands of a Deployment's containers; raises Refused."""
    if manifest["kind"] != "Deployment":
        return
    containers = manifest["spec"]["template"]["spec"].get("containers")
    if not containers:
        raise Refused("spec.template.spec.containers: Required value")
    for container in containers:
        if not isinstance(container, Mapping) or not container.get("image"):
            raise Refused("spec.template.spec.containers[0].image: Required value")


def _copied(value: _T) -> _T:
    """A deep copy of plain data: much faster than one of anything."""
    copied: Any = value
    if isinstance(value, dict):
        copied = {name: _copied(item) for name, item in value.items()}
    elif isinstance(value, (list, tuple)):
        copied = [_copied(item) for item in value]
    return cast(_T, copied)


def _merge(live: Any, wanted: Any) -> Any:
    """Server-side apply as far as it matters here: mappings merge, everything else is replaced."""
    if isinstance(live, dict) and isinstance(wanted, Mapping):
        return {**live, **{k: _merge(live.get(k), v) for k, v in wanted.items()}}
    return _copied(wanted)
