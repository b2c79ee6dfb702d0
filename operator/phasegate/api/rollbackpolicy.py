"""``RollbackPolicy``: what is not acceptable, reusable by many agents of a namespace."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from phasegate.api.base import (
    PERCENT,
    Cel,
    Condition,
    Duration,
    Factor,
    Limit,
    Name,
    Notation,
    Number,
    Percent,
    SpecModel,
    StatusModel,
    list_map,
)
from phasegate.api.cel import number
from phasegate.api.metricrules import METRIC_RULES, WELL_KNOWN

_MATCHER = r'[a-zA-Z_][a-zA-Z0-9_]*(=|!=|=~|!~)"[^"\\{}\x00-\x1f\x7f]*"'

#: ``metric_name{label="value",other!="x"}``: a typed selector, never free PromQL.
Selector = Annotated[
    str,
    StringConstraints(max_length=512),
    Notation(
        rf"[a-zA-Z_:][a-zA-Z0-9_:]*(\{{{_MATCHER}(,{_MATCHER})*\}})?",
        "must be the name of a series with label matchers, such as "
        'agent_tool_calls_total{outcome="error"}, and nothing else: no functions, no other PromQL',
    ),
]
Preset = Literal[
    "agent-contract",
    "otel-genai",
    "istio",
    "envoy-gateway",
    "traefik",
    "linkerd",
    "litellm",
    "agentgateway",
]


class Ratio(SpecModel):
    """Bad calls of all calls, both counters."""

    bad: Selector
    """Counter of what went wrong."""
    total: Selector
    """Counter of everything, the bad included."""


class Quantile(SpecModel):
    """A quantile of a histogram of times; higher is worse."""

    histogram: Selector
    """Name of the histogram, without _bucket. One of its edges should be the level itself."""
    q: Percent
    """Which quantile: 95% for p95."""
    unit: Literal["s", "ms"] = "s"
    """What the histogram's edges are written in."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!self.histogram.matches('^[a-zA-Z0-9_:]*_bucket([{]|$)')",
            "must be the name of the histogram without _bucket",
            ".histogram",
        ),
        Cel(
            f"!({PERCENT.matches('self.q')}) || ({number('self.q')} > 0.0"
            f" && {number('self.q')} < 100.0)",
            "must be more than 0% and less than 100%, such as 95% for p95",
            ".q",
        ),
    )


class Mean(SpecModel):
    """An amount per call: cost, tokens, points of a score."""

    sum: Selector
    """Counter of the amount."""
    count: Selector
    """Counter of the calls it came from."""
    worse: Literal["above", "below"] = "above"
    """Whether more is worse (above: cost) or less (below: a score)."""
    top: Number | None = None
    """The most that one call can have; needed where less is worse."""
    unit: Annotated[str, StringConstraints(max_length=16)] | None = None
    """Shown behind the values, such as USD."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.worse) || self.worse != 'below' || has(self.top)",
            "is needed where less is worse: the highest score one call can have, such as '5'",
            ".top",
        ),
    )


class Event(SpecModel):
    """A counter of which one increment is one too many."""

    counter: Selector
    """The counter."""


class Threshold(SpecModel):
    """Arbitrary PromQL, for admins only: no counts, so chance is not ruled out (unguarded)."""

    query: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    """PromQL with one value as its result."""
    for_: Annotated[Duration, Field(alias="for")] = "0s"
    """How long the value must stay beyond the limit."""


class Level(SpecModel):
    """A bound: exactly one of above, below. In the metric's unit: 5%, 800ms or '0.50'."""

    above: Limit | None = None
    below: Limit | None = None
    window: Duration | None = None
    """Over how long a time the bound is looked at; since the onset if left out."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel("has(self.above) != has(self.below)", "set exactly one of above and below"),
    )


class Baseline(SpecModel):
    """Comparison with the stable revision at the same time."""

    worse_by: Factor | None = None
    """Ratio to the baseline beyond which it is a regression: '1.5' for errors and latency, '3' for
    cost and tokens, '0.9' where less is worse; of an amount, how many times is a spike ('3')."""
    tolerate: Factor | None = None
    """Ratio to the baseline that still counts as fine; evidence must exclude it. '1.1' for errors,
    '1.15' for latency, '1.25' for cost and tokens, '0.975' where less is worse."""


class Metric(SpecModel):
    """One metric with its levels. A well-known name brings its series; any other needs a kind."""

    name: Annotated[Name, Field(description=f"{', '.join(WELL_KNOWN)}, or your own.")]
    ratio: Ratio | None = None
    quantile: Quantile | None = None
    mean: Mean | None = None
    event: Event | None = None
    threshold: Threshold | None = None
    unit: Literal["Call", "Conversation"] = "Call"
    """What is counted: calls, or conversations when they end (error-rate, escalation-rate)."""
    deadline: Duration | None = None
    """Of hang-rate: a call that is not answered for so long hangs; 60s if left out."""
    gate: Level | None = None
    """What must be shown before the next phase may begin."""
    alert: Level | None = None
    """What is worth a warning: it holds, and takes nothing back."""
    rollback: Level | None = None
    """What takes all traffic back to the stable revision."""
    baseline: Baseline | None = None
    """Takes the candidate back when it is worse than the stable revision at the same time; of
    spend-per-day and traffic-volume, alerts at a spike."""
    min_samples: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Calls that must have been counted before this metric may pass."""
    warm_up: Duration | None = None
    """How long the start of a phase does not count: cold caches are no regression."""

    cel: ClassVar[tuple[Cel, ...]] = METRIC_RULES


class OnNoData(SpecModel):
    """Missing evidence is never a verdict: hold, and after a while ask a human."""

    hold: Duration = "10m"
    """How long to wait for evidence."""
    then: Literal["Pause", "Hold"] = "Pause"
    """Pause asks a human; Hold goes on waiting."""


class RollbackPolicySpec(SpecModel):
    """Metrics, gates, alerts and rollback triggers."""

    prometheus: Name = "default"
    """A provider by its name in the operator's configuration; never an address."""
    source: Preset = "agent-contract"
    """Whose series the well-known names stand for."""
    false_rollback_rate: Percent = "1%"
    """The chance, per phase, that a revision no worse than allowed is taken back all the same."""
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1, max_length=24), list_map("name")]
    """What is judged."""
    on_no_data: OnNoData = Field(default_factory=OnNoData)

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            f"!({PERCENT.matches('self.falseRollbackRate')})"
            f" || ({number('self.falseRollbackRate')} > 0.0"
            f" && {number('self.falseRollbackRate')} <= 20.0)",
            "must be more than 0% and at most 20%: with 0% no evidence would ever suffice",
            ".falseRollbackRate",
        ),
    )


class RollbackPolicyStatus(StatusModel):
    """Observed state of a policy."""

    observed_generation: int = 0
    conditions: Annotated[tuple[Condition, ...], Field(max_length=8), list_map("type")] = ()
