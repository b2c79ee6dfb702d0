"""Numbers as people read them; every verdict is one sentence made of these."""

from __future__ import annotations

import math

from phasegate.engine.windows import Counts

_MANY = math.log(1e9)


def percent(rate: float | None) -> str:
    """0.0123 → 1.2%; small rates keep two digits; None → no calls."""
    if rate is None:
        return "no calls"
    if 0 < rate < 0.00995:
        return f"{rate:.2%}"
    return f"{rate:.1%}"


def number(value: float) -> str:
    """A plain number, without a tail of zeros."""
    return f"{value:.0f}" if value == int(value) else f"{value:.4g}"


def stretch(seconds: float) -> str:
    """A length of time: 45 s, 14 min, 3.2 h."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def odds(log_e: float) -> str:
    """Evidence in nats → 2,375:1."""
    if log_e >= _MANY:
        return "more than a billion to 1"
    return f"{math.exp(log_e):,.0f}:1" if log_e >= math.log(10) else f"{math.exp(log_e):.1f}:1"


def interval(bounds: tuple[float, float]) -> str:
    """An anytime-valid interval of a rate."""
    return f"95% anytime-valid interval {percent(bounds[0])}-{percent(bounds[1])}"


def candidate(counts: Counts, *, good: bool = False) -> str:
    """``candidate 9.8% (16/163)``; `good` shows the calls that were not bad."""
    shown = counts.total - counts.bad if good else counts.bad
    rate = None if counts.rate is None else (1 - counts.rate if good else counts.rate)
    return f"candidate {percent(rate)} ({number(shown)}/{number(counts.total)})"


def baseline(counts: Counts, *, good: bool = False) -> str:
    """``baseline 1.0% (30/3108)``."""
    rate = counts.baseline_rate
    if rate is None:
        return "baseline without calls"
    shown = counts.baseline_total - counts.baseline_bad if good else counts.baseline_bad
    rate = 1 - rate if good else rate
    return f"baseline {percent(rate)} ({number(shown)}/{number(counts.baseline_total)})"


def ratio(value: float | None) -> str:
    """A ratio to the baseline: 1.5x."""
    if value is None:
        return "no ratio"
    return "infinitely many times" if math.isinf(value) else f"{value:.3g}x"


def amount(value: float | None, unit: str = "") -> str:
    """An amount with its unit: 0.0712 → 0.0712 USD; 7412 → 7,412 tokens; None → no calls."""
    if value is None:
        return "no calls"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} {unit}" if unit else text
