"""The series of a metric: from its source if the name is well-known, else as the policy writes it."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from phasegate.api.errors import InvalidSpec
from phasegate.api.metricrules import WELL_KNOWN
from phasegate.api.quantities import parse_duration, parse_percent
from phasegate.api.rollbackpolicy import Metric
from phasegate.engine.amounts import Amount
from phasegate.engine.compiling.context import Context
from phasegate.engine.prices import Priced
from phasegate.engine.selectors import RESERVED_LABELS, Matcher, parse_selector
from phasegate.engine.sources import SOURCES
from phasegate.engine.sources.base import (
    DriftSource,
    EventSource,
    MeanSource,
    MetricSource,
    QuantileSource,
    RatioSource,
    Tokens,
    narrowed,
)

_KINDS = ("ratio", "quantile", "mean", "event", "threshold")
_OWN = "ratio, quantile, mean or event"


def series_of(metric: Metric, preset: str) -> MetricSource | None:
    """What a metric is measured by; None for a threshold, which is a query.

    Raises InvalidSpec naming the presets that could give it.
    """
    kinds = [kind for kind in _KINDS if getattr(metric, kind) is not None]
    if len(kinds) > 1:
        raise InvalidSpec(f"has {' and '.join(kinds)}; keep one of them")
    if metric.deadline is not None and (kinds or metric.name != "hang-rate"):
        raise InvalidSpec("deadline belongs to hang-rate; leave it out")
    if not kinds:
        return _timed(metric, _known(metric, preset), preset)
    if metric.unit != "Call":
        raise InvalidSpec("unit: your own series count what they count; leave unit out")
    return _custom(metric, preset)


def _known(metric: Metric, preset: str) -> MetricSource:
    wanted = metric.unit == "Conversation"
    giving = {
        name: source.conversations if wanted else source.metrics for name, source in SOURCES.items()
    }
    if metric.name in giving[preset]:
        return giving[preset][metric.name]
    if metric.name not in WELL_KNOWN:
        raise InvalidSpec(
            f"is no well-known name ({', '.join(WELL_KNOWN)}); give it {_OWN} with its series"
        )
    others = [name for name, metrics in giving.items() if metric.name in metrics]
    if wanted:
        words = f"; {_listed(others)}" if others else ""
        raise InvalidSpec(
            f"unit: source {preset} counts no conversations for it{words}; or leave unit out"
        )
    raise InvalidSpec(
        f"source {preset} has no series for {metric.name}; {_listed(others)}; "
        f"or give it a name of your own and add {_OWN}"
    )


def _listed(presets: list[str]) -> str:
    *others, last = presets
    return f"{', '.join(others)} and {last} do" if others else f"{last} does"


def _timed(metric: Metric, found: MetricSource, preset: str) -> MetricSource:
    """The deadline after which a call counts as hanging, where the policy sets one."""
    if metric.deadline is None:
        return found
    if not isinstance(found, RatioSource) or found.deadline is None:
        raise InvalidSpec(f"deadline: source {preset} counts by the gateway's own timeout")
    seconds = parse_duration(metric.deadline).total_seconds()
    if seconds <= 0:
        raise InvalidSpec("deadline must be longer than zero")
    return replace(found, deadline=seconds)


# --- the policy's own series ---------------------------------------------------------------------


def _custom(metric: Metric, preset: str) -> MetricSource | None:
    reserved = RESERVED_LABELS | SOURCES[preset].identity.names
    if metric.ratio is not None:
        bad = parse_selector(metric.ratio.bad, reserved)
        total = parse_selector(metric.ratio.total, reserved)
        if bad == total:
            raise InvalidSpec("ratio.bad and ratio.total are the same series; narrow ratio.bad")
        return RatioSource(total, bad=bad)
    if metric.quantile is not None:
        return _quantile(metric, reserved)
    if metric.mean is not None:
        return _mean(metric, reserved)
    if metric.event is not None:
        return EventSource(parse_selector(metric.event.counter, reserved))
    return None


def _quantile(metric: Metric, reserved: frozenset[str]) -> QuantileSource:
    assert metric.quantile is not None
    histogram = parse_selector(metric.quantile.histogram, reserved | {"le"})
    if histogram.name.endswith("_bucket"):
        raise InvalidSpec("quantile.histogram: write the histogram's name without _bucket")
    q = parse_percent(metric.quantile.q)
    if not 0 < q < 1:
        raise InvalidSpec("quantile.q must be between 0% and 100%, such as 95%")
    return QuantileSource(histogram, q, scale=0.001 if metric.quantile.unit == "ms" else 1.0)


def _mean(metric: Metric, reserved: frozenset[str]) -> MeanSource:
    mean = metric.mean
    assert mean is not None
    total, count = parse_selector(mean.sum, reserved), parse_selector(mean.count, reserved)
    if total == count:
        raise InvalidSpec("mean.sum and mean.count are the same series")
    top = None if mean.top is None else float(mean.top)
    if mean.worse == "below" and top is None:
        raise InvalidSpec("mean.top is needed where less is worse: the highest score of one call")
    if top is not None and top <= 0:
        raise InvalidSpec("mean.top must be more than 0")
    return MeanSource(Amount.of(total), Amount.of(count), mean.worse, top, mean.unit or "")


# --- what only the agent and the administrator know ----------------------------------------------


def drift(source: DriftSource, context: Context) -> RatioSource:
    """Answers by another model than the pinned one, of those that some model gave."""
    if not context.model:
        raise InvalidSpec("needs the pinned model: set spec.agent.model.name of the agent")
    answered = narrowed(source.total, Matcher(source.label, "!=", ""))
    return RatioSource(answered, bad=narrowed(answered, Matcher(source.label, "!=", context.model)))


def amount_of(spent: Amount | Tokens, context: Context) -> Amount | Priced:
    """What is counted up: as it is, or tokens times their price."""
    match spent:
        case Amount():
            return spent
        case Tokens():
            if context.prices is None:
                raise InvalidSpec(
                    "this source reports tokens, not money: the administrator has to name a price "
                    "table in the operator's configuration (prices)"
                )
            return Priced(spent.ways, spent.model, context.prices)
    assert_never(spent)


def money_of(preset: str, context: Context) -> Amount | Priced | None:
    """What calls cost in US dollars, as far as the source, or the price table, knows it."""
    source = SOURCES[preset].metrics.get("cost-per-call")
    try:
        return amount_of(source.sum, context) if isinstance(source, MeanSource) else None
    except InvalidSpec:
        return None
