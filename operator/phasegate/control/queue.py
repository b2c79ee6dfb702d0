"""The work queue: keys that need a reconcile, each at most once, never two at a time.

Semantics of client-go's rate-limiting queue, plus an urgent lane and a fair share of the workers for
each tenant (`lanes.py`). A key that is added while it is waiting is not queued twice; one that is
added while it is being worked on is queued again when that work is done, so no news is ever lost.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from phasegate.control.lanes import Lane
from phasegate.control.ports import Clock

K = TypeVar("K", bound=Hashable)

BASE_BACKOFF = 0.05
"""Seconds before the first retry of a key; doubled each time, with up to half of it as jitter."""
MAX_BACKOFF = 60.0
"""Seconds a failing key waits at most."""
LONG = 5.0
"""Seconds from which on a wait may end a little early."""
EARLY = 0.1
"""By how much of it."""


class WorkQueue(Generic[K]):
    """De-duplicating, per-key serial queue with delays, back-off and an urgent lane.

    `jitter` returns a number in [0, 1). `tenant`: whose a key is; by itself each is a tenant of its
    own. Not thread-safe: one event loop owns it.
    """

    def __init__(
        self,
        clock: Clock,
        jitter: Callable[[], float],
        tenant: Callable[[K], Hashable] = lambda key: key,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._lanes = {True: Lane(tenant), False: Lane(tenant)}  # urgent first
        self._idle = {True: 0, False: 0}  # workers that wait, by urgent_only
        self._alarms: dict[K, asyncio.Event] = {}  # of all keys that are being worked on
        self._dirty: dict[K, bool] = {}  # added while being worked on → whether urgently
        self._failures: dict[K, int] = {}
        self._due: dict[K, tuple[float, bool]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._arrived = {True: asyncio.Event(), False: asyncio.Event()}  # by urgent_only
        self._rescheduled = asyncio.Event()

    def __len__(self) -> int:
        """Keys waiting to be worked on now."""
        return sum(len(lane) for lane in self._lanes.values())

    @property
    def hurried(self) -> bool:
        """True while urgent keys wait for a worker, other than those of tenants that hang."""
        return self._lanes[True].moving(self._clock.monotonic())

    def add(self, key: K, *, urgent: bool = False) -> None:
        """`key` needs a reconcile now; an urgent one goes before all others.

        Whoever works on it already hears of urgent news (`urged`).
        """
        if urgent and key in self._alarms:
            self._alarms[key].set()
        self._enter(key, urgent)

    def hasten(self, key: K) -> None:
        """`key`, which waits for its next try, is urgent now; if it is being tried, that goes on."""
        self._enter(key, urgent=True)

    def _enter(self, key: K, urgent: bool) -> None:
        if key in self._alarms:
            self._dirty[key] = urgent or self._dirty.get(key, False)
            return
        if key in self._lanes[True]:
            return
        if urgent:
            self._lanes[False].discard(key)
        self._lanes[urgent].add(key)
        self._arrived[False].set()
        if urgent:
            self._arrived[True].set()

    def add_after(self, key: K, seconds: float, *, urgent: bool = False) -> None:
        """`key` needs a reconcile in `seconds`; of two delays for one key the earlier counts."""
        if seconds <= 0:
            self.add(key, urgent=urgent)
            return
        due = self._clock.monotonic() + seconds
        planned = self._due.get(key)
        if planned is not None and planned[0] <= due:
            self._due[key] = (planned[0], planned[1] or urgent)
            return
        self._due[key] = (due, urgent)
        heapq.heappush(self._heap, (due, next(self._order), key))
        self._rescheduled.set()

    def look_again(self, key: K, seconds: float) -> None:
        """`key` is due in `seconds`; a long wait may end up to a tenth early.

        So agents that began together (a restart, a thousand created at once) drift apart.
        """
        early = EARLY * self._jitter() if seconds >= LONG else 0.0
        self.add_after(key, seconds * (1 - early))

    def retry(
        self, key: K, *, most: float = MAX_BACKOFF, least: float = 0.0, urgent: bool = False
    ) -> float:
        """Work on `key` failed: again after its back-off of at most `most` seconds, which is returned.

        `least`: seconds that we were asked to wait; up to half as long again, so that not all who
        were asked come back at once, and never longer than `most`.
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        backoff: float = min(BASE_BACKOFF * 2.0 ** min(failures, 30), most)
        delay = backoff * (1 - self._jitter() / 2)
        delay = min(max(delay, least * (1 + self._jitter() / 2)), most)
        self.add_after(key, delay, urgent=urgent)
        return delay

    def succeeded(self, key: K) -> None:
        """Work on `key` succeeded: its next failure starts with the shortest back-off."""
        self._failures.pop(key, None)

    def forget(self, key: K) -> None:
        """`key` is gone: nothing is due for it any more."""
        self._failures.pop(key, None)
        self._due.pop(key, None)
        for lane in self._lanes.values():
            lane.discard(key)

    async def get(self, *, urgent_only: bool = False) -> K:
        """The next key; the caller owns it until `done`."""
        arrived = self._arrived[urgent_only]
        self._idle[urgent_only] += 1
        try:
            while True:
                key = self._take(urgent_only)
                if key is not None:
                    return key
                arrived.clear()
                await arrived.wait()
        finally:
            self._idle[urgent_only] -= 1

    async def urged(self, key: K) -> None:
        """Wait until there has been urgent news about `key` since the caller was given it."""
        await self._alarms[key].wait()

    def done(self, key: K) -> None:
        """The work that `get` started is over; news that came meanwhile are next."""
        self._alarms.pop(key, None)
        for lane in self._lanes.values():
            lane.done(key)
        if any(self._lanes.values()):
            for arrived in self._arrived.values():
                arrived.set()  # its tenant may have another worker now
        urgent = self._dirty.pop(key, None)
        if urgent is not None:
            self.add(key, urgent=urgent)

    async def run(self) -> None:
        """Move delayed keys into the queue when they are due; runs until cancelled."""
        while True:
            self._rescheduled.clear()
            wait = self._promote()
            if wait is None:
                await self._rescheduled.wait()
            else:
                await self._until_rescheduled(wait)

    def _take(self, urgent_only: bool) -> K | None:
        now = self._clock.monotonic()
        first, second = self._lanes[True], self._lanes[False]
        key = first.take(self._idle[True] + self._idle[False], now)
        if key is not None and second:
            self._arrived[False].set()  # what waited for this one may be next
        if key is None and not urgent_only:
            key = second.take(self._idle[False], now, after=first)
        if key is not None:
            self._alarms[key] = asyncio.Event()
            self._due.pop(key, None)  # whoever works on it now says when to look again
        return key

    def _promote(self) -> float | None:
        """Queue what is due; seconds until the next, None if nothing is planned."""
        now = self._clock.monotonic()
        while self._heap:
            due, _, key = self._heap[0]
            planned = self._due.get(key)
            if planned is None or planned[0] != due:  # an earlier one took its place, or forgotten
                heapq.heappop(self._heap)
            elif due > now:
                return due - now
            else:
                heapq.heappop(self._heap)
                del self._due[key]
                self._enter(key, planned[1])
        return None

    async def _until_rescheduled(self, seconds: float) -> None:
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        changed = asyncio.ensure_future(self._rescheduled.wait())
        try:
            await asyncio.wait({sleep, changed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            changed.cancel()
            await asyncio.gather(sleep, changed, return_exceptions=True)
