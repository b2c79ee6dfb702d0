"""The parts of one operator process, put together: what watches, what stands by, what leads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from phasegate.adapters.cached import CachedCluster, Mirrors
from phasegate.adapters.config import OperatorConfig
from phasegate.adapters.edge import Edge, References, scopes
from phasegate.adapters.notifiers import opening as notifiers
from phasegate.adapters.notifiers.marks import EventMarks
from phasegate.adapters.prometheus import PrometheusProvider
from phasegate.adapters.recorder import EventRecorder
from phasegate.adapters.routers.gatewayapi import GatewayApiRouter
from phasegate.adapters.telemetry import Telemetry
from phasegate.adapters.watching import Reflector, Source
from phasegate.adapters.zones import IanaZones
from phasegate.control import kinds
from phasegate.control.calendars import Calendars
from phasegate.control.evidence_store import EvidenceStore
from phasegate.control.execute import Executor
from phasegate.control.fence import Fence
from phasegate.control.foretelling import Foreteller
from phasegate.control.observe import Observer
from phasegate.control.pace import Pace
from phasegate.control.ports import Clock, Cluster, Key
from phasegate.control.prices import PriceBook
from phasegate.control.queue import WorkQueue
from phasegate.control.reconcile import Reconciler
from phasegate.control.resync import resync
from phasegate.control.sampler import Sampler
from phasegate.control.standby import Standby
from phasegate.rollout.observed import Settings

URGENT_WORKERS: Final = 4
"""Workers that take rollbacks only; the others take those first as well."""
LISTS: Final = 2
"""Kinds that are listed at the same time: pages take room while they are read."""
SYNC_PATIENCE: Final = 30.0
"""Seconds that work waits for the first lists; what is missing then is read live."""

Part = Coroutine[Any, Any, None]


@dataclass(frozen=True)
class Connections:
    """The API server: for reads and writes, for what cannot wait, and for streams."""

    cluster: Cluster
    urgent: Cluster
    streams: Source
    fence: Fence | None = None
    """Asked before anything is told outside of the cluster."""


@dataclass(frozen=True)
class Setting:
    """What the parts are told from outside."""

    config: OperatorConfig
    namespaces: tuple[str, ...]
    workers: int
    identity: str


class Parts:
    """One process's parts. They live in one event loop, and share queue, mirrors and evidence."""

    def __init__(
        self, setting: Setting, connections: Connections, telemetry: Telemetry, clock: Clock
    ) -> None:
        self._setting = setting
        self._clock = clock
        self._began = clock.monotonic()
        config, live = setting.config, connections.cluster
        self._queue = WorkQueue[Key](clock, random.random, lambda key: key.namespace)
        telemetry.watch_queue(lambda: len(self._queue))
        telemetry.watch_tasks(lambda: len(asyncio.all_tasks()))
        mirrors = Mirrors(scopes(setting.namespaces), clock.monotonic)
        self._cluster = cluster = CachedCluster(live, mirrors)
        references = References()
        self._evidence = evidence = EvidenceStore(clock)
        asking = CachedCluster(live, mirrors, remember=False)
        router = GatewayApiRouter(
            cluster,
            urgent=CachedCluster(connections.urgent, mirrors),
            live=asking,
            configured=config.features(),
            tell=self._queue.add,
        )
        self._recorder = EventRecorder(
            live,
            setting.identity,
            on_announced=telemetry.announced,
            on_dropped=telemetry.event_dropped,
        )
        known = notifiers.known(config.notifiers, config.announce)
        self._notifiers = notifiers.open_notifiers(
            config.notifiers,
            known,
            EventMarks(live, setting.identity),
            clock,
            fence=connections.fence,
            on_result=telemetry.notified,
        )
        self._providers = {
            name: PrometheusProvider.connect(name, provider)
            for name, provider in config.providers.items()
        }
        self._foreteller = Foreteller(self._providers, self._queue, clock, evidence.confused)
        prices = _prices(config, cluster, clock)
        self._observer = Observer(
            cluster,
            router,
            clock,
            references,
            prices,
            self._foreteller,
            Calendars(IanaZones(), config.everybody()),
            live=asking,
        )
        telemetry.watch_identity(lambda: self._observer.identity.enforced)
        pace = Pace(
            config.refresh.rollout.total_seconds(),
            config.refresh.resync.total_seconds(),
            running=lambda: len(evidence),
        )
        executor = Executor(
            cluster,
            router,
            self._recorder,
            clock,
            pace=pace,
            notifier=self._notifiers,
            on_taken_back=telemetry.safe,
        )
        self._reconciler = Reconciler(
            self._observer,
            executor,
            evidence,
            self._queue,
            clock,
            pace,
            telemetry.reconciled,
            Settings(notifiers=known),
        )
        self._reflectors = self._watches(connections.streams, mirrors, references)
        pending = self._reconciler.pending
        telemetry.watch_rollbacks(lambda: len(pending), pending.oldest)
        self._sampler = Sampler(
            self._providers,
            evidence,
            self._queue,
            clock,
            tick=config.refresh.tick.total_seconds(),
            on_error=telemetry.provider_failed,
        )

    def _watches(self, source: Source, mirrors: Mirrors, references: References) -> list[Reflector]:
        lists = asyncio.Semaphore(LISTS)
        edge = Edge(references, self._queue.add, self._reconciler.ask)
        return [
            Reflector(source, mirror, edge.happened, self._clock, random.random, lists=lists)
            for mirror in mirrors.all
        ]

    def watch(self) -> Sequence[Part]:
        """What runs from the beginning: it fills the mirrors."""
        return [*(reflector.run() for reflector in self._reflectors), self._queue.run()]

    def stand_by(self) -> Part:
        """What a process does that does not lead yet."""
        return Standby(
            self._cluster,
            self._observer,
            self._evidence,
            self._sampler,
            self._queue,
            self._clock,
        ).run()

    async def synced(self) -> None:
        """Wait until everything was listed, or for as long as that is worth waiting for.

        A kind that cannot be listed is not waited for, nor anything by who stood by for long.
        """
        patience = self._began + SYNC_PATIENCE - self._clock.monotonic()
        awaited = [one for one in self._reflectors if one.problem is None]
        if patience <= 0 or not awaited:
            return
        listed = [asyncio.ensure_future(one.synced.wait()) for one in awaited]
        try:
            await asyncio.wait(listed, timeout=patience)
        finally:
            for task in listed:
                task.cancel()

    def lead(self) -> Sequence[Part]:
        """What only the leader does, beginning with a look at everything, what is bad first."""
        for key in self._keys():
            self._queue.add(key, urgent=self._reconciler.urgent(key))
        return [
            self._sampler.run(),
            self._observer.identity.watch(),
            self._foreteller.run(),
            self._recorder.run(),
            self._notifiers.run(),
            resync(
                self._queue,
                self._clock,
                self._setting.config.refresh.resync.total_seconds(),
                self._keys,
                self._reconciler.known,
                random.random,
            ),
            *(self._reconciler.work(urgent_only=True) for _ in range(URGENT_WORKERS)),
            *(self._reconciler.work() for _ in range(self._setting.workers)),
        ]

    async def close(self) -> None:
        """Close the connections to the providers and the channels."""
        for provider in self._providers.values():
            await provider.close()
        await self._notifiers.close()

    def _keys(self) -> set[Key]:
        return self._cluster.keys(kinds.AGENT_DEPLOYMENT, self._setting.namespaces or (None,))


def _prices(config: OperatorConfig, cluster: Cluster, clock: Clock) -> PriceBook | None:
    where = config.prices
    if where is None:
        return None
    return PriceBook(cluster, clock, where.namespace, where.name, where.key)
