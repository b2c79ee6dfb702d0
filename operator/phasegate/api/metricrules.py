"""Well-known metrics, and what the API server checks of a metric when a policy is applied.

Each rule costs the API server time for every metric that a policy may have (24), and its budget for
one object is fixed: conditions come before patterns, and a pattern is only tried where it decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from phasegate.api.base import FACTOR, Cel
from phasegate.api.cel import one_of, ordered_limits

WELL_KNOWN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "error-rate": "ratio",
        "escalation-rate": "ratio",
        "tool-error-rate": "ratio",
        "hang-rate": "ratio",
        "accuracy": "ratio",
        "hallucination-rate": "ratio",
        "retrieval-accuracy": "ratio",
        "model-drift": "ratio",
        "latency-p50": "quantile",
        "latency-p95": "quantile",
        "latency-p99": "quantile",
        "quality-score": "mean",
        "satisfaction": "mean",
        "cost-per-call": "mean",
        "tokens-per-call": "mean",
        "spend-per-day": "amount",
        "traffic-volume": "amount",
        "safety-flags": "event",
    }
)
"""The kind of each; whose series they are is the policy's source (phasegate.engine.sources)."""
LESS_IS_WORSE: Final = ("accuracy", "retrieval-accuracy", "quality-score", "satisfaction")
KINDS: Final = ("ratio", "quantile", "mean", "event", "threshold")
"""Fields that say where the numbers of a metric of one's own come from."""
_LEVELS: Final = ("gate", "alert", "rollback")
_KNOWN: Final = f"self.name in {one_of(WELL_KNOWN)}"
_HAS_KIND: Final = tuple(f"has(self.{kind})" for kind in KINDS)


def _is(*kinds: str) -> str:
    """CEL: the metric is of one of these kinds, by its field or by its name."""
    fields = [f"has(self.{kind})" for kind in kinds if kind in KINDS]
    names = [name for name, kind in WELL_KNOWN.items() if kind in kinds]
    return "(" + " || ".join([*fields, *([f"self.name in {one_of(names)}"] if names else [])]) + ")"


_LESS: Final = (
    f"(self.name in {one_of(LESS_IS_WORSE)}"
    " || (has(self.mean) && has(self.mean.worse) && self.mean.worse == 'below'))"
)


# --- levels --------------------------------------------------------------------------------------


def _notation(level: str, applies: str, holds: str, message: str) -> Cel:
    """A rule on whichever bound of a level is given; ``holds`` is CEL with ``@`` for the bound."""
    bounds = " && ".join(
        f"(!has(self.{level}.{side}) || type(self.{level}.{side}) != string || "
        + holds.replace("@", f"self.{level}.{side}")
        + ")"
        for side in ("above", "below")
    )
    return Cel(f"!has(self.{level}) || !{applies} || ({bounds})", message, f".{level}")


def _side(level: str, applies: str, right: str, wrong: str, why: str) -> Cel:
    return Cel(
        f"!has(self.{level}) || !has(self.{level}.{wrong}) || has(self.{level}.{right})"
        f" || !({applies})",
        f"use {right} here: {why}",
        f".{level}",
    )


def _level_rules(level: str) -> Iterator[Cel]:
    """What the kind of a metric asks of one of its levels."""
    bad, good = ("below", "above") if level == "gate" else ("above", "below")
    yield _notation(
        level,
        _is("ratio"),
        "@.endsWith('%')",
        "a ratio's limit is a percentage: write 5%, not 0.05",
    )
    yield _notation(
        level,
        _is("quantile"),
        "@.matches('[ms]$')",
        "the limit of a latency is a duration: write 3s or 800ms, not 3",
    )
    yield _notation(
        level,
        _is("event"),
        "@.matches('^[0-9]+$')",
        "the limit of an event is a whole number of increments, such as '0'",
    )
    yield _notation(
        level,
        _is("mean", "amount"),
        "@.matches('[0-9]$')",
        "the limit of a mean or an amount is a number in its own unit, such as '0.50', "
        "not 5% and not 3s",
    )
    yield _notation(
        level,
        "has(self.threshold)",
        "@.matches('[0-9]$')",
        "the limit of a threshold is a number as the query gives it, such as '0.05', not 5%",
    )
    more = f"!has(self.threshold) && !{_LESS}"
    yield _side(level, more, bad, good, "more of this metric is worse")
    yield _side(level, _LESS, good, bad, "less of this metric is worse")


def _order_rules() -> Iterator[Cel]:
    """Gate before rollback, alert before rollback, on either side."""
    gate, alert = "must not let pass what rollback takes back", "must warn before rollback acts"
    for low, high, why in (
        ("gate.below", "rollback.above", gate),
        ("rollback.below", "gate.above", gate),
        ("alert.above", "rollback.above", alert),
        ("rollback.below", "alert.below", alert),
    ):
        about, other, sign = (low, high, "<=") if low[0] != "r" else (high, low, ">=")
        yield Cel(
            ordered_limits(f"self.{low}", f"self.{high}"),
            f"{why}: {about} {sign} {other}",
            f".{about.partition('.')[0]}",
        )


# --- the baseline --------------------------------------------------------------------------------


def _factor(field: str, bound: str) -> str:
    """CEL: the factor is absent, is none (its own rule says so), or fulfils the bound."""
    path = f"self.baseline.{field}"
    return f"!has({path}) || !({FACTOR.matches(path)}) || double({path}) {bound}"


def _baseline_rules() -> Iterator[Cel]:
    yield Cel(
        f"!has(self.baseline) || !({_is('event', 'threshold')} || self.name == 'model-drift')",
        "an event, a threshold or model-drift cannot be compared with the stable revision: "
        "remove baseline",
        ".baseline",
    )
    for field in ("worseBy", "tolerate"):
        yield Cel(
            f"!has(self.baseline) || {_LESS} || {_factor(field, '>= 1.0')}",
            "must be at least '1': it is a ratio to the stable revision's value",
            f".baseline.{field}",
        )
        yield Cel(
            f"!has(self.baseline) || !{_LESS} || {_factor(field, '<= 1.0')}",
            "must be at most '1', as less of this metric is worse: '0.9' is a tenth less than the "
            "stable revision's value",
            f".baseline.{field}",
        )
    worse_by, tolerate = "self.baseline.worseBy", "self.baseline.tolerate"
    yield Cel(
        f"!has(self.baseline) || !has({worse_by}) || !has({tolerate})"
        f" || !({FACTOR.matches(worse_by)}) || !({FACTOR.matches(tolerate)})"
        f" || ({_LESS} ? double({tolerate}) > double({worse_by})"
        f" : double({tolerate}) < double({worse_by}))",
        "must be less than worseBy (more than it, where less is worse), or every difference that "
        "is tolerated is a regression too",
        ".baseline.tolerate",
    )
    yield Cel(
        f"!has(self.baseline) || !has({tolerate}) || !{_is('amount')}",
        "has no meaning for an amount: worseBy alone says how many times is a spike",
        ".baseline.tolerate",
    )


METRIC_RULES: Final[tuple[Cel, ...]] = (
    Cel(
        f"{_KNOWN} || [{', '.join(_HAS_KIND)}].exists_one(given, given)",
        "set exactly one of ratio, quantile, mean, event and threshold, or use a well-known name",
        message_expression="'set exactly one of ratio, quantile, mean, event and threshold: \"'"
        " + self.name + '\" is not a well-known name"
        f" ({', '.join(WELL_KNOWN)}) that brings its series'",
    ),
    Cel(
        f"!({_KNOWN}) || !({' || '.join(_HAS_KIND)})",
        "a well-known name brings its own series: remove ratio, quantile, mean, event and "
        "threshold, or choose another name",
    ),
    Cel(
        "has(self.gate) || has(self.alert) || has(self.rollback) || has(self.baseline)",
        "set at least one of gate, alert, rollback and baseline: nothing would be judged",
    ),
    Cel(
        "!has(self.deadline) || self.name == 'hang-rate'",
        "belongs to the metric hang-rate alone: remove deadline",
        ".deadline",
    ),
    Cel(
        f"!has(self.unit) || self.unit == 'Call' || !({' || '.join(_HAS_KIND)})",
        "is for well-known names: your own series count what they count, remove unit",
        ".unit",
    ),
    Cel(
        "!has(self.rollback) || self.name != 'traffic-volume'",
        "users' traffic is not the revision's doing, and taking it back would not lessen it: "
        "use alert, which holds",
        ".rollback",
    ),
    Cel(
        f"!has(self.minSamples) || !{_is('amount')}",
        "has no meaning for an amount, which is a fact and no estimate: remove minSamples",
        ".minSamples",
    ),
    Cel(
        f"!{_is('event', 'amount', 'threshold')} || !("
        + " || ".join(f"(has(self.{x}) && has(self.{x}.window))" for x in _LEVELS)
        + ")",
        "a window is for ratios, latencies and means: an event counts over the whole phase, an "
        "amount over the time in its unit, a threshold has its own `for`; remove window",
    ),
    *(rule for level in _LEVELS for rule in _level_rules(level)),
    *_order_rules(),
    *_baseline_rules(),
)
