"""Anytime-valid interval of a rate: the decision's own mixture, inverted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from phasegate.engine.eprocess import RATE_GRID, Grid

_SIDE: Final = 40.0
"""Each side errs with a probability of 1/40: 95 % together, at every look at once."""
_MIRRORED: Final = RATE_GRID.mirrored()
_EDGE: Final = 40.0
"""No bound is looked for beyond odds of e^-40 and e^40."""
_EXACT: Final = 0.01
"""Nats within which a bound is exact."""
_STEPS: Final = 40


@lru_cache(maxsize=4096)
def rate_interval(bad: float, calls: float) -> tuple[float, float]:
    """95 % anytime-valid interval of the rate behind `bad` of `calls`, as fractions.

    A rate is outside if the mixture of tests against it (RATE_GRID times its odds, and the mirror
    image for the upper bound) reaches 40. Without calls the interval is everything.
    """
    if calls <= 0:
        return 0.0, 1.0
    bad = min(max(bad, 0.0), calls)
    lower = 0.0 if bad == 0 else _solve(bad, calls, -1.0, RATE_GRID)
    upper = 1.0 if bad == calls else _solve(bad, calls, 1.0, _MIRRORED)
    return lower, upper


def _solve(bad: float, calls: float, side: float, grid: Grid) -> float:
    """The rate on one side of the estimate where the test against it reaches 40.

    Newton's method on the log odds, kept between a rate that is not excluded and one that is.
    """
    offsets = [bad * log for log in grid.logs]
    good = calls - bad
    kept = math.log((bad + 0.5) / (good + 0.5))
    excluded = side * _EDGE
    if _excess(excluded, calls, offsets, grid)[0] < 0:
        return (1 + side) / 2
    at = kept + side * math.sqrt(8 / (bad + 0.5) + 8 / (good + 0.5))
    for _ in range(_STEPS):
        if not min(kept, excluded) < at < max(kept, excluded):
            at = (kept + excluded) / 2
        excess, slope = _excess(at, calls, offsets, grid)
        if 0 <= excess <= _EXACT:
            return 1 / (1 + math.exp(-at))
        if excess < 0:
            kept = at
        else:
            excluded = at
        at = at - (excess - _EXACT / 2) / slope if slope else math.nan
    return 1 / (1 + math.exp(-excluded))


def _excess(
    log_odds: float, calls: float, offsets: Sequence[float], grid: Grid
) -> tuple[float, float]:
    """Nats of the test against a rate beyond 40, and their derivative by its log odds."""
    odds = math.exp(log_odds)
    top = math.log1p(odds)
    likely = [
        offset + calls * (top - math.log1p(ratio * odds))
        for offset, ratio in zip(offsets, grid.ratios, strict=True)
    ]
    most = max(likely)
    weights = [math.exp(value - most) for value in likely]
    total = sum(weights)
    rates = sum(
        weight * ratio * odds / (1 + ratio * odds)
        for weight, ratio in zip(weights, grid.ratios, strict=True)
    )
    excess = most + math.log(total / (_SIDE * len(weights)))
    return excess, calls * (odds / (1 + odds) - rates / total)
