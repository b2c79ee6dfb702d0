"""Rollbacks that are decided while the route does not say so yet: counted, aged, and tried again.

And those that come in a surge: what is to be told of the first waits for the route of the last.
"""

from __future__ import annotations

from collections.abc import Iterable

from phasegate.control.ports import Clock, Key

LONGEST_WAIT = 5.0
"""Seconds between two tries of one rollback's route write at most: traffic must move, for ever."""
SHORTEST_WAIT = 1.0
"""Seconds it is at most while few are pending, so that traffic is safe soon after the API server is back."""
TRIES_PER_SECOND = 100
"""Route writes a second that many pending rollbacks may cost an API server that refuses them all."""
HASTEN_EVERY = 1.0
"""Seconds between two times that one success is taken as a sign for all others."""

MANY = 8
"""Routes moved within `LULL` of each other from which on it is a surge."""
LULL = 1.0
"""Seconds without another one after which a surge is over: as long as the next answer may take."""
LONGEST_SURGE = 10.0
"""Seconds after which people are told, come what may."""


class PendingRollbacks:
    """Which agents' users are still sent to a revision that was found to be bad."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[Key, float] = {}
        self._hastened = float("-inf")

    def __len__(self) -> int:
        """How many there are."""
        return len(self._since)

    def __contains__(self, key: Key) -> bool:
        """Whether `key` is one of them."""
        return key in self._since

    def oldest(self) -> float:
        """Seconds since the first of them was decided; 0 if there is none."""
        first = next(iter(self._since.values()), None)  # in the order in which they began
        return 0.0 if first is None else self._clock.monotonic() - first

    def begin(self, key: Key) -> bool:
        """The traffic of `key` has to be taken back; True if it has been pending already."""
        known = key in self._since
        if not known:
            self._since[key] = self._clock.monotonic()
        return known

    def end(self, key: Key) -> None:
        """The route says so, or nothing has to be taken back any more."""
        self._since.pop(key, None)

    def patience(self) -> float:
        """Seconds until the next try of one of them at most: longer when there are many."""
        return min(LONGEST_WAIT, max(SHORTEST_WAIT, len(self._since) / TRIES_PER_SECOND))

    def others(self) -> Iterable[Key]:
        """All that are pending, when one could be written again: the rest need not wait.

        Nobody at most once a second: one that is refused for reasons of its own is not tried each
        time that another succeeds.
        """
        now = self._clock.monotonic()
        if now - self._hastened < HASTEN_EVERY:
            return ()
        self._hastened = now
        return tuple(self._since)


class Surge:
    """Many rollbacks at once.

    They are found piece by piece, and the first are safe before the last are found: what there is
    to write about the first would take the API server's time from the routes of the last.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = self._last = float("-inf")
        self._moved = 0

    def moved(self) -> None:
        """A rollback's route was tried just now."""
        now = self._clock.monotonic()
        if now - self._last > LULL:
            self._began, self._moved = now, 0
        self._last = now
        self._moved += 1

    def rest(self) -> float:
        """Seconds until it is over if nothing more comes; 0 if there is none."""
        if self._moved < MANY:
            return 0.0
        now = self._clock.monotonic()
        return max(0.0, min(self._last + LULL, self._began + LONGEST_SURGE) - now)
