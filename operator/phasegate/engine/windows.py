"""Counts over stretches of time: what an estimate and a message are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

_BINS: Final = 30
"""Bins of a trailing window: it is right to 1/30 of its length."""


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
    bins: list[tuple[int, Counts]] = field(default_factory=list)

    def add(self, at: float, counts: Counts) -> None:
        """Add counts at a time not before the last one's."""
        index = int(at // (self.seconds / _BINS))
        if self.bins and self.bins[-1][0] == index:
            self.bins[-1] = (index, self.bins[-1][1].plus(counts))
            return
        self.bins.append((index, counts))
        while self.bins[0][0] <= index - _BINS:
            self.bins.pop(0)

    def counts(self) -> Counts:
        """The sum, as of the time of the last addition."""
        total = Counts()
        for _, counts in self.bins:
            total = total.plus(counts)
        return total

    def copy(self) -> Trailing:
        """An independent copy."""
        return Trailing(self.seconds, self.bins[:])


class Stretch(NamedTuple):
    """The stretch of time that speaks most for one alternative (Page's CUSUM)."""

    since: float
    evidence: float = 0.0
    """Log likelihood ratio over the stretch, in nats, unbounded."""
    counts: Counts = Counts()


@dataclass(slots=True)
class Onset:
    """Since when, and with which counts, the candidate looks worst: one stretch per alternative."""

    stretches: list[Stretch]

    @classmethod
    def over(cls, alternatives: int, start: float) -> Onset:
        """Nothing seen yet."""
        return cls([Stretch(start)] * alternatives)

    def update(self, since: float, factors: Sequence[float], counts: Counts) -> None:
        """Add a step that began at `since`; a stretch without evidence begins anew with it."""
        for k, (stretch, factor) in enumerate(zip(self.stretches, factors, strict=True)):
            if stretch.evidence > 0:
                both = stretch.counts.plus(counts)
                self.stretches[k] = Stretch(stretch.since, stretch.evidence + factor, both)
            else:
                self.stretches[k] = Stretch(since, factor, counts)

    def worst(self) -> Stretch:
        """The stretch with the most evidence against the candidate."""
        return max(self.stretches, key=lambda stretch: stretch.evidence)

    def copy(self) -> Onset:
        """An independent copy."""
        return Onset(self.stretches[:])
