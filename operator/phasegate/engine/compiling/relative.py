"""Comparison with the baseline: factors, and what they are where a policy leaves them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from phasegate.api.errors import InvalidSpec
from phasegate.api.rollbackpolicy import Metric
from phasegate.engine.kinds.ratio import Relative

_SPIKE: Final = 3.0


@dataclass(frozen=True, slots=True)
class Factors:
    """Ratios to the baseline: a regression from `limit` on, fine up to `tolerate`."""

    limit: float
    tolerate: float


ERRORS: Final = Factors(1.5, 1.1)
LATENCY: Final = Factors(1.5, 1.15)
COST: Final = Factors(3.0, 1.25)
SCORE: Final = Factors(0.9, 0.975)
"""Less is worse: below one."""


def relative(metric: Metric, defaults: Factors, slack: float = 0.0) -> Relative | None:
    """The comparison that a metric asks for. Raises InvalidSpec if it tolerates what it forbids."""
    baseline = metric.baseline
    if baseline is None:
        return None
    limit = defaults.limit if baseline.worse_by is None else float(baseline.worse_by)
    tolerate = defaults.tolerate if baseline.tolerate is None else float(baseline.tolerate)
    return _upward(limit, tolerate, slack) if defaults.limit > 1 else _downward(limit, tolerate)


def _upward(limit: float, tolerate: float, slack: float) -> Relative:
    if tolerate < 1:
        raise InvalidSpec("baseline.tolerate must be at least 1: as good as the baseline is fine")
    if limit <= tolerate:
        raise InvalidSpec(f"baseline.worseBy must be greater than baseline.tolerate ({tolerate:g})")
    return Relative(limit, tolerate, excluded=max(2.0, limit * 4 / 3), slack=slack)


def _downward(limit: float, tolerate: float) -> Relative:
    if tolerate > 1:
        raise InvalidSpec("baseline.tolerate must be at most 1: as good as the baseline is fine")
    if not 0 < limit < tolerate:
        raise InvalidSpec(
            f"baseline.worseBy must be between 0 and baseline.tolerate ({tolerate:g}): "
            "less is worse here, so '0.9' takes back what is a tenth lower"
        )
    # Twice as far from the baseline as the limit; for limits far down, half of them.
    return Relative(limit, tolerate, excluded=max(1 - 2 * (1 - limit), limit / 2))


def spike(metric: Metric) -> float | None:
    """How many times the amount before is a spike. Raises InvalidSpec."""
    baseline = metric.baseline
    if baseline is None:
        return None
    if baseline.tolerate is not None:
        raise InvalidSpec("baseline.tolerate: a spike is not tested against chance; leave it out")
    factor = _SPIKE if baseline.worse_by is None else float(baseline.worse_by)
    if factor <= 1:
        raise InvalidSpec("baseline.worseBy must be greater than 1: how many times is a spike")
    return factor


def no_baseline(metric: Metric) -> None:
    """For kinds that cannot be compared. Raises InvalidSpec."""
    if metric.baseline is not None:
        raise InvalidSpec("baseline needs counts of bad calls; remove it, or use ratio")
