"""The work queue: keys that need a reconcile, each at most once, never two at a time.

Semantics of client-go's rate-limiting queue, plus an urgent lane. A key that is added while it is
waiting is not queued twice; one that is added while it is being worked on is queued again when that
work is done, so no news is ever lost.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from phasegate.control.ports import Clock

K = TypeVar("K", bound=Hashable)

BASE_BACKOFF = 0.05
"""Seconds before the first retry of a key; doubled each time, with up to half of it as jitter."""
MAX_BACKOFF = 60.0
"""Seconds a failing key waits at most."""


class WorkQueue(Generic[K]):
    """De-duplicating, per-key serial queue with delays, back-off and an urgent lane.

    `jitter` returns a number in [0, 1). Not thread-safe: one event loop owns it.
    """

    def __init__(self, clock: Clock, jitter: Callable[[], float]) -> None:
        self._clock = clock
        self._jitter = jitter
        self._lanes: dict[bool, dict[K, None]] = {True: {}, False: {}}  # ordered sets, urgent first
        self._processing: set[K] = set()
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

    def add(self, key: K, *, urgent: bool = False) -> None:
        """`key` needs a reconcile now; an urgent one goes before all others."""
        if key in self._processing:
            self._dirty[key] = urgent or self._dirty.get(key, False)
            return
        if key in self._lanes[True]:
            return
        if urgent:
            self._lanes[False].pop(key, None)
        self._lanes[urgent][key] = None
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

    def retry(self, key: K, *, most: float = MAX_BACKOFF, urgent: bool = False) -> float:
        """Work on `key` failed: again after its back-off of at most `most` seconds, which is returned."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        backoff: float = min(BASE_BACKOFF * 2.0 ** min(failures, 30), most)
        delay = backoff * (1 - self._jitter() / 2)
        self.add_after(key, delay, urgent=urgent)
        return delay

    def succeeded(self, key: K) -> None:
        """Work on `key` succeeded: its next failure starts with the shortest back-off."""
        self._failures.pop(key, None)

    def forget(self, key: K) -> None:
        """`key` is gone: nothing is due for it any more."""
        self._failures.pop(key, None)
        self._due.pop(key, None)

    async def get(self, *, urgent_only: bool = False) -> K:
        """The next key; the caller owns it until `done`."""
        arrived = self._arrived[urgent_only]
        while True:
            key = self._take(urgent_only)
            if key is not None:
                return key
            arrived.clear()
            await arrived.wait()

    def done(self, key: K) -> None:
        """The work that `get` started is over; news that came meanwhile are next."""
        self._processing.discard(key)
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
        for urgent in (True,) if urgent_only else (True, False):
            lane = self._lanes[urgent]
            if lane:
                key = next(iter(lane))
                del lane[key]
                self._processing.add(key)
                self._due.pop(key, None)  # whoever works on it now says when to look again
                return key
        return None

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
                self.add(key, urgent=planned[1])
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
