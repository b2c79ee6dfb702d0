"""Counts over stretches of time: what an estimate and a message are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import add, sub
from typing import Final, NamedTuple

from phasegate.engine.packing import Floats, Rows

_BINS: Final = 30
"""Bins of a trailing window: it is right to 1/30 of its length."""
MOST_EVIDENCE: Final = 50.0
"""Nats that a stretch remembers at most, far more than convict: what recovers must once be over."""


class Counts(NamedTuple):
    """Bad calls and calls of both arms."""

    bad: float = 0.0
    total: float = 0.0
    baseline_bad: float = 0.0
    baseline_total: float = 0.0

    def plus(self, other: Counts) -> Counts:
        """The sum."""
        return Counts(
            self.bad + other.bad,
            self.total + other.total,
            self.baseline_bad + other.baseline_bad,
            self.baseline_total + other.baseline_total,
        )

    @property
    def rate(self) -> float | None:
        """The candidate's bad share; None without calls."""
        return self.bad / self.total if self.total else None

    @property
    def baseline_rate(self) -> float | None:
        """The baseline's bad share; None without calls."""
        return self.baseline_bad / self.baseline_total if self.baseline_total else None

    @property
    def ratio(self) -> float | None:
        """Candidate's rate to the baseline's; infinite if only the candidate has bad calls."""
        if self.rate is None or self.baseline_rate is None:
            return None
        if self.baseline_rate == 0:
            return 0.0 if self.rate == 0 else math.inf
        return self.rate / self.baseline_rate


@dataclass(slots=True)
class Trailing:
    """Counts of the latest `seconds`."""

    seconds: float
    bins: Rows = field(default_factory=list)
    """(number of the bin, counts), the oldest first."""

    def add(self, at: float, counts: Counts) -> None:
        """Add counts at a time not before the last one's."""
        index = at // (self.seconds / _BINS)
        if self.bins and self.bins[-1][0] == index:
            _, *before = self.bins[-1]
            self.bins[-1] = (index, *map(add, before, counts))
            return
        self.bins.append((index, *counts))
        while self.bins[0][0] <= index - _BINS:
            self.bins.pop(0)

    def counts(self) -> Counts:
        """The sum, as of the time of the last addition."""
        if not self.bins:
            return Counts()
        _, *sums = map(sum, zip(*self.bins, strict=True))
        return Counts(*sums)

    def copy(self) -> Trailing:
        """An independent copy."""
        return Trailing(self.seconds, self.bins[:])


class Stretch(NamedTuple):
    """The stretch of time that speaks most for one alternative (Page's CUSUM)."""

    since: float
    evidence: float = 0.0
    """Log likelihood ratio over the stretch, in nats, up to MOST_EVIDENCE."""
    counts: Counts = Counts()


@dataclass(slots=True)
class Onset:
    """Since when, and with which counts, the candidate looks worst: one stretch per alternative."""

    evidence: Floats
    """By alternative."""
    origins: Rows
    """By alternative: since when, and the sum of counts before."""
    seen: Counts = field(default_factory=Counts)
    """The sum of all counts."""

    @classmethod
    def over(cls, alternatives: int, start: float) -> Onset:
        """Nothing seen yet."""
        return cls([0.0] * alternatives, [(start, *Counts())] * alternatives)

    def update(self, since: float, factors: Sequence[float], counts: Counts) -> None:
        """Add a step that began at `since`; a stretch without evidence begins anew with it."""
        here = (since, *self.seen)
        evidence, origins = [], []
        for before, origin, factor in zip(self.evidence, self.origins, factors, strict=True):
            if before > 0:
                evidence.append(min(before + factor, MOST_EVIDENCE))
                origins.append(origin)
            else:
                evidence.append(factor)
                origins.append(here)
        self.evidence, self.origins = evidence, origins
        self.seen = self.seen.plus(counts)

    def worst(self) -> Stretch:
        """The stretch with the most evidence against the candidate."""
        evidence = max(self.evidence)
        since, *before = self.origins[self.evidence.index(evidence)]
        return Stretch(since, evidence, Counts(*map(sub, self.seen, before)))

    def copy(self) -> Onset:
        """An independent copy."""
        # Lists are replaced, never changed in place.
        return Onset(self.evidence, self.origins, self.seen)
