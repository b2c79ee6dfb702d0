"""Threshold queries: asked at fixed times, so that a replay asks what was asked before.

Agents that share a policy share its queries: each is asked once for all of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from phasegate.control.attempt import Attempt

STEP: Final = 5.0
"""Seconds between two evaluations: multiples of it in unix time."""
DELAY: Final = 2.0
"""Seconds after which a time is asked for: its samples must be there, or a replay would differ."""
NEAR: Final = 60.0
"""Seconds of results that may be missing and still be asked for with those of all others."""
SPAN: Final = 3600.0
"""Seconds asked for at once when more is missing."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question: an expression at regular times, for these metrics of these attempts."""

    text: str
    start: float
    end: float
    askers: tuple[tuple[Attempt, str], ...]
    step: float = STEP


def grid(at: float) -> float:
    """The last time of evaluation up to `at` (unix s)."""
    return math.floor(at / STEP) * STEP


def live_queries(attempts: Iterable[Attempt], now: float) -> list[Query]:
    """What everybody who is up to date needs next: one question for each expression."""
    end = grid(now - DELAY)
    askers: defaultdict[str, list[tuple[Attempt, str]]] = defaultdict(list)
    for attempt in attempts:
        for metric, text in attempt.subject.queries.items():
            if end - NEAR <= attempt.asked_until[metric] < end:
                askers[text].append((attempt, metric))
    return [
        Query(text, min(_next(*asker) for asker in found), end, tuple(found))
        for text, found in askers.items()
        if any(_next(*asker) <= end for asker in found)
    ]


def late_queries(attempt: Attempt, now: float) -> list[Query]:
    """What an attempt that missed more needs next."""
    end = grid(now - DELAY)
    return [
        Query(text, start, min(end, start + SPAN), ((attempt, metric),))
        for metric, text in attempt.subject.queries.items()
        if attempt.asked_until[metric] < end - NEAR and (start := _next(attempt, metric)) <= end
    ]


def pending(attempt: Attempt, now: float) -> list[Query]:
    """What one attempt needs next."""
    return late_queries(attempt, now) or live_queries([attempt], now)


def _next(attempt: Attempt, metric: str) -> float:
    return grid(attempt.asked_until[metric]) + STEP
