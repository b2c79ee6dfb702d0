"""What a source of metrics is: data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from phasegate.engine.amounts import Amount
from phasegate.engine.selectors import Matcher, Selector

TokenType = Literal["input", "output"]


@dataclass(frozen=True, slots=True)
class RatioSource:
    """Calls of which some are bad. Given `good` instead of `bad`, the rest is bad.

    With `deadline` (seconds) `total` counts calls that began and `good` calls that were answered:
    bad is what was not answered within it.
    """

    total: Selector
    bad: Selector | None = None
    good: Selector | None = None
    deadline: float | None = None
    late: bool = False
    """Labels that may come hours after the call."""


@dataclass(frozen=True, slots=True)
class DriftSource:
    """Answers by the model that gave them: bad is every model but the pinned one."""

    total: Selector
    label: str
    """The label that names the answering model; empty where none answered, which does not count."""


@dataclass(frozen=True, slots=True)
class EventSource:
    """A counter of which one increment is one too many."""

    counter: Selector


@dataclass(frozen=True, slots=True)
class QuantileSource:
    """A histogram; `scale` makes its edges seconds."""

    histogram: Selector
    q: float
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """Counters of model tokens by their type, as alternative ways to write them (see Amount).

    Where a source reports no money, it is these times a price.
    """

    ways: tuple[tuple[tuple[TokenType, Selector], ...], ...]
    model: str
    """The label that names the model whose tokens they are."""

    def amount(self) -> Amount:
        """All of them, input and output."""
        return Amount(tuple(tuple(selector for _, selector in way) for way in self.ways))


@dataclass(frozen=True, slots=True)
class MeanSource:
    """An amount per call. Scores have a `top`; without one an amount has no upper end.

    A `sum` of Tokens stands for what they cost.
    """

    sum: Amount | Tokens
    count: Amount
    worse: Literal["above", "below"] = "above"
    top: float | None = None
    unit: str = ""
    late: bool = False


@dataclass(frozen=True, slots=True)
class AmountSource:
    """An amount per time, of candidate and baseline together; of Tokens, what they cost."""

    amount: Amount | Tokens
    per_seconds: float
    unit: str = ""
    calls: Selector | None = None
    """What counts calls, to tell what the candidate alone would add."""


MetricSource = RatioSource | DriftSource | EventSource | QuantileSource | MeanSource | AmountSource


@dataclass(frozen=True, slots=True)
class Identity:
    """Which labels of a series say whose it is, and how they are written.

    Templates know ``{namespace} {agent} {revision} {mode} {workload} {slot}``; `workload` is the
    name of a revision's Deployment and Service in its mode, `slot` its place in the route (0 or 1).
    The route has the agent's name.
    """

    labels: tuple[tuple[str, str], ...]
    mirrored: tuple[tuple[str, str], ...] = ()
    """Instead of `labels` for a candidate that gets mirrored copies, where they differ."""
    patterns: tuple[tuple[str, str], ...] = ()
    """The same as `labels` where part of a value is not known: regular expressions that mean the
    same to RE2 and Python, and match the whole value. What is filled in has to be escaped."""
    fixed: tuple[Matcher, ...] = ()
    """Further conditions that every series of the source has to fulfil."""

    @property
    def names(self) -> frozenset[str]:
        """Every label that says whose a series is: no policy may name one."""
        templates = (*self.labels, *self.mirrored, *self.patterns)
        return frozenset(label for label, _ in templates) | {m.label for m in self.fixed}


@dataclass(frozen=True, slots=True)
class Source:
    """A preset: who emits it, what counts calls, and the series of each well-known metric."""

    emitter: str
    checked: str
    """The version of the emitter this was checked against, and how."""
    calls: Selector
    metrics: Mapping[str, MetricSource]
    identity: Identity
    conversations: Mapping[str, MetricSource] = field(default_factory=lambda: MappingProxyType({}))
    """The same for ``unit: Conversation``: whole conversations, counted when they end."""


def latency(histogram: Selector, scale: float = 1.0) -> dict[str, MetricSource]:
    """The latency metrics that a histogram of answer times gives; `scale` makes it seconds."""
    quantiles = {"latency-p50": 0.5, "latency-p95": 0.95, "latency-p99": 0.99}
    return {name: QuantileSource(histogram, q, scale) for name, q in quantiles.items()}


def volume(calls: Selector) -> dict[str, MetricSource]:
    """Calls per hour."""
    return {"traffic-volume": AmountSource(Amount.of(calls), 3600.0, "calls/h")}


def money(spent: Amount | Tokens, calls: Selector) -> dict[str, MetricSource]:
    """What calls cost, each and in a day, from a counter of US dollars or from tokens."""
    return {
        "cost-per-call": MeanSource(spent, Amount.of(calls), unit="USD"),
        "spend-per-day": AmountSource(spent, 86400.0, "USD", calls),
    }


def narrowed(selector: Selector, *matchers: Matcher) -> Selector:
    """The series of a selector that fulfil further conditions."""
    return Selector(selector.name, tuple(sorted((*selector.matchers, *matchers))))
