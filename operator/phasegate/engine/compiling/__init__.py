"""Compiles a policy into checks: what is fetched, what is tested, at which level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, assert_never

from phasegate.api.errors import InvalidSpec
from phasegate.api.quantities import parse_duration, parse_percent
from phasegate.api.rollbackpolicy import Level, Metric, RollbackPolicySpec
from phasegate.engine.checks import CheckSpec
from phasegate.engine.compiling.context import Context
from phasegate.engine.compiling.levels import (
    Levels,
    plain,
    read_levels,
    seconds,
    share,
    side_of,
)
from phasegate.engine.compiling.relative import (
    COST,
    ERRORS,
    LATENCY,
    SCORE,
    no_baseline,
    relative,
    spike,
)
from phasegate.engine.compiling.series import amount_of, drift, money_of, series_of
from phasegate.engine.kinds.amount import AmountCheck
from phasegate.engine.kinds.base import Bound
from phasegate.engine.kinds.event import EventCheck
from phasegate.engine.kinds.mean import MeanCheck
from phasegate.engine.kinds.quantile import QuantileCheck
from phasegate.engine.kinds.ratio import RatioCheck
from phasegate.engine.kinds.threshold import ThresholdCheck
from phasegate.engine.sources.base import (
    AmountSource,
    DriftSource,
    EventSource,
    MeanSource,
    QuantileSource,
    RatioSource,
)
from phasegate.engine.verdict import CheckLevel

__all__ = ["Context", "compile_checks", "money_of"]

_SEVERE: Final = 0.5
_SLACK_SHARE: Final = 0.1
"""A difference of a tenth of the level does not matter for a Pass against the baseline."""
_SLACK: Final = 0.005
"""The same where a metric has no level of its own."""
_NOTHING_KNOWN: Final = Context()


def compile_checks(
    policy: RollbackPolicySpec, context: Context = _NOTHING_KNOWN
) -> tuple[CheckSpec, ...]:
    """The checks of a policy, in its order. Raises InvalidSpec naming the metric and the fix."""
    seen: set[str] = set()
    checks = []
    for metric in policy.metrics:
        try:
            if metric.name in seen:
                raise InvalidSpec("the name is used twice; give every metric a name of its own")
            seen.add(metric.name)
            check = _compile(metric, policy.source, context)
            checks.append(replace(check, warm_up=_warm_up(metric)))
        except InvalidSpec as error:
            raise InvalidSpec(f"metric {metric.name!r}: {error}") from None
    return tuple(checks)


def _compile(metric: Metric, preset: str, context: Context) -> CheckSpec:
    source = series_of(metric, preset)
    match source:
        case None:
            return _threshold(metric)
        case RatioSource():
            return _ratio(metric, source)
        case DriftSource():
            return _drift(metric, drift(source, context))
        case QuantileSource():
            return _quantile(metric, source)
        case MeanSource():
            return _mean(metric, source, context)
        case AmountSource():
            return _amount(metric, source, context)
        case EventSource():
            return _event(metric, source)
    assert_never(source)


def _warm_up(metric: Metric) -> float:
    return 0.0 if metric.warm_up is None else parse_duration(metric.warm_up).total_seconds()


# --- estimates: tested against chance ------------------------------------------------------------


def _ratio(metric: Metric, source: RatioSource) -> RatioCheck:
    good = source.good is not None and source.deadline is None
    levels = read_levels(metric, "below" if good else "above", share)
    if good:  # users think in good calls, the engine in bad ones
        levels = Levels(_turned(levels.limit), _turned(levels.gate), _turned(levels.alert))
    level = levels.limit or levels.gate
    slack = _SLACK if level is None else level.value * _SLACK_SHARE
    return RatioCheck(
        name=metric.name,
        metric=metric.name,
        total=source.total,
        bad=source.bad,
        good=source.good,
        limit=levels.limit,
        gate=levels.gate,
        alert=levels.alert,
        relative=relative(metric, ERRORS, slack),
        severe=None if levels.limit is None else _severe(levels.limit.value),
        min_samples=metric.min_samples,
        late=source.late,
        deadline=source.deadline,
    )


def _drift(metric: Metric, source: RatioSource) -> RatioCheck:
    """The baseline may pin another model: its answers are no measure of the candidate's."""
    if metric.baseline is not None:
        raise InvalidSpec("baseline: it may pin another model, so there is nothing to compare")
    return replace(_ratio(metric, source), alone=True)


def _turned(bound: Bound | None) -> Bound | None:
    return None if bound is None else Bound(1 - bound.value, not bound.above, bound.window)


def _severe(limit: float) -> float | None:
    """Half of the calls, or well beyond a limit that is already high; None beyond 95 %."""
    rate = max(_SEVERE, limit + 0.3 if limit >= 0.4 else 0.0)
    return rate if rate <= 0.95 else None


def _quantile(metric: Metric, source: QuantileSource) -> QuantileCheck:
    levels = read_levels(metric, "above", seconds)
    return QuantileCheck(
        name=metric.name,
        metric=metric.name,
        histogram=source.histogram,
        q=source.q,
        scale=source.scale,
        limit=levels.limit,
        gate=levels.gate,
        alert=levels.alert,
        relative=relative(metric, LATENCY),
        min_samples=metric.min_samples,
    )


def _mean(metric: Metric, source: MeanSource, context: Context) -> MeanCheck:
    levels = read_levels(metric, source.worse, plain(source.unit))
    return MeanCheck(
        name=metric.name,
        metric=metric.name,
        sum=amount_of(source.sum, context),
        count=source.count,
        worse=source.worse,
        top=source.top,
        unit=source.unit,
        limit=_reachable(levels.limit, source.top),
        gate=_reachable(levels.gate, source.top),
        alert=_reachable(levels.alert, source.top),
        relative=relative(metric, COST if source.worse == "above" else SCORE),
        min_samples=metric.min_samples,
        late=source.late,
    )


def _reachable(bound: Bound | None, top: float | None) -> Bound | None:
    if bound is not None and top is not None and bound.value >= top:
        raise InvalidSpec(f"the highest score is {top:g}: a level must lie below it")
    return bound


# --- facts: what has happened --------------------------------------------------------------------


def _amount(metric: Metric, source: AmountSource, context: Context) -> AmountCheck:
    if metric.min_samples is not None:
        raise InvalidSpec("minSamples: an amount is a fact, not an estimate; leave it out")
    if metric.name == "traffic-volume" and metric.rollback is not None:
        raise InvalidSpec("rollback: users' traffic is not the revision's doing; use alert")
    levels = read_levels(metric, "above", plain(source.unit), windows=False)
    return AmountCheck(
        name=metric.name,
        metric=metric.name,
        amount=amount_of(source.amount, context),
        per_seconds=source.per_seconds,
        unit=source.unit,
        limit=levels.limit,
        gate=levels.gate,
        alert=levels.alert,
        spike=spike(metric),
        calls=source.calls,
    )


def _event(metric: Metric, source: EventSource) -> EventCheck:
    no_baseline(metric)
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
        try:
            text = side_of(level, "below" if gate else "above")
        except InvalidSpec as error:
            raise InvalidSpec(f"{field}: {error}") from None
        if not text.isdecimal():
            raise InvalidSpec(f"{field}: an event is counted, so write a number; or use ratio")
        if level.window is not None:
            raise InvalidSpec(f"{field}.window: events count over the whole phase; leave it out")
        if gate and int(text) < 1:
            raise InvalidSpec("gate: below '1' lets none pass, below '0' could never be")
        return float(text) - 1 if gate else float(text)
    return 0.0


def _threshold(metric: Metric) -> ThresholdCheck:
    no_baseline(metric)
    threshold = metric.threshold
    assert threshold is not None
    return ThresholdCheck(
        name=metric.name,
        metric=metric.name,
        query=threshold.query,
        for_seconds=parse_duration(threshold.for_).total_seconds(),
        limit=_value(metric.rollback, "rollback"),
        gate=_value(metric.gate, "gate"),
        alert=_value(metric.alert, "alert"),
    )


def _value(level: Level | None, field: str) -> Bound | None:
    if level is None:
        return None
    if (level.above is None) == (level.below is None):
        raise InvalidSpec(f"{field}: needs exactly one of above and below")
    if level.window is not None:
        raise InvalidSpec(f"{field}.window: a query has its own window; use threshold.for")
    text = level.above if level.above is not None else level.below or ""
    try:
        value = parse_percent(text) if text.endswith("%") else float(text)
    except ValueError:
        raise InvalidSpec(f"{field}: {text!r} is not a number as the query gives it") from None
    return Bound(value, above=level.above is not None)
