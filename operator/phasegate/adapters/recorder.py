"""Announcements: one log line and one Kubernetes Event per transition, best effort."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from phasegate.adapters.kinds import EVENT
from phasegate.api.base import API_VERSION
from phasegate.api.errors import ClusterError, Conflict, NotFound
from phasegate.control.ports import Cluster, Manifest
from phasegate.rollout.decision import Announcement

CONTROLLER: Final = "phasegate.dev/operator"
NOTE_LIMIT: Final = 1024
"""Longest note (bytes) that the API server takes."""
REMEMBERED: Final = 1000
"""Announcements whose repetition is recognised."""
_SAME: Final = 60.0
"""Seconds within which the same announcement is a repetition, not a recurrence."""

_log = logging.getLogger("phasegate.transitions")


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Entry:
    manifest: dict[str, Any]
    at: datetime


class EventRecorder:
    """`phasegate.control.ports.Recorder` on events.k8s.io/v1 (which `kubectl describe` shows).

    An event's name follows from what it says, so a transition that is announced again after a crash
    is one event, and one that comes again later is counted in its ``series``. Events wait in a
    queue of `size`; when it is full, they are dropped: the log has them.
    """

    def __init__(
        self,
        cluster: Cluster,
        instance: str,
        *,
        size: int = 1000,
        now: Callable[[], datetime] = _utc_now,
        on_announced: Callable[[str], None] = lambda reason: None,
        on_dropped: Callable[[], None] = lambda: None,
    ) -> None:
        self._cluster = cluster
        self._instance = instance[:128]
        self._queue: asyncio.Queue[_Entry] = asyncio.Queue(size)
        self._now = now
        self._on_announced = on_announced
        self._on_dropped = on_dropped
        self._told: dict[str, tuple[int, datetime]] = {}

    async def announce(self, agent: Manifest, announcement: Announcement) -> None:
        """Best effort: never raises, never delays a decision."""
        metadata = agent["metadata"]
        level = logging.WARNING if announcement.type == "Warning" else logging.INFO
        fields = {"namespace": metadata["namespace"], "agent": metadata["name"]}
        _log.log(level, announcement.message, extra={**fields, "reason": announcement.reason})
        self._on_announced(announcement.reason)
        at = self._now()
        entry = _Entry(event(agent, announcement, self._instance, at), at)
        try:
            self._queue.put_nowait(entry)
        except asyncio.QueueFull:
            self._on_dropped()

    async def run(self) -> None:
        """Write what was announced, one after another; runs until cancelled."""
        while True:
            entry = await self._queue.get()
            try:
                await self._write(entry)
            except ClusterError as error:
                self._on_dropped()
                _log.debug("event not written", extra={"reason": str(error)})
            finally:
                self._queue.task_done()

    async def flush(self) -> None:
        """Wait until everything announced so far is written or given up."""
        await self._queue.join()

    async def _write(self, entry: _Entry) -> None:
        """One event; called again for the same, its ``series`` once it is a recurrence."""
        metadata = entry.manifest["metadata"]
        name = f"{metadata['namespace']}/{metadata['name']}"
        count, last = self._told.pop(name, (0, entry.at))
        repeated = count > 0 and (entry.at - last).total_seconds() < _SAME
        if count == 0:
            await self._create(entry)
        elif not repeated:
            await self._count(entry, count + 1)
        self._told[name] = (count, last) if repeated else (count + 1, entry.at)
        if len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]

    async def _create(self, entry: _Entry) -> None:
        with suppress(Conflict):  # announced before this process was started
            await self._cluster.create(entry.manifest)

    async def _count(self, entry: _Entry, count: int) -> None:
        metadata = entry.manifest["metadata"]
        series = {"count": count, "lastObservedTime": _micro(entry.at)}
        try:
            await self._cluster.patch(
                EVENT, metadata["namespace"], metadata["name"], {"series": series}
            )
        except NotFound:  # events are kept for an hour
            await self._create(entry)


def event(
    agent: Manifest, announcement: Announcement, instance: str, at: datetime
) -> dict[str, Any]:
    """The Event of one announcement about `agent`."""
    metadata = agent["metadata"]
    identity = f"{metadata['uid']}\n{announcement.reason}\n{announcement.message}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {
            "namespace": metadata["namespace"],
            "name": f"{metadata['name']}.{digest}",
        },
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": "AgentDeployment",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "type": announcement.type,
        "reason": announcement.reason,
        "action": announcement.reason,
        "note": _cut(announcement.message),
        "eventTime": _micro(at),
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
    }


def _cut(text: str) -> str:
    encoded = text.encode()
    if len(encoded) <= NOTE_LIMIT:
        return text
    return encoded[: NOTE_LIMIT - 3].decode(errors="ignore") + "…"


def _micro(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
