"""The whole control loop on virtual time: an API server, a gateway, pods, traffic and scrapes."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from phasegate.adapters.zones import IanaZones
from phasegate.api.errors import ClusterError, ProviderError
from phasegate.control import kinds
from phasegate.control.calendars import Calendars
from phasegate.control.evidence_store import EvidenceStore
from phasegate.control.execute import Executor
from phasegate.control.foretelling import Foreteller
from phasegate.control.notifying import Notifiers
from phasegate.control.observe import Observer
from phasegate.control.pace import Pace
from phasegate.control.ports import Cluster, Key, MetricsProvider, RawSeries
from phasegate.control.queue import WorkQueue
from phasegate.control.reconcile import Reconciler
from phasegate.control.resync import resync
from phasegate.control.sampler import Sampler
from phasegate.rollout.calendar import Calendar
from phasegate.rollout.labels import MODE, REVISION

from tests.control.fakes import (
    FakeCluster,
    FakeRecorder,
    FakeRouter,
    OwnClock,
    VirtualClock,
    settle,
)

KEY = Key("team", "support")
PHASES: list[dict[str, Any]] = [
    {"name": "dark", "type": "Dark", "mirrorPercent": 100, "minDuration": "30s"},
    {"name": "canary-20", "type": "Canary", "weight": 20, "minDuration": "60s"},
    {"name": "full", "type": "Full", "minDuration": "30s"},
]


def agent(**spec: Any) -> dict[str, Any]:
    """An AgentDeployment as a user writes it."""
    default: dict[str, Any] = {
        "agent": {"systemPrompt": "Be kind.", "sideEffects": "DryRun"},
        "template": {"spec": {"containers": [{"name": "agent", "image": "example.com/agent:1"}]}},
        "replicas": 2,
        "approvals": {"author": "MayApprove"},
        "service": {"port": 8080},
        "traffic": {"gatewayAPI": {"parentRefs": [{"name": "lab"}]}},
        "strategy": {"phases": PHASES},
    }
    return {
        "apiVersion": "phasegate.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": KEY.name, "namespace": KEY.namespace},
        "spec": default | spec,
    }


class FakeProvider:
    """A Prometheus that scrapes what the agents count."""

    def __init__(self) -> None:
        self._totals: dict[tuple[tuple[str, str], ...], float] = defaultdict(float)
        self.series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
        self.queries: list[tuple[str, float, float]] = []
        self.asked: list[str] = []
        self.value = 0.0
        self.remembers = False
        """It answers for the past as well."""
        self.values: Callable[[float], float] = lambda at: self.value
        """What a query's expression is worth at a time."""
        self.broken = False

    async def raw(self, selector: str, start: float, end: float) -> Sequence[RawSeries]:
        self.queries.append((selector, start, end))
        if self.broken:
            raise ProviderError("metrics provider default: not reachable")
        wanted = dict(re.findall(r'(\w+)=~"([^"]*)"', selector))
        found = []
        for labels, samples in self.series.items():
            known = dict(labels)
            if all(re.fullmatch(p.replace("\\\\", "\\"), known[n]) for n, p in wanted.items()):
                name = known.pop("__name__")
                window = tuple(s for s in samples if start < s[0] <= end)
                if window:
                    found.append(RawSeries(name, known, window))
        return found

    async def instant(self, query: str, at: float) -> Sequence[RawSeries]:
        raise AssertionError("queries are asked at regular times")

    async def stepped(
        self, query: str, start: float, end: float, step: float
    ) -> Sequence[RawSeries]:
        self.asked.append(query)
        if self.broken:
            raise ProviderError("metrics provider default: not reachable")
        times = [start + n * step for n in range(int((end - start) / step) + 1)]
        if query.startswith("{"):
            return await self._past(query, times) if self.remembers else []
        return [RawSeries("", {}, tuple((at, self.values(at)) for at in times))]

    async def _past(self, selector: str, times: Sequence[float]) -> list[RawSeries]:
        """Each series at these times, as long as its last sample was no longer than five minutes ago."""
        found = []
        for raw in await self.raw(selector, 0.0, times[-1]):
            points = []
            for at in times:
                last = next((s for s in reversed(raw.samples) if s[0] <= at), None)
                if last is not None and at - last[0] < 300:
                    points.append((at, last[1]))
            if points:
                found.append(RawSeries(raw.name, raw.labels, tuple(points)))
        return found

    def count(self, at: float, increments: Mapping[tuple[tuple[str, str], ...], float]) -> None:
        for labels, amount in increments.items():
            self._totals[labels] += amount
        for labels, total in self._totals.items():
            self.series.setdefault(labels, []).append((at, total))

    def lose_everything(self) -> None:
        """It starts again with an empty database; agents go on counting."""
        self.series.clear()


class World:
    """One API server and gateway; operators come and go."""

    def __init__(self, *, mirror: bool = True, every: float = 1.0) -> None:
        """`every`: seconds between two scrapes."""
        self.every = every
        self.clock = VirtualClock()
        self.own = OwnClock(self.clock)
        """The operator's clock."""
        self.everybody = Calendar()
        """The administrator's calendar."""
        self.workers = 1
        self.tick = 1.0
        """Seconds between two looks at the metrics at most."""
        self.cluster = FakeCluster(self.clock)
        self.reads: Cluster = self.cluster
        """What is remembered of the API server."""
        self.router = FakeRouter(self.cluster.writes, mirror=mirror)
        self.recorder = FakeRecorder()
        self.provider = FakeProvider()
        self.metrics: MetricsProvider = self.provider
        """What the operator asks: what the agents count, or a server in front of it."""
        self.calls_per_second = 50.0
        self.error_rate: dict[str, float] = defaultdict(lambda: 0.01)
        self.counting: dict[tuple[str, str], float] = {}
        """What else pods count, per second, by revision and name of the counter."""
        self.pods_start = True
        self._credit: dict[tuple[str, str], float] = defaultdict(float)

    def apply(self, **spec: Any) -> None:
        """What a user does; the edge tells."""
        self.cluster.put(agent(**spec))
        self.queue.add(KEY)

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.object.get("status") or {}
        return status

    @property
    def object(self) -> dict[str, Any]:
        return self.cluster.all(kinds.AGENT_DEPLOYMENT)[0]

    def condition(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(
            (c for c in self.status["conditions"] if c["type"] == name), {"status": "absent"}
        )
        return found

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[World]:
        """An operator process; leaving ends it without warning."""
        self.queue: WorkQueue[Key] = WorkQueue(self.own, lambda: 0.0, lambda key: key.namespace)
        self.store = EvidenceStore(self.own)
        providers = {"default": self.metrics}
        foreteller = Foreteller(providers, self.queue, self.own, self.store.confused)
        calendars = Calendars(IanaZones(), self.everybody)
        self.observer = Observer(
            self.reads,
            self.router,
            self.own,
            plans=foreteller,
            calendars=calendars,
            live=self.cluster,
        )
        pace = Pace(running=self.rollouts)
        told = self.notifiers()
        executor = Executor(
            self.cluster, self.router, self.recorder, self.own, pace=pace, notifier=told
        )
        self.results: list[str] = []
        self.passes: list[int] = []
        self.router.on_write = lambda: self.queue.add(KEY)  # the edge sees the route change
        self.reconciler = Reconciler(
            self.observer,
            executor,
            self.store,
            self.queue,
            self.own,
            pace,
            on_pass=self._passed,
        )
        self.sampler = Sampler(providers, self.store, self.queue, self.own, tick=self.tick)
        tasks = [
            asyncio.ensure_future(work)
            for work in (
                self.queue.run(),
                *(self.reconciler.work() for _ in range(self.workers)),
                self.reconciler.work(urgent_only=True),
                self.sampler.run(),
                foreteller.run(),
                *((told.run(),) if told is not None else ()),
                resync(
                    self.queue,
                    self.own,
                    pace.resync,
                    self._existing,
                    self.reconciler.known,
                    lambda: 0.0,
                ),
                self.traffic(),
            )
        ]
        for key in self._existing():
            self.queue.add(key)
        try:
            await settle()
            yield self
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            for result in ended:
                if isinstance(result, Exception):
                    raise result

    def notifiers(self) -> Notifiers | None:
        """What the operator tells people by."""
        return None

    def rollouts(self) -> int:
        """Attempts that share passes and writes."""
        return len(self.store)

    def _existing(self) -> set[Key]:
        found = (item["metadata"] for item in self.cluster.all(kinds.AGENT_DEPLOYMENT))
        return {Key(metadata["namespace"], metadata["name"]) for metadata in found}

    def _passed(self, result: str, seconds: float) -> None:
        self.results.append(result)
        self.passes.append(len(self.cluster.writes))

    def writes_of_pass_with(self, write: str) -> list[str]:
        """All writes of the first pass that made this one, in order."""
        writes, start = self.cluster.writes, 0
        for end in self.passes:
            if write in writes[start:end]:
                return writes[start:end]
            start = end
        return []

    async def run(self, seconds: float) -> None:
        """Let time pass."""
        await self.clock.advance(seconds)

    def freeze(self, seconds: int) -> None:
        """The operator is stopped; users, agents and Prometheus go on."""
        for _ in range(seconds):
            self.clock.freeze(1)
            self._serve_and_scrape()

    def share(self, revision: str) -> int:
        """The share of the users that the route sends to a revision, in percent."""
        assert self.router.plan is not None
        return self.router.plan.percent(revision)

    async def until_phase(self, phase: str, most: int = 600) -> None:
        """Let time pass until the status says `phase`."""
        for _ in range(most):
            if self.status.get("phase") == phase:
                return
            await self.clock.advance(1)
        raise AssertionError(f"still {self.status.get('phase')}: {self.status.get('message')}")

    async def stable(self) -> None:
        """A first revision that serves."""
        self.apply()
        await self.run(5)
        assert self.condition("Ready")["status"] == "True", self.status

    async def traffic(self) -> None:
        """Pods start, users ask, Prometheus scrapes."""
        while True:
            await self.clock.sleep(self.every)
            self._start_pods()
            self._serve_and_scrape()

    def _start_pods(self) -> None:
        for deployment in self.cluster.all(kinds.DEPLOYMENT):
            metadata, wanted = deployment["metadata"], deployment["spec"]["replicas"]
            ready = wanted if self.pods_start else 0
            if (deployment.get("status") or {}).get("readyReplicas", 0) != ready:
                status = {"readyReplicas": ready}
                self.cluster.set_status(
                    kinds.DEPLOYMENT, metadata["namespace"], metadata["name"], status
                )
                self.queue.add(KEY)

    def _serve_and_scrape(self) -> None:
        increments: dict[tuple[tuple[str, str], ...], float] = defaultdict(float)
        for deployment in self.cluster.all(kinds.DEPLOYMENT):
            labels = deployment["metadata"]["labels"]
            revision, mode = labels[REVISION], labels[MODE]
            calls = self.every * self.calls_per_second * self._share(revision, mode)
            bad = calls * self.error_rate[revision]
            for outcome, amount in (("success", calls - bad), ("error", bad)):
                increments[_series(revision, mode, outcome)] += self._whole(
                    f"{revision}/{mode}/{outcome}", amount
                )
            for (who, counter), rate in self.counting.items():
                if who == revision:
                    amount = rate * self.every
                    if "usd" not in counter:  # money is counted in fractions
                        amount = self._whole(f"{who}/{counter}", amount)
                    increments[_series(revision, mode, name=counter)] += amount
        self.provider.count(self.clock.now().timestamp(), increments)

    def _share(self, revision: str, mode: str) -> float:
        plan = self.router.plan
        if plan is None:
            return 0.0
        share = plan.percent(revision) / 100 if mode == "live" else 0.0
        if plan.mirror is not None and (plan.mirror.revision, plan.mirror.mode) == (revision, mode):
            share += plan.mirror.percent / 100
        return share

    def _whole(self, name: str, amount: float) -> float:
        """Counters count whole calls."""
        credit = self._credit[(name, "")] + amount
        self._credit[(name, "")] = credit % 1
        return credit // 1


def _series(
    revision: str, mode: str, outcome: str = "", name: str = "agent_requests_total"
) -> tuple[tuple[str, str], ...]:
    return tuple(
        sorted(
            {
                "__name__": name,
                "namespace": KEY.namespace,
                "agent": KEY.name,
                "revision": revision,
                "mode": mode,
                "outcome": outcome,
                "pod": f"{revision}-{mode}-0",
            }.items()
        )
    )


def broken(words: str = "Internal error: etcd is away") -> ClusterError:
    """What the API server answers on a bad day."""
    return ClusterError(words)
