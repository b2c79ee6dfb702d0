"""Checks of any kind: what they have in common, and who follows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from phasegate.engine.kinds.amount import AmountCheck
from phasegate.engine.kinds.amount_tracker import AmountTracker
from phasegate.engine.kinds.base import Settings, Tracker
from phasegate.engine.kinds.event import EventCheck, EventTracker
from phasegate.engine.kinds.mean import MeanCheck
from phasegate.engine.kinds.mean_tracker import MeanTracker
from phasegate.engine.kinds.quantile import QuantileCheck
from phasegate.engine.kinds.quantile_tracker import QuantileTracker
from phasegate.engine.kinds.ratio import RatioCheck
from phasegate.engine.kinds.ratio_tracker import RatioTracker
from phasegate.engine.kinds.threshold import ThresholdCheck, ThresholdTracker
from phasegate.engine.selectors import Selector

CheckSpec = RatioCheck | QuantileCheck | MeanCheck | AmountCheck | EventCheck | ThresholdCheck
"""One check, compiled. Every kind has name, metric, warm_up, late, selectors(), parts(), tests()."""


def selectors(checks: Iterable[CheckSpec]) -> frozenset[Selector]:
    """Every series the checks need, besides the plan's `volume`."""
    return frozenset(selector for check in checks for selector in check.selectors())


def threshold_queries(checks: Iterable[CheckSpec]) -> Mapping[str, str]:
    """Queries by metric; their results come as series ``threshold:<metric>`` of the candidate."""
    return {check.metric: check.query for check in checks if isinstance(check, ThresholdCheck)}


def track(check: CheckSpec, settings: Settings) -> Tracker:
    """A tracker for the check at the start of a phase."""
    match check:
        case RatioCheck():
            return RatioTracker(check, settings)
        case QuantileCheck():
            return QuantileTracker(check, settings)
        case MeanCheck():
            return MeanTracker(check, settings)
        case AmountCheck():
            return AmountTracker(check, settings)
        case EventCheck():
            return EventTracker(check, settings)
        case ThresholdCheck():
            return ThresholdTracker(check, settings)
