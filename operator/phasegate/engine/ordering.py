"""Is the candidate's tail slower than the baseline's? A test on buckets, exact at any rate.

Given how long a call took, whose was it? If the candidate is no slower, a call of a step with n_c
and n_b calls is the candidate's with probability ρ = n_c/(n_c + n_b) however long it took; if it
is slower, calls in high buckets j are its own with odds h(j) times as high. The likelihood ratio:

    a candidate's call in bucket j:  f(j) = h(j) / (ρ·h(j) + 1-ρ)
    a baseline's call in bucket j:   g(j) =   1  / (ρ·h(j) + 1-ρ)

Its mean is at most one whenever the candidate's latency C is stochastically at most the baseline's
B and h does not fall in j: then f rises, so E f(C) <= E f(B) =: a; with b := E g(B) and
ρ·a + (1-ρ)·b = 1, E Π <= a^n_c · b^n_b <= (ρ·a + (1-ρ)·b)^(n_c+n_b) = 1 by the inequality of the
means. h may be any function of the past, so validity asks neither for a model nor for stationarity;
h only decides how fast evidence grows (fastest for the true ratio of the densities). The same holds
with all signs turned.

To tolerate a factor s, B is stretched: calls of a bucket are spread over it as in `quantile`, and a
baseline's call takes the geometric mean of g over where it may lie: at most the arithmetic one,
which would keep E g(s·B). If the candidate is no slower at all, it does not matter whether the
spreading is right: the share above e/s that it gives is never less than the share above e.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import add, mul, sub
from typing import Final

from phasegate.engine.eprocess import Grid
from phasegate.engine.histograms import Vector, share_above

TAIL_GRID: Final = Grid(1.4, 1.8, 2.4, 4.0, 4.0, 20.0)
"""Alternatives: the candidate's survival is the baseline's to the power of 1/g, …"""
_TOUCHED: Final = (1.0, 1.0, 1.0, 1.0, 0.15, 0.04)
"""… for this share of the calls: a regression may hit every call a little or some calls much."""
FEWEST: Final = 20.0
"""Calls of the baseline from which on its tail is known well enough to look at."""


def reach(q: float) -> float:
    """Survival from which on the tail matters for the q-quantile: 50 % for p95, 10 % for p99."""
    return min(0.75, 10 * (1 - q))


def floor(q: float) -> float:
    """Survival below which single calls are not told apart: 1 % for p95."""
    return (1 - q) / 5


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a stretched edge lies in the baseline's buckets."""

    bucket: int
    """Index into the common edges of the bucket's upper edge."""
    above: float
    """Share of the bucket's calls above the cut."""


@dataclass(frozen=True, slots=True)
class Ordering:
    """The test until the baseline is looked at anew."""

    places: tuple[int, ...]
    """Places in a vector of the edges both arms have."""
    active: tuple[int, ...]
    """Places of the edges that divide the tail into categories; empty: there are none."""
    cuts: tuple[Cut, ...]
    """Where they lie in the baseline's buckets, stretched."""
    slopes: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]
    """By alternative: h by category, and its logarithms."""

    def log_factors(self, candidate: Vector, baseline: Vector) -> list[float]:
        """Nats by alternative that a step with calls of both arms adds."""
        own, theirs = candidate[-1], baseline[-1]
        rho = own / (own + theirs)
        slower = [own, *(own - candidate[place] for place in self.active), 0.0]
        stretched = [theirs, *(above(at, baseline, self.places) for at in self.cuts), 0.0]
        counts = list(map(sub, slower, slower[1:]))
        every = list(map(add, counts, map(sub, stretched, stretched[1:])))
        return [_log_factor(h, logs, rho, counts, every) for h, logs in self.slopes]


def _log_factor(
    slopes: Sequence[float],
    logs: Sequence[float],
    rho: float,
    own: Sequence[float],
    every: Sequence[float],
) -> float:
    rest = 1 - rho
    weights = [rho * slope + rest for slope in slopes]
    total: float = sum(map(mul, own, logs)) - sum(map(mul, every, map(math.log, weights)))
    return total


def cut(value: float, edges: Sequence[float], places: Sequence[int]) -> Cut:
    """Where a value, not above the last edge, lies in the buckets of the edges at `places`."""
    known = [edges[place] for place in places]
    bucket = bisect_left(known, value)
    low = known[bucket - 1] if bucket else 0.0
    return Cut(bucket, share_above(low, known[bucket], value))


def above(at: Cut, vector: Vector, places: Sequence[int]) -> float:
    """Calls of a vector above a cut."""
    high = vector[places[at.bucket]]
    low = vector[places[at.bucket - 1]] if at.bucket else 0.0
    return vector[-1] - high + at.above * (high - low)


def survival(at: Cut, vector: Vector, places: Sequence[int]) -> float:
    """Expected share of calls above a cut, from what was seen: never zero, never one."""
    return (above(at, vector, places) + 0.5) / (vector[-1] + 1)


def compare(
    q: float, tolerate: float, edges: Sequence[float], places: Sequence[int], past: Vector
) -> Ordering:
    """The test for a quantile, given the baseline's past (decayed counts)."""
    cuts = [cut(edges[place] / tolerate, edges, places) for place in places]
    levels = [survival(at, past, places) for at in cuts]
    active = [i for i, level in enumerate(levels) if floor(q) <= level <= reach(q)]
    borders = [1.0, *(levels[i] for i in active), 0.0]
    return Ordering(
        places=tuple(places),
        active=tuple(places[i] for i in active),
        cuts=tuple(cuts[i] for i in active),
        slopes=tuple(
            _slopes(borders, power, share, q)
            for power, share in zip(TAIL_GRID.ratios, _TOUCHED, strict=True)
        ),
    )


def _slopes(
    borders: Sequence[float], power: float, share: float, q: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """For h, by category between survivals: the mean slope of the candidate's survival.

    The candidate's survival is a concave function of the baseline's, so its slope rises towards the
    tail. It is linear above `reach` and below `floor`, where differences say nothing.
    """

    def candidate(level: float) -> float:
        if level >= reach(q):
            top = math.pow(reach(q), 1 / power)
            slower = 1 - (1 - top) * (1 - level) / (1 - reach(q))
        elif level <= floor(q):
            slower = math.pow(floor(q), 1 / power) * level / floor(q)
        else:
            slower = math.pow(level, 1 / power)
        return (1 - share) * level + share * slower

    found = 0.0
    slopes = []
    for high, low in pairwise(borders):
        if high > low:
            found = max(found, (candidate(high) - candidate(low)) / (high - low))
        slopes.append(found)
    return tuple(slopes), tuple(map(math.log, slopes))
