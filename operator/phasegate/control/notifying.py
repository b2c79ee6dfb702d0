"""Transitions told outside of the cluster, once each, by whoever leads.

A message that is delivered is marked where every later process finds the mark. What a process
decides itself it tells at once; what it finds in a status, another may have told: it looks for the
marks first. Between a delivery and its mark lies one write; a death there tells it a second time,
with the same id (`Notification.id`), by which most channels know it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from phasegate.api.errors import ClusterError
from phasegate.control.fence import Fence
from phasegate.control.outbox import SIZE, Channel, Notification, Outbox, Result
from phasegate.control.ports import Clock, Key, Manifest
from phasegate.control.queue import WorkQueue
from phasegate.rollout.decision import Announcement
from phasegate.rollout.news import Severity, told_outside, urgent_enough
from phasegate.rollout.notifiers import Known, chosen
from phasegate.rollout.telling import LATELY

RECALLED: Final = 10 * SIZE
"""Announcements whose marks are to be read at most: a fleet's of ten minutes, when a process begins."""
_TRIES: Final = 3
"""How often a mark is tried to be written; without it, only a restart would tell again."""

_log = logging.getLogger("phasegate.notifications")


class Marks(Protocol):
    """What was delivered, where every process finds it."""

    async def delivered(self, note: Notification) -> frozenset[str]:
        """Names of the notifiers that have delivered it; raises ClusterError."""

    async def mark(self, note: Notification, names: frozenset[str]) -> None:
        """These have delivered it; raises ClusterError."""


@dataclass(frozen=True, slots=True)
class Notifying:
    """One notifier of the operator's configuration."""

    channel: Channel
    least: Severity = "Info"
    """What it is not told: less than this."""


class Silent:
    """`phasegate.control.ports.Notifier` without any channel."""

    def notify(
        self, agent: Manifest, announcement: Announcement, at: datetime, *, again: bool
    ) -> None:
        """Nobody is told."""


class Notifiers:
    """`phasegate.control.ports.Notifier` with an outbox for each notifier.

    `on_result` is told the notifier's name and what became of a message.
    """

    def __init__(
        self,
        notifiers: Mapping[str, Notifying],
        known: Known,
        marks: Marks,
        clock: Clock,
        *,
        fence: Fence | None = None,
        on_result: Callable[[str, Result], None] = lambda name, result: None,
    ) -> None:
        self._notifiers = notifiers
        self._known = known
        self._marks = marks
        self._clock = clock
        self._on_result = on_result
        self._outboxes = {
            name: Outbox(name, one.channel, clock, on_end=self._ended, fence=fence)
            for name, one in notifiers.items()
        }
        self._recall: WorkQueue[Notification] = WorkQueue(clock, lambda: 0.0)
        self._asked: dict[Notification, tuple[str, ...]] = {}
        self._unmarked: dict[Notification, frozenset[str]] = {}
        self._delivered = asyncio.Event()

    def notify(
        self, agent: Manifest, announcement: Announcement, at: datetime, *, again: bool
    ) -> None:
        """Never raises, never waits. `again`: a process before this one may have told it."""
        if not told_outside(announcement):
            return
        metadata = agent["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        names = tuple(
            name
            for name in chosen(named(agent), key.namespace, self._known)
            if urgent_enough(announcement, self._notifiers[name].least)
        )
        if not names:
            return
        note = Notification(key, metadata["uid"], announcement, at)
        if not again:
            self._send(note, names)
        elif len(self._asked) < RECALLED:
            self._asked[note] = names
            self._recall.add(note, urgent=note.critical)
        else:
            for name in names:
                self._on_result(name, "dropped")

    async def run(self) -> None:
        """Send, and remember what was sent; runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for outbox in self._outboxes.values():
                group.create_task(outbox.run())
            group.create_task(self._recall.run())
            group.create_task(self._recalling())
            group.create_task(self._marking())

    async def close(self) -> None:
        """Close the connections of all channels."""
        for one in self._notifiers.values():
            await one.channel.close()

    def _send(self, note: Notification, names: Iterable[str]) -> None:
        for name in names:
            self._outboxes[name].add(note)

    async def _recalling(self) -> None:
        """Find out what was delivered before this process led, and send the rest."""
        while True:
            note = await self._recall.get()
            names = self._asked[note]
            try:
                done = await self._marks.delivered(note)
            except Exception as error:
                _not_done("marks not read", error)
                if self._clock.now() - note.at < LATELY:
                    self._recall.retry(note)
                else:
                    self._forget(note)
                    for name in names:
                        self._on_result(name, "expired")
            else:
                self._forget(note)
                self._send(note, (name for name in names if name not in done))
            finally:
                self._recall.done(note)

    def _forget(self, note: Notification) -> None:
        del self._asked[note]
        self._recall.forget(note)

    def _ended(self, name: str, note: Notification, result: Result) -> None:
        self._on_result(name, result)
        if result == "delivered":
            self._unmarked[note] = self._unmarked.get(note, frozenset()) | {name}
            self._delivered.set()

    async def _marking(self) -> None:
        """Mark what was delivered, one write for all channels that were quick."""
        while True:
            while self._unmarked:
                note = next(iter(self._unmarked))
                await self._mark(note, self._unmarked.pop(note))
            self._delivered.clear()
            await self._delivered.wait()

    async def _mark(self, note: Notification, names: frozenset[str]) -> None:
        for tried in range(_TRIES):
            try:
                return await self._marks.mark(note, names)
            except Exception as error:
                _not_done("mark not written", error)
                if tried + 1 < _TRIES:
                    await self._clock.sleep(1.0 + tried)
        return None


def _not_done(what: str, error: Exception) -> None:
    """Whatever it is, it must not end the process: rollbacks depend on that."""
    if isinstance(error, ClusterError):
        _log.debug(what, extra={"error": str(error)})
    else:
        _log.error(what, exc_info=error)


def named(agent: Manifest) -> tuple[str, ...]:
    """The notifiers that an agent names, even if the rest of its spec cannot be read."""
    found = (agent.get("spec") or {}).get("notify")
    return tuple(n for n in found if isinstance(n, str)) if isinstance(found, list) else ()
