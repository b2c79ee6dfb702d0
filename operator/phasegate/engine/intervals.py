"""Anytime-valid interval of a rate: the decision's own mixture, inverted."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

from phasegate.engine.eprocess import RATE_GRID, Grid, log_factors, logsumexp

_SIDE: Final = 40.0
"""Each side errs with a probability of 1/40: 95 % together, at every look at once."""
_MIRRORED: Final = RATE_GRID.mirrored()
_EDGE: Final = 40.0
"""No bound is looked for beyond odds of e^-40 and e^40."""
_EXACT: Final = 0.01
"""Nats within which a bound is exact."""


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
    """The rate on one side of the estimate where the test against it reaches 40."""

    def excess(log_odds: float) -> float:
        factors = log_factors(bad, calls, grid.costs(math.exp(log_odds)), grid)
        return logsumexp(factors) - math.log(_SIDE * len(factors))

    kept = math.log((bad + 0.5) / (calls - bad + 0.5))
    missing, width = excess(kept), math.sqrt(8 / (bad + 0.5) + 8 / (calls - bad + 0.5))
    excluded = kept + side * width
    while (surplus := excess(excluded)) < 0:
        if abs(excluded) > _EDGE:
            return 0.0 if side < 0 else 1.0
        kept, missing, width = excluded, surplus, 2 * width
        excluded += side * width
    while surplus > _EXACT and abs(excluded - kept) > 1e-6:
        # Regula falsi with halving (Illinois), from the excluded end.
        between = (kept * surplus - excluded * missing) / (surplus - missing)
        found = excess(between)
        if found >= 0:
            excluded, surplus, missing = between, found, missing / 2
        else:
            kept, missing, surplus = between, found, surplus / 2
    return 1 / (1 + math.exp(-excluded))
