"""Compiles a policy into checks: what is fetched, what is tested, at which level."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from phasegate.api.errors import InvalidSpec
from phasegate.api.quantities import parse_duration, parse_percent
from phasegate.api.rollbackpolicy import Level, Metric, RollbackPolicySpec
from phasegate.engine.kinds.base import Bound, Settings, Tracker
from phasegate.engine.kinds.event import EventCheck, EventTracker
from phasegate.engine.kinds.ratio import RatioCheck, Relative
from phasegate.engine.kinds.ratio_tracker import RatioTracker
from phasegate.engine.kinds.threshold import ThresholdCheck, ThresholdTracker
from phasegate.engine.selectors import Selector, parse_selector
from phasegate.engine.sources import SOURCES, EventSource, RatioSource, Source
from phasegate.engine.verdict import CheckLevel

CheckSpec = RatioCheck | EventCheck | ThresholdCheck
"""One check, compiled. Every kind has name, metric, selectors(), parts() and tests()."""

_SEVERE: Final = 0.5
_SLACK_SHARE: Final = 0.1
"""A difference of a tenth of the level does not matter for a Pass against the baseline."""
_SLACK: Final = 0.005
"""The same where a metric has no level of its own."""


def compile_checks(policy: RollbackPolicySpec) -> tuple[CheckSpec, ...]:
    """The checks of a policy, in its order. Raises InvalidSpec naming the metric and the fix."""
    source = SOURCES[policy.source]
    seen: set[str] = set()
    checks = []
    for metric in policy.metrics:
        try:
            if metric.name in seen:
                raise InvalidSpec("the name is used twice; give every metric a name of its own")
            seen.add(metric.name)
            checks.append(_compile(metric, policy.source, source))
        except InvalidSpec as error:
            raise InvalidSpec(f"metric {metric.name!r}: {error}") from None
    return tuple(checks)


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
        case EventCheck():
            return EventTracker(check, settings)
        case ThresholdCheck():
            return ThresholdTracker(check, settings)


def _compile(metric: Metric, preset: str, source: Source) -> CheckSpec:
    kinds = [k for k in ("ratio", "event", "threshold") if getattr(metric, k) is not None]
    if len(kinds) > 1:
        raise InvalidSpec(f"has {' and '.join(kinds)}; keep one of them")
    if metric.ratio is not None:
        bad, total = parse_selector(metric.ratio.bad), parse_selector(metric.ratio.total)
        if bad == total:
            raise InvalidSpec("ratio.bad and ratio.total are the same series; narrow ratio.bad")
        return _ratio(metric, RatioSource(total=total, bad=bad))
    if metric.event is not None:
        return _event(metric, EventSource(parse_selector(metric.event.counter)))
    if metric.threshold is not None:
        return _threshold(metric)
    known = source.metrics.get(metric.name)
    if isinstance(known, RatioSource):
        return _ratio(metric, known)
    if isinstance(known, EventSource):
        return _event(metric, known)
    raise InvalidSpec(
        f"source {preset} has no series of that name; use one of "
        f"{', '.join(sorted(source.metrics))}, or add ratio, event or threshold"
    )


# --- ratio ---------------------------------------------------------------------------------------


def _ratio(metric: Metric, source: RatioSource) -> RatioCheck:
    good = source.good is not None
    limit = _rate(metric.rollback, "rollback", good=good, beyond_is_bad=True)
    gate = _rate(metric.gate, "gate", good=good, beyond_is_bad=False)
    alert = _rate(metric.alert, "alert", good=good, beyond_is_bad=True)
    if limit is not None and gate is not None and gate.value > limit.value:
        raise InvalidSpec("the gate lets pass what is rolled back; make gate at least as strict")
    if limit is not None and alert is not None and alert.value > limit.value:
        raise InvalidSpec("alert lies beyond rollback and could never come first; make it stricter")
    return RatioCheck(
        name=metric.name,
        metric=metric.name,
        total=source.total,
        bad=source.bad,
        good=source.good,
        limit=limit,
        gate=gate,
        alert=alert,
        relative=_relative(metric, limit or gate),
        severe=None if limit is None else _severe(limit.value),
        min_samples=metric.min_samples,
    )


def _rate(level: Level | None, field: str, *, good: bool, beyond_is_bad: bool) -> Bound | None:
    """A level as a share of bad calls; `beyond_is_bad`: rollback and alert, else a gate."""
    if level is None:
        return None
    above = beyond_is_bad != good
    text = _side(level, field, above=above)
    if not text.endswith("%"):
        raise InvalidSpec(f"{field}: {text!r} is a plain number; write a percentage such as 5%")
    share = parse_percent(text)
    if not 0 < share < 1:
        raise InvalidSpec(f"{field}: {text} cannot be tested; use event for what must never happen")
    return Bound(1 - share if good else share, above=beyond_is_bad, window=_window(level, field))


def _side(level: Level, field: str, *, above: bool) -> str:
    """The level's value, which must be on the given side."""
    want, other = ("above", "below") if above else ("below", "above")
    value, wrong = (level.above, level.below) if above else (level.below, level.above)
    if wrong is not None:
        raise InvalidSpec(f"{field}: {other} is the wrong side for this metric; write {want}")
    if value is None:
        raise InvalidSpec(f"{field}: needs {want}")
    return value


def _window(level: Level, field: str) -> float | None:
    if level.window is None:
        return None
    seconds = parse_duration(level.window).total_seconds()
    if seconds <= 0:
        raise InvalidSpec(f"{field}.window must be longer than zero; leave it out to use the onset")
    return seconds


def _relative(metric: Metric, level: Bound | None) -> Relative | None:
    baseline = metric.baseline
    if baseline is None:
        return None
    limit, tolerate = float(baseline.worse_by), float(baseline.tolerate)
    if tolerate < 1:
        raise InvalidSpec("baseline.tolerate must be at least 1: as good as the baseline is fine")
    if limit <= tolerate:
        raise InvalidSpec("baseline.worseBy must be greater than baseline.tolerate")
    return Relative(
        limit=limit,
        tolerate=tolerate,
        excluded=max(2.0, limit * 4 / 3),
        slack=_SLACK if level is None else level.value * _SLACK_SHARE,
    )


def _severe(limit: float) -> float | None:
    """Half of the calls, or well beyond a limit that is already high; None beyond 95 %."""
    rate = max(_SEVERE, limit + 0.3 if limit >= 0.4 else 0.0)
    return rate if rate <= 0.95 else None


# --- event and threshold -------------------------------------------------------------------------


def _event(metric: Metric, source: EventSource) -> EventCheck:
    _no_baseline(metric)
    levels: dict[CheckLevel, Level | None] = {
        "rollback": metric.rollback,
        "gate": metric.gate,
        "alert": metric.alert,
    }
    written = {name: level for name, level in levels.items() if level is not None}
    if len(written) > 1:
        raise InvalidSpec("an event has one level; keep rollback, gate or alert")
    return EventCheck(
        name=metric.name,
        metric=metric.name,
        counter=source.counter,
        level=next(iter(written), "rollback"),
        allowed=_allowed(written),
        min_samples=metric.min_samples,
    )


def _allowed(written: Mapping[CheckLevel, Level]) -> float:
    """Events in a phase that are no breach yet: none, unless a level says so."""
    for field, level in written.items():
        gate = field == "gate"
        text = _side(level, field, above=not gate)
        if text.endswith("%"):
            raise InvalidSpec(f"{field}: an event is counted, so write a number; or use ratio")
        if level.window is not None:
            raise InvalidSpec(f"{field}.window: events count over the whole phase; leave it out")
        return float(text) - 1 if gate else float(text)
    return 0.0


def _threshold(metric: Metric) -> ThresholdCheck:
    _no_baseline(metric)
    threshold = metric.threshold
    if threshold is None:
        raise InvalidSpec("needs threshold")
    bounds = {
        field: _bound(level, field)
        for field, level in (
            ("rollback", metric.rollback),
            ("gate", metric.gate),
            ("alert", metric.alert),
        )
    }
    return ThresholdCheck(
        name=metric.name,
        metric=metric.name,
        query=threshold.query,
        for_seconds=parse_duration(threshold.for_).total_seconds(),
        limit=bounds["rollback"],
        gate=bounds["gate"],
        alert=bounds["alert"],
    )


def _bound(level: Level | None, field: str) -> Bound | None:
    if level is None:
        return None
    if (level.above is None) == (level.below is None):
        raise InvalidSpec(f"{field}: needs exactly one of above and below")
    if level.window is not None:
        raise InvalidSpec(f"{field}.window: a query has its own window; use threshold.for")
    text = level.above if level.above is not None else level.below or ""
    value = parse_percent(text) if text.endswith("%") else float(text)
    return Bound(value, above=level.above is not None)


def _no_baseline(metric: Metric) -> None:
    if metric.baseline is not None:
        raise InvalidSpec("baseline needs counts of bad calls; remove it, or use ratio")
