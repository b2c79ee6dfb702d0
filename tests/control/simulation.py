"""A cluster that outlives its operator: every call may fail, and after any write the process may die.

The router is the real one, on HTTPRoutes; events are objects. What must never happen is looked for
at each write, in the state that the API server then has.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from phasegate.adapters.kinds import GATEWAY, GATEWAY_CLASS, HTTP_ROUTE
from phasegate.adapters.notifiers.marks import EventMarks
from phasegate.adapters.recorder import event
from phasegate.adapters.routers.gatewayapi import GatewayApiRouter
from phasegate.adapters.routers.httproute import parse
from phasegate.api.errors import ClusterError
from phasegate.api.rolloutaction import TAKES_BACK
from phasegate.control import kinds
from phasegate.control.notifying import Notifiers, Notifying
from phasegate.control.outbox import Notification
from phasegate.control.ports import Key, Manifest
from phasegate.rollout.decision import Announcement
from phasegate.rollout.labels import REVISION
from phasegate.rollout.notifiers import Known
from phasegate.rollout.observed import RouteSeen
from phasegate.rollout.route import RoutePlan
from phasegate.rollout.verifying import verify

from tests.control.fakes import FakeRecorder, FakeRouter, VirtualClock
from tests.control.simulated_cluster import Call, Remembered, SimulatedCluster
from tests.control.world import KEY, World

WATCHED = frozenset({"agentdeployments", "deployments", "services", "configmaps", "httproutes"})
"""What the edge tells of, whoever wrote it."""
ADMISSION = Path("config/admission")


class GatewayRouter(FakeRouter):
    """The real router of one process, with what the world wants to know of the route."""

    def __init__(self, cluster: SimulatedCluster, clock: VirtualClock) -> None:
        super().__init__([])
        self._cluster = cluster
        self._real = GatewayApiRouter(cluster, monotonic=clock.monotonic)

    @property
    def plan(self) -> RoutePlan | None:
        """What the live route says."""
        found = self._cluster.all(HTTP_ROUTE)
        return parse(found[0]) if found else None

    @plan.setter
    def plan(self, plan: RoutePlan | None) -> None:
        """Only the router writes it."""

    async def observe(self, agent: Manifest, *, live: bool = False) -> RouteSeen:
        return await self._real.observe(agent, live=live)

    async def write(self, agent: Manifest, plan: RoutePlan) -> None:
        before = self.plan
        await self._real.write(agent, plan)
        self._tell(before)

    async def remove(self, agent: Manifest) -> None:
        before = self.plan
        await self._real.remove(agent)
        self._tell(before)

    def forget(self, key: Key) -> None:
        self._real.forget(key)

    def _tell(self, before: RoutePlan | None) -> None:
        if self.plan != before:
            self.on_write()


class Events(FakeRecorder):
    """Announcements become Events at once, so that one can be lost in a crash."""

    def __init__(self, cluster: SimulatedCluster, clock: VirtualClock) -> None:
        super().__init__()
        self._cluster, self._clock = cluster, clock

    async def announce(self, agent: Manifest, announcement: Announcement) -> None:
        self.announced.append(announcement)
        with suppress(ClusterError):  # Conflict: told by the process before this one
            await self._cluster.create(event(agent, announcement, "sim", self._clock.now()))


class Pager:
    """A channel that outlives the operator, and knows what it has by its id."""

    def __init__(self) -> None:
        self.got: list[Notification] = []

    async def send(self, note: Notification) -> None:
        self.got.append(note)

    async def close(self) -> None:
        pass

    @property
    def told(self) -> dict[str, Notification]:
        """What people see."""
        return {note.id: note for note in self.got}


class Simulation(World):
    """The world, an operator in it that may die, and what must hold at every write."""

    def __init__(self, *, downtime: float = 2.0, every: float = 1.0) -> None:
        """`downtime`: seconds until another process takes a dead one's place; `every`: between scrapes."""
        super().__init__(every=every)
        self.cluster: SimulatedCluster = SimulatedCluster(self.clock)
        self.reads = self.cluster
        self.remembered: Remembered | None = None
        self.recorder = Events(self.cluster, self.clock)
        self.pager = Pager()
        self.gateway_reports = True
        self.unready: set[str] = set()
        """Revisions whose pods do not become ready."""
        self.wrong: list[str] = []
        """What must never happen, and did."""
        self.deaths = 0
        self._downtime = downtime
        self._process = AsyncExitStack()
        self.cluster.on_write = self._look
        self.router = GatewayRouter(self.cluster, self.clock)
        for manifest in _surroundings():
            self.cluster.put(manifest)

    def notifiers(self) -> Notifiers:
        """The pager, with the marks of the real operator."""
        known = Known({"pager": frozenset()}, ("pager",))
        marks = EventMarks(self.cluster, "sim")
        return Notifiers({"pager": Notifying(self.pager)}, known, marks, self.own)

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[World]:
        self.router = GatewayRouter(self.cluster, self.clock)
        async with super().operator() as world:
            yield world

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Simulation]:
        """The world with an operator, for as long as the block."""
        await self.start()
        try:
            yield self
        finally:
            await self._process.aclose()

    async def start(self) -> None:
        """A new process."""
        self.cluster.dead = False
        self._process = AsyncExitStack()
        await self._process.enter_async_context(self.operator())

    async def kill(self, seconds: float | None = None) -> None:
        """The process ends without a word; the next starts after `seconds`, the world goes on."""
        self.cluster.dead = True
        self.deaths += 1
        await self._process.aclose()
        for _ in range(round(self._downtime if seconds is None else seconds)):
            await self.clock.advance(1)
            self._start_pods()
            self._serve_and_scrape()
        await self.start()

    async def run(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            if self.cluster.dead:
                await self.kill()
            await self.clock.advance(1)
        if self.cluster.dead:
            await self.kill()

    async def until(self, what: str, met: Callable[[], bool], most: int = 400) -> None:
        """Let time pass until the condition is met; fail with `what` was waited for."""
        for _ in range(most):
            if met():
                return
            await self.run(1)
        raise AssertionError(f"never {what}: {self.status.get('phase')} {self.status}")

    async def until_phase(self, phase: str, most: int = 600) -> None:
        await self.until(
            phase, lambda: self.agent_exists and self.status.get("phase") == phase, most
        )

    @property
    def agent_exists(self) -> bool:
        return bool(self.cluster.all(kinds.AGENT_DEPLOYMENT))

    @property
    def plan(self) -> RoutePlan | None:
        """What the live route says."""
        return self.router.plan

    def delete_agent(self) -> None:
        """``kubectl delete``: it goes when nobody holds it any more."""
        live = self.object
        if live["metadata"].get("finalizers"):
            live["metadata"]["deletionTimestamp"] = self.clock.now().isoformat()
            self.cluster.put(live)
        else:
            self.cluster.remove(kinds.AGENT_DEPLOYMENT, KEY.namespace, KEY.name)
        self.queue.add(KEY)

    def remember(self) -> None:
        """From the next process on, what is not asked for live is remembered."""
        self.reads = self.remembered = Remembered(self.clock, self.cluster)
        self.cluster.on_conflict = self.remembered.hear
        self.remembered.hear()

    def set_clock(self, seconds: float) -> None:
        """The operator's wall clock is wrong by so much from now on."""
        self.own.wrong_by = timedelta(seconds=seconds)

    def altered(self) -> list[str]:
        """What `phasegate verify` says of the records, of the agent and of people's decisions."""
        objects = [
            item
            for kind in (kinds.AGENT_DEPLOYMENT, kinds.AGENT_ROLLOUT, kinds.ROLLOUT_ACTION)
            for item in self.cluster.all(kind)
        ]
        return [f"{found.name}: {what}" for found in verify(objects) for what in found.altered]

    def act(self, name: str, verb: str, revision: str, **spec: Any) -> None:
        """A person decides."""
        self.cluster.put(
            {
                "apiVersion": "phasegate.dev/v1alpha1",
                "kind": "RolloutAction",
                "metadata": {"name": name, "namespace": KEY.namespace},
                "spec": {
                    **{"agent": KEY.name, "verb": verb, "revision": revision},
                    **{"reason": "it looks so", "actor": "alice"},
                    **spec,
                },
            }
        )
        if verb in TAKES_BACK:
            self.reconciler.ask(KEY)
        else:
            self.queue.add(KEY)

    def _start_pods(self) -> None:
        self.cluster.collect_garbage()
        if self.remembered is not None and self.remembered.told and self.remembered.hear():
            self.queue.add(KEY)  # it is remembered first, then told of
        for deployment in self.cluster.all(kinds.DEPLOYMENT):
            metadata, wanted = deployment["metadata"], deployment["spec"].get("replicas", 1)
            up = self.pods_start and metadata["labels"].get(REVISION) not in self.unready
            status = {"readyReplicas": wanted if up else 0}
            if (deployment.get("status") or {}) != status:
                name = metadata["name"]
                self.cluster.set_status(kinds.DEPLOYMENT, KEY.namespace, name, status)
                self.queue.add(KEY)
        if self.gateway_reports:
            self._report()

    def _report(self) -> None:
        """The gateway has looked at the newest change of each route."""
        for route in self.cluster.all(HTTP_ROUTE):
            generation = route["metadata"]["generation"]
            conditions = [
                {"type": name, "status": "True", "observedGeneration": generation, "reason": name}
                for name in ("Accepted", "ResolvedRefs")
            ]
            parents = [
                {"parentRef": ref, "controllerName": "x", "conditions": conditions}
                for ref in route["spec"]["parentRefs"]
            ]
            if (route.get("status") or {}).get("parents") != parents:
                name = route["metadata"]["name"]
                self.cluster.set_status(HTTP_ROUTE, KEY.namespace, name, {"parents": parents})
                self.queue.add(KEY)

    def _look(self, call: Call) -> None:
        """What must hold whatever happened: checked on what is stored, right after a write."""
        if self.remembered is not None:
            self.remembered.hear()
        if call.plural in WATCHED:
            self.queue.add(KEY)
        if call.plural == HTTP_ROUTE.plural and self.agent_exists:
            wrong = above_its_step(self.status, self.plan)
            if wrong:
                self.wrong.append(f"{self.clock.monotonic():.0f} s, {call}: {wrong}")


def above_its_step(status: Mapping[str, Any], plan: RoutePlan | None) -> str | None:
    """How the route gives a revision more than the stored status allows; None if it does not."""
    if plan is None:
        return None
    phase = (status.get("progress") or {}).get("phase") or {}
    allowed = {"Full": 100, "Canary": phase.get("weight", 0)}.get(phase.get("type", ""), 0)
    stable, candidate = status.get("stableRevision"), status.get("candidateRevision")
    known, users = {stable, candidate, status.get("previousRevision")}, plan.revisions()
    if candidate not in (None, stable) and plan.percent(str(candidate)) > allowed:
        return f"{candidate} has {plan.percent(str(candidate))} %, its step allows {allowed} %"
    if plan.mirror is not None and phase.get("type") not in ("Dark", "Shadow"):
        return f"requests are copied to {plan.mirror.revision} outside a rehearsal"
    strangers = [r for r, _ in users if r not in known and plan.percent(r) > 0]
    return f"users are sent to {strangers}, of which nobody knows" if strangers else None


def _surroundings() -> list[dict[str, Any]]:
    """A gateway of a known kind, and the admission policies that make people's actions count."""
    gateway = {
        "apiVersion": GATEWAY.api_version,
        "kind": GATEWAY.kind,
        "metadata": {"name": "lab", "namespace": KEY.namespace},
        "spec": {"gatewayClassName": "envoy"},
    }
    gateway_class = {
        "apiVersion": GATEWAY_CLASS.api_version,
        "kind": GATEWAY_CLASS.kind,
        "metadata": {"name": "envoy"},
        "spec": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
    }
    files = (ADMISSION / name for name in ("rolloutactions.yaml", "authors.yaml"))
    policies = [m for file in files for m in yaml.safe_load_all(file.read_text())]
    return [gateway, gateway_class, *policies]
