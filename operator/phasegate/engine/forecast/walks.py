"""Evidence as a random walk: how many calls, and how much time, it takes to convince.

A call adds a drift and a variance (nats). Evidence convinces after about
(need + cost of not knowing the onset + 0.5) / drift calls, `need` being ln(tests / alpha); the drift
is that of the alternative of the check's own grid that fits the regression best. A Pass takes
(ln(1/beta) + 0.5) / drift of the mirrored test. Agreement with the engine is tested by simulation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, NamedTuple

from phasegate.engine.eprocess import AT_START, RATE_GRID, RATIO_GRID, Grid, Tempo
from phasegate.engine.kinds.base import Settings

_CLEAR_RATES: Final = RATE_GRID.mirrored()
_CLEAR_RATIOS: Final = RATIO_GRID.mirrored()
NORMAL: Final = NormalDist()
OVERSHOOT: Final = 0.5
"""Nats by which the last step overshoots, and which the mixture over alternatives costs."""
_MANY_JUMPS: Final = 200.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast evidence comes in: calls a second of both arms that this check counts."""

    candidate: float
    baseline: float
    scrape_seconds: float
    dispersion: float = 1.0

    @property
    def share(self) -> float:
        """Calls of the baseline for each of the candidate."""
        return self.baseline / self.candidate if self.candidate else math.inf


class Walk(NamedTuple):
    """What calls of the candidate add to a test's evidence, in nats: jumps, and a steady rest."""

    rate: float
    """Jumps for each call: its bad ones."""
    jump: float
    rest: float
    """What a call adds besides, on average."""
    noise: float = 0.0
    """Variance of the rest."""

    @property
    def drift(self) -> float:
        """Nats for each call."""
        return self.rate * self.jump + self.rest

    @property
    def variance(self) -> float:
        """Nats squared for each call."""
        return self.rate * self.jump * self.jump + self.noise

    def growth(self, calls: float, room: float) -> float:
        """Mean of what a round of about so many calls adds, when it may add `room` at most."""
        mean, rest = self.rate * calls, self.rest * calls
        if mean > _MANY_JUMPS:
            return min(self.drift * calls, room)
        chance, total, grown = math.exp(-mean), 0.0, 0.0
        for jumps in range(int(mean + 10 * math.sqrt(mean) + 10)):
            total += chance
            grown += chance * min(jumps * self.jump + rest, room)
            chance *= mean / (jumps + 1)
        return grown + (1 - total) * room


# --- walks of the tests ----------------------------------------------------------------------------


def against_rate(rate: float, level: float, grid: Grid = RATE_GRID) -> list[Walk]:
    """Per alternative: calls that are bad with `rate`, tested against `level`."""
    costs = grid.costs(level / (1 - level))
    return [Walk(rate, log, cost) for log, cost in zip(grid.logs, costs, strict=True)]


def against_baseline(
    rate: float, base: float, tolerate: float, share: float, grid: Grid = RATIO_GRID
) -> list[Walk]:
    """Per alternative: the ratio of `rate` to the baseline's `base`, tested against `tolerate`.

    `share`: calls of the baseline for each of the candidate.
    """
    costs = grid.costs(tolerate / share)
    return [
        Walk(rate, log + cost, share * base * cost, share * base * cost * cost)
        for log, cost in zip(grid.logs, costs, strict=True)
    ]


def not_worse(rate: float, base: float, excluded: float, share: float, slack: float) -> list[Walk]:
    """Per alternative of a Pass against the baseline: the test that excludes a ratio (ADR 0008)."""
    return [
        walk._replace(rest=walk.rest + slack * (1 - math.exp(walk.jump)))
        for walk in against_baseline(rate, base, excluded, share, _CLEAR_RATIOS)
    ]


def not_beyond(rate: float, level: float) -> list[Walk]:
    """Per alternative of a Pass: the test that excludes a level."""
    return against_rate(rate, level, _CLEAR_RATES)


def first_passage(need: float, drift: float, variance: float, share: float) -> float:
    """Steps within which a walk reaches `need` in this share of the cases; infinite: never.

    The first passage of a Brownian motion with drift is inverse Gaussian with mean need/drift and
    shape need²/variance; its quantile by bisection on the logarithm.
    """
    if drift <= 0:
        return math.inf
    mean = need / drift
    if variance <= 1e-12 * need * need:
        return mean
    shape = need * need / variance
    low, high = math.log(mean) - 30, math.log(mean) + 30
    while high - low > 1e-4:
        middle = (low + high) / 2
        if _passed(math.exp(middle), mean, shape) < share:
            low = middle
        else:
            high = middle
    return math.exp(high)


def _passed(steps: float, mean: float, shape: float) -> float:
    """Distribution function of the inverse Gaussian."""
    root = math.sqrt(shape / steps)
    tail = NORMAL.cdf(-root * (steps / mean + 1))
    # The product of something huge and something tiny; beyond e^500 the tail is nothing.
    rest = math.exp(2 * shape / mean) * tail if 2 * shape / mean < 500 else 0.0
    return NORMAL.cdf(root * (steps / mean - 1)) + rest


# --- how long ------------------------------------------------------------------------------------


def seconds_to_convince(
    walks: Sequence[Walk], before: Sequence[Walk], tempo: Tempo, pace: Pace, need: float
) -> float | None:
    """Seconds from an onset in mid-phase to a Fail, half of the time; None: never.

    `walks` are the tests' after the onset, `before` the same tests' before it, one for one. What a
    round may add is bounded, so it takes several rounds at least.
    """
    if not pace.candidate:
        return None
    length = round_seconds(tempo, pace.scrape_seconds)
    calls = pace.candidate * length / pace.dispersion
    room = tempo.share * tempo.need * (1 + math.exp(-pace.candidate * length))
    found = []
    for index, (walk, usual) in enumerate(zip(walks, before, strict=True)):
        growth = walk.growth(calls, room / 2 if index < tempo.gentle else room)
        if growth > 0:
            total = need + restart_cost(tempo, length, growth, -usual.drift * calls) + OVERSHOOT
            noise = walk.variance * calls * min(1.0, growth / (walk.drift * calls)) ** 2
            found.append(first_passage(total, growth, noise, 0.5) * length)
    return min(found, default=None)


def restart_cost(tempo: Tempo, length: float, growth: float, decay: float) -> float:
    """Nats that it costs that nobody knows the onset: mass is released evenly over the phase.

    What counts is what is released around the onset: before it while little of it is lost again
    (`decay` nats a round of `length` seconds), after it while little is missed (`growth`).
    """
    around = max(length, length / growth + (length / decay if decay > 0 else math.inf))
    mass = (1 - AT_START) * around / tempo.planned_seconds
    return -math.log(min(1.0, mass))


def round_seconds(tempo: Tempo, scrape_seconds: float) -> float:
    """How long a round really is: whole scrapes, about as long as it should be at least."""
    return scrape_seconds * max(1, math.ceil(0.8 * tempo.round_seconds / scrape_seconds))


@dataclass(frozen=True, slots=True)
class Wait:
    """How long something takes, in seconds."""

    usual: float
    """Half of the time."""
    slow: float
    """In nine of ten cases."""

    def longer(self, other: Wait) -> Wait:
        """Until both have happened, about."""
        return Wait(max(self.usual, other.usual), max(self.slow, other.slow))


def wait_to_clear(walks: Iterable[Walk], pace: Pace, settings: Settings) -> Wait | None:
    """How long until a level is excluded; None: it never is."""
    need = (settings.clear_need + OVERSHOOT) * pace.dispersion
    rising = [walk for walk in walks if walk.drift > 0]
    if not rising or not pace.candidate:
        return None
    usual, slow = (
        min(first_passage(need, walk.drift, walk.variance, share) for walk in rising)
        for share in (0.5, 0.9)
    )
    scrape = pace.scrape_seconds
    return Wait(usual / pace.candidate + scrape / 2, slow / pace.candidate + scrape / 2)
