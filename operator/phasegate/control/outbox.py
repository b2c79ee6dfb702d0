"""What waits for one channel: in turn, retried with back-off for a while, never more than so many.

Each channel has an outbox of its own, so one that is dead, slow or hangs delays nobody else.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol

from phasegate.api.errors import Fenced, NotDelivered
from phasegate.control.fence import Fence
from phasegate.control.ports import Clock, Key
from phasegate.control.queue import WorkQueue
from phasegate.rollout.decision import Announcement
from phasegate.rollout.news import severity
from phasegate.rollout.telling import LATELY

SIZE: Final = 1000
"""Messages that wait for one channel at most; the oldest that is not critical makes room."""
LONGEST_PAUSE: Final = 60.0
"""Seconds a channel is left alone at most after a failure, whatever it asks for."""
_FIRST_PAUSE: Final = 0.5
_LATER: Final = 1.1
"""How much longer than its channel a critical message waits that was not delivered."""

Result = Literal["delivered", "refused", "expired", "dropped"]

_log = logging.getLogger("phasegate.notifications")


@dataclass(frozen=True, slots=True)
class Notification:
    """One announcement about one agent, for people's channels."""

    key: Key
    uid: str
    """Of the agent."""
    news: Announcement
    at: datetime

    @property
    def id(self) -> str:
        """The same for the same transition, whichever process tells it: 32 hex digits."""
        words = (self.uid, self.news.reason, self.news.message, self.at.isoformat())
        return hashlib.sha256("\n".join(words).encode()).hexdigest()[:32]

    @property
    def severity(self) -> str:
        """Info, Warning or Critical."""
        return severity(self.news)

    @property
    def critical(self) -> bool:
        """Whether it goes before others."""
        return self.severity == "Critical"


class Channel(Protocol):
    """One way to reach people: a chat room, a pager, a mailbox."""

    async def send(self, note: Notification) -> None:
        """Deliver it within a deadline of its own; raises NotDelivered."""

    async def close(self) -> None:
        """Close its connections."""


class Outbox:
    """The messages of one channel, critical ones and then oldest first, tenants in turn, one at a time.

    `on_end` is told what became of each. What is not delivered within ten minutes is given up: so
    is what a process that begins then would tell again.
    """

    def __init__(
        self,
        name: str,
        channel: Channel,
        clock: Clock,
        *,
        on_end: Callable[[str, Notification, Result], None],
        fence: Fence | None = None,
        size: int = SIZE,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._channel = channel
        self._clock = clock
        self._on_end = on_end
        self._fence = fence
        self._size = size
        self._queue: WorkQueue[Notification] = WorkQueue(clock, jitter, lambda n: n.key.namespace)
        self._waiting: dict[Notification, None] = {}
        self._over: dict[tuple[str, str], datetime] = {}  # agent and what stood; told, oldest first
        self._failures = 0

    def __len__(self) -> int:
        """Messages that wait, or are being sent."""
        return len(self._waiting)

    def add(self, note: Notification) -> None:
        """`note` is to be sent; called again for the same, it is still sent once."""
        if note in self._waiting:
            return
        if len(self._waiting) >= self._size:
            oldest = next(iter(self._waiting))
            self._end(next((n for n in self._waiting if not n.critical), oldest), "dropped")
        self._waiting[note] = None
        self._queue.add(note, urgent=note.critical)

    async def run(self) -> None:
        """Send what there is; runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run())
            group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            note = await self._queue.get()
            pause = 0.0
            try:
                if note in self._waiting:
                    pause = await self._try(note)
            finally:
                self._queue.done(note)
            if pause:  # the channel's trouble, not this message's: the others would only add to it
                await self._clock.sleep(pause)

    async def _try(self, note: Notification) -> float:
        """Send `note`, or give it up; seconds for which the channel is left alone."""
        if self._clock.now() - note.at >= LATELY or self._is_over(note):
            self._end(note, "expired")
            return 0.0
        try:
            if self._fence is not None:
                self._fence.check()
            await self._channel.send(note)
        except NotDelivered as error:
            return self._failed(note, error)
        except Fenced:  # whoever leads now tells it
            self._queue.retry(note)
            return LONGEST_PAUSE
        except Exception:
            # A bug in a channel must not end what others are told by.
            _log.exception("bug in a channel", extra={"notifier": self.name})
            self._end(note, "refused")
            return 0.0
        self._failures = 0
        self._keep_ends(note)
        self._end(note, "delivered")
        return 0.0

    def _keep_ends(self, note: Notification) -> None:
        for name in note.news.ends:
            self._over.pop((note.uid, name), None)
            self._over[note.uid, name] = note.at
        while len(self._over) > self._size:
            del self._over[next(iter(self._over))]

    def _is_over(self, note: Notification) -> bool:
        """True for a beginning whose end was told meanwhile: told after it, it would stand for ever."""
        news = note.news
        if news.begins is None or news.ends:
            return False
        over = self._over.get((note.uid, news.begins))
        return over is not None and over >= note.at

    def _failed(self, note: Notification, error: NotDelivered) -> float:
        told = {"notifier": self.name, "namespace": note.key.namespace, "agent": note.key.name}
        if error.for_good:
            _log.warning("not taken by its channel: %s", error, extra=told)
            self._end(note, "refused")
            return 0.0
        _log.warning("not delivered yet: %s", error, extra=told)
        pause = max(error.after, _FIRST_PAUSE * 2.0 ** min(self._failures, 10))
        self._failures += 1
        # A critical one is the next again, but for one other: this one may be what never succeeds.
        least = _LATER * pause if note.critical else 0.0
        self._queue.retry(note, most=LONGEST_PAUSE, least=least, urgent=note.critical)
        return min(pause, LONGEST_PAUSE)

    def _end(self, note: Notification, result: Result) -> None:
        self._waiting.pop(note, None)
        self._queue.forget(note)
        if result in ("expired", "dropped"):
            told = {"notifier": self.name, "namespace": note.key.namespace, "agent": note.key.name}
            _log.warning("%s, was not delivered: %s", result, note.news.message, extra=told)
        self._on_end(self.name, note, result)
