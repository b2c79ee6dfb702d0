"""The baseline's last day: how much more its counts vary than independent calls would."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from phasegate.control.addresses import reader, selector
from phasegate.control.ports import RawSeries
from phasegate.control.subject import Subject
from phasegate.engine.checks import CheckSpec
from phasegate.engine.dispersion import dispersion
from phasegate.engine.kinds.ratio import RatioCheck

SPAN: Final = 86_400.0
"""Seconds of the past that are read."""
STEP: Final = 300.0
"""Seconds between two points; a block of calls."""


def history_query(subject: Subject) -> str | None:
    """A selector for the baseline's counters; None when no check needs its past."""
    names = {s.name for check in _counted(subject.plan.checks) for s in check.selectors()}
    addresses = [at for at, role in subject.addresses.items() if role == "baseline"]
    return selector(names, subject.identity, addresses) if names and addresses else None


def dispersions(subject: Subject, found: Iterable[RawSeries]) -> tuple[tuple[str, float], ...]:
    """Dispersion by check, from counters at regular steps; those at one are left out."""
    read = reader(subject.identity)
    mine = [
        series
        for series in found
        if subject.addresses.get(read.address(series.labels) or ()) == "baseline"
    ]
    origins = _origins(mine)
    grown = [(series, dict(_increments(series, origins[_target(series)]))) for series in mine]
    result = []
    for check in _counted(subject.plan.checks):
        phi = dispersion(_blocks(check, grown))
        if phi > 1:
            result.append((check.name, phi))
    return tuple(result)


def _counted(checks: Iterable[CheckSpec]) -> list[RatioCheck]:
    """Checks of calls and bad calls; where bad is what is late, steps of minutes say nothing."""
    return [c for c in checks if isinstance(c, RatioCheck) and c.deadline is None]


def _blocks(
    check: RatioCheck, grown: Iterable[tuple[RawSeries, Mapping[float, float]]]
) -> Iterator[tuple[float, float]]:
    """Calls and bad calls by block."""
    calls: defaultdict[float, float] = defaultdict(float)
    marked: defaultdict[float, float] = defaultdict(float)
    mark = check.good or check.bad
    for series, increments in grown:
        if check.total.accepts(series.name, series.labels):
            for at, amount in increments.items():
                calls[at] += amount
        if mark is not None and mark.accepts(series.name, series.labels):
            for at, amount in increments.items():
                marked[at] += amount
    for at, total in calls.items():
        bad = total - marked[at] if check.good is not None else marked[at]
        if 0 <= bad <= total:
            yield total, bad


def _origins(found: Iterable[RawSeries]) -> dict[str, float]:
    """When each process was first seen: what it counts first after that began at 0."""
    origins: dict[str, float] = {}
    for series in found:
        if series.samples:
            target, first = _target(series), series.samples[0][0]
            origins[target] = min(first, origins.get(target, first))
    return origins


def _increments(series: RawSeries, origin: float) -> Iterator[tuple[float, float]]:
    """Growth by block; none across a gap, and what a counter shows after a reset is new."""
    before: tuple[float, float] | None = None
    for at, value in series.samples:
        if before is None:
            if at > origin:
                yield at, value
        elif at - before[0] < 1.5 * STEP:
            yield at, value - before[1] if value >= before[1] else value
        before = (at, value)


def _target(series: RawSeries) -> str:
    return series.labels.get("pod") or series.labels.get("instance") or ""
