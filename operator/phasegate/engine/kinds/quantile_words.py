"""Latencies, quantiles and missing edges as people read them."""

from __future__ import annotations

from typing import Final

from phasegate.engine.histograms import quantile, quantile_bucket
from phasegate.engine.kinds.quantile import QuantileCheck, QuantileState
from phasegate.engine.kinds.quantile_view import View
from phasegate.engine.ordering import floor, reach

_SAME: Final = 1e-6
_WIDE: Final = 1.5
"""A bucket this much wider than the ratio to exclude says too little about its quantile."""


def latency(seconds: float) -> str:
    """0.85 → 850 ms, 4.63 → 4.63 s, 163.2 → 163 s."""
    if 0 < abs(seconds) < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if abs(seconds) < 999.5 else f"{seconds:.0f} s"


def quantile_name(q: float) -> str:
    """0.95 → p95, 0.999 → p99.9."""
    return f"p{round(q * 100, 6):g}"


def tested_at(level: float, edge: float) -> str:
    """What to know if a level is not tested where it was written; empty if it is."""
    if abs(edge - level) <= _SAME * level:
        return ""
    return f" (no bucket edge at {latency(level)}; tested at {latency(edge)})"


def missing_edge(spec: QuantileCheck, state: QuantileState, view: View) -> str:
    """Which edge the comparison with the baseline lacks; empty if it lacks none.

    The baseline has been seen with enough calls.
    """
    edges, past, common = state.edges.values, state.past, view.common
    if not common:
        return "no bucket edge that both revisions have: give them the same buckets"
    last, name = edges[common[-1]], quantile_name(spec.q)
    if past[common[-1]] < spec.q * past[-1]:
        return f"the baseline's {name} is above {latency(last)}, the last edge that both have"
    low, high = quantile_bucket(spec.q, edges, past, common)
    if low <= 0:
        return f"the baseline's {name} is below {latency(high)}, the first edge that both have"
    if high / low > _WIDE * (2.0 if spec.relative is None else spec.relative.excluded):
        return (
            f"the baseline's {name} lies somewhere between {latency(low)} and {latency(high)}: "
            "add edges between them"
        )
    if view.ordering is None or not view.ordering.active:
        low = quantile(1 - reach(spec.q), edges, past, common)
        high = quantile(1 - floor(spec.q), edges, past, common)
        return (
            f"no bucket edge between {latency(spec.tolerate * low)} and "
            f"{latency(spec.tolerate * high)} that both revisions have: add one"
        )
    if view.mirror is None and spec.relative is not None:
        ratio = spec.relative.excluded
        beyond = ratio * quantile(spec.q, edges, past, common)
        return f"no bucket edge up to {latency(beyond)} ({ratio:g}x) that both have: add one"
    return ""
