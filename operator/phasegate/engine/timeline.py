"""Samples that have arrived but may still be preceded by others: put in the order of scrape time.

Within a series samples arrive in order; between pods they do not: a slow scrape carries the time at
which it began. What lies at or before the newest sample of *every* pod can no longer be preceded;
what lies after waits here. A pod that misses three of its own intervals is not waited for. A sample
that comes later still is dropped, which loses nothing: counters are cumulative, so its increments
come with the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from phasegate.engine.samples import Arm

PATIENCE = 3.0
"""Intervals of a pod after which it is not waited for."""
FORGET_SECONDS = 3600.0
"""A pod that has been gone for this long is forgotten."""
_MANY = 64
"""Targets from which on it pays to look for those that are gone."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where the samples of one series go."""

    key: str
    target: str
    arm: Arm
    parts: tuple[str, ...]
    late: bool = False
    """It says nothing about whether the arm is scraped (see samples.py)."""


Reading = tuple[Route, float]
"""One sample of one series."""


@dataclass(slots=True)
class Rhythm:
    """When a target was last scraped, and how long after the time before."""

    last: float
    gap: float = 0.0


class Timeline:
    """Readings by scrape time, not yet settled."""

    __slots__ = ("_pending", "_rhythms")

    def __init__(self, targets: Iterable[tuple[str, Rhythm]] = ()) -> None:
        self._pending: dict[float, dict[str, Reading]] = {}
        self._rhythms = {name: Rhythm(rhythm.last, rhythm.gap) for name, rhythm in targets}

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, at: float, route: Route, value: float) -> bool:
        """Add a reading; whether that changes anything.

        Of two values at one time the larger stays, whichever came first.
        """
        readings = self._pending.get(at)
        if readings is None:
            readings = self._pending[at] = {}
        before = readings.get(route.key)
        if before is not None and before[1] >= value:
            return False
        readings[route.key] = (route, value)
        self.heard(at, route.target)
        return True

    def heard(self, at: float, target: str) -> None:
        """A target was scraped, whatever becomes of the sample: from now on it is waited for."""
        rhythm = self._rhythms.get(target)
        if rhythm is None:
            self._rhythms[target] = Rhythm(at)
        elif at > rhythm.last:
            rhythm.gap, rhythm.last = at - rhythm.last, at

    def watermark(self) -> float:
        """The time up to which nothing can come before what is here any more."""
        newest = max(rhythm.last for rhythm in self._rhythms.values())
        if len(self._rhythms) > _MANY:
            self._rhythms = {
                name: rhythm
                for name, rhythm in self._rhythms.items()
                if newest - rhythm.last <= FORGET_SECONDS
            }
        return min(
            rhythm.last
            for rhythm in self._rhythms.values()
            if newest - rhythm.last <= PATIENCE * rhythm.gap
        )

    def settle(self) -> Iterator[tuple[float, list[Reading]]]:
        """Take out what is settled, in the order of time."""
        if not self._pending:
            return
        mark = self.watermark()
        for at in sorted(at for at in self._pending if at <= mark):
            yield at, list(self._pending.pop(at).values())

    def rest(self) -> Iterator[tuple[float, list[Reading]]]:
        """Look at what is not settled, in the order of time."""
        for at in sorted(self._pending):
            yield at, list(self._pending[at].values())
