"""What a process does that waits to lead: follow every attempt, so that it knows when its time comes.

It writes nothing. Its evidence is as fresh as its last look at the metrics, at most `PACE` seconds.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from phasegate.api.errors import NotFound, PhasegateError
from phasegate.control import kinds
from phasegate.control.observe import Gone, Observer
from phasegate.control.parse import agent_status
from phasegate.control.ports import Clock, Cluster, Key
from phasegate.control.queue import WorkQueue
from phasegate.control.reconcile import Evidence
from phasegate.rollout.late import waits_for_labels

PACE: Final = 30.0
"""Seconds between two looks at the metrics, and before an agent that could not be read is again."""

_log = logging.getLogger(__name__)


class Looks(Protocol):
    """Who feeds the evidence."""

    async def look(self) -> int:
        """One look at the metrics of everything that is tracked."""


class Standby:
    """Tracks what runs, from what is remembered of the API server."""

    def __init__(
        self,
        cluster: Cluster,
        observer: Observer,
        evidence: Evidence,
        sampler: Looks,
        queue: WorkQueue[Key],
        clock: Clock,
    ) -> None:
        self._cluster = cluster
        self._observer = observer
        self._evidence = evidence
        self._sampler = sampler
        self._queue = queue
        self._clock = clock

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            await self._sampler.look()
            await self._clock.sleep(PACE)

    async def _follow(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                await self._track(key)
            except Gone:
                self._evidence.forget(key)
                self._observer.forget(key)
            except PhasegateError as error:
                self._queue.add_after(key, PACE)
                _log.info("not followed", extra={"agent": key.name, "error": str(error)})
            except Exception:
                _log.exception("bug in a standby", extra={"agent": key.name})
            finally:
                self._queue.done(key)

    async def _track(self, key: Key) -> None:
        try:
            agent = await self._cluster.get(kinds.AGENT_DEPLOYMENT, key.namespace, key.name)
        except NotFound as error:
            raise Gone(str(error)) from error
        status = agent_status(agent)
        if status.progress is None and not waits_for_labels(status, self._clock.now()):
            self._evidence.forget(key)
            return
        sight = await self._observer.observe(key)
        self._evidence.track(key, sight.observed, sight.observed.status)
