"""When to look at the metrics next: right after the scrapes, and no oftener than is worth it.

Samples carry the time they were scraped at, so the next one's is known. Looking just after it finds
a breach sooner than looking often, at less cost.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

FLOOR = 0.05
"""Seconds between two looks at least."""
PER_ATTEMPT = 0.005
"""Seconds from one look to the next for each running attempt: 2 looks a second at a hundred, one in
5 s at 1,000."""
DUTY = 1.0
"""A look that took t is followed by a pause of at least t: half of the time at most."""
LATENCY = 0.015
"""Seconds from a scrape's time stamp to its samples being visible, about."""
_GIVEN_UP = 1.0
"""Intervals after which a target that was not scraped is no longer waited for."""


@dataclass(slots=True)
class _Target:
    last: float
    interval: float | None = None


class Rhythm:
    """Learns each target's scrape times. Times are the provider's, in unix seconds."""

    def __init__(self, longest: float) -> None:
        """`longest`: seconds between two looks at most."""
        self._longest = longest
        self._targets: dict[Hashable, _Target] = {}

    def seen(self, newest: Mapping[Hashable, float]) -> None:
        """The newest scrape of each target that is still of interest."""
        known = self._targets
        self._targets = {}
        for name, at in newest.items():
            target = known.get(name) or _Target(at)
            if at > target.last:
                target.interval = at - target.last
                target.last = at
            self._targets[name] = target

    def pause(self, now: float, took: float, attempts: int) -> float:
        """Seconds to wait after a look that took `took` seconds."""
        shortest = max(FLOOR, DUTY * took, PER_ATTEMPT * attempts - took)
        due = min(
            (d for t in self._targets.values() if (d := _due(t, now)) is not None), default=None
        )
        if due is None:
            return max(shortest, self._longest)
        return max(shortest, min(due - now, self._longest))


def _due(target: _Target, now: float) -> float | None:
    """When the target's next sample should be visible; None if that is unknown, or long past."""
    if target.interval is None:
        return None
    due = target.last + target.interval + LATENCY
    return None if now - due > _GIVEN_UP * target.interval else due
