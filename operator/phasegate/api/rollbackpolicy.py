"""``RollbackPolicy``: what is not acceptable, reusable by many agents of a namespace."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from phasegate.api.base import (
    FACTOR,
    PERCENT,
    Cel,
    Condition,
    Duration,
    Factor,
    Limit,
    Name,
    Notation,
    Percent,
    SpecModel,
    StatusModel,
    list_map,
)
from phasegate.api.cel import number, one_of, ordered_limits

_MATCHER = r'[a-zA-Z_][a-zA-Z0-9_]*(=|!=|=~|!~)"[^"\\{}]*"'

#: ``metric_name{label="value",other!="x"}``: a typed selector, never free PromQL.
Selector = Annotated[
    str,
    StringConstraints(max_length=512),
    Notation(
        rf"[a-zA-Z_:][a-zA-Z0-9_:]*(\{{{_MATCHER}(,{_MATCHER})*\}})?",
        "must be the name of a counter with label matchers, such as "
        'agent_tool_calls_total{outcome="error"}, and nothing else: no functions, no other PromQL',
    ),
]

WELL_KNOWN = ("error-rate", "escalation-rate", "accuracy", "tool-error-rate", "safety-flags")
_KINDS = ("ratio", "event", "threshold")
_LEVELS = ("gate", "alert", "rollback")


class Ratio(SpecModel):
    """Bad calls of all calls, both counters."""

    bad: Selector
    """Counter of what went wrong."""
    total: Selector
    """Counter of everything, the bad included."""


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
    """A bound: exactly one of above, below. A percentage for ratios, otherwise a number."""

    above: Limit | None = None
    below: Limit | None = None
    window: Duration | None = None
    """Over how long a time the bound is looked at; since the onset if left out."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel("has(self.above) != has(self.below)", "set exactly one of above and below"),
    )


class Baseline(SpecModel):
    """Comparison with the stable revision at the same time."""

    worse_by: Factor = "1.5"
    """Ratio to the baseline beyond which it is a regression."""
    tolerate: Factor = "1.1"
    """Ratio to the baseline that still counts as fine; evidence must exclude it."""

    cel: ClassVar[tuple[Cel, ...]] = (
        *(
            Cel(
                f"!({FACTOR.matches(f'self.{field}')}) || double(self.{field}) >= 1.0",
                "must be at least '1': it is a ratio to the stable revision's value",
                f".{field}",
            )
            for field in ("worseBy", "tolerate")
        ),
        Cel(
            f"!({FACTOR.matches('self.worseBy')} && {FACTOR.matches('self.tolerate')})"
            " || double(self.tolerate) < double(self.worseBy)",
            "must be less than worseBy, or every difference that is tolerated is a regression too",
            ".tolerate",
        ),
    )


_KNOWN = f"self.name in {one_of(WELL_KNOWN)}"
_IS_EVENT = "(has(self.event) || self.name == 'safety-flags')"
_IS_RATIO = "(!has(self.event) && !has(self.threshold) && self.name != 'safety-flags')"
_HAS_KIND = [f"has(self.{kind})" for kind in _KINDS]


def _limit_rule(level: str, applies: str, holds: str, message: str) -> Cel:
    """A rule on whichever bound of a level is given; ``holds`` is CEL with ``@`` for the bound."""
    bounds = " && ".join(
        f"(!has(self.{level}.{side}) || type(self.{level}.{side}) != string || "
        + holds.replace("@", f"self.{level}.{side}")
        + ")"
        for side in ("above", "below")
    )
    return Cel(f"!{applies} || !has(self.{level}) || ({bounds})", message, f".{level}")


def _level_rules(level: str) -> tuple[Cel, ...]:
    """What the kind of a metric asks of one of its levels."""
    bad_side, good_side = ("below", "above") if level == "gate" else ("above", "below")
    return (
        _limit_rule(
            level,
            _IS_RATIO,
            "@.endsWith('%')",
            "a ratio's limit is a percentage: write 5%, not 0.05",
        ),
        _limit_rule(
            level,
            _IS_EVENT,
            "@.matches(r'^[0-9]+$')",
            "the limit of an event is a whole number of increments, such as '0'",
        ),
        _limit_rule(
            level,
            "has(self.threshold)",
            "!@.endsWith('%')",
            "the limit of a threshold is a number as the query gives it, such as '0.05', not 5%",
        ),
        Cel(
            f"!has(self.{level}) || has(self.threshold) || self.name == 'accuracy'"
            f" || !has(self.{level}.{good_side}) || has(self.{level}.{bad_side})",
            f"use {bad_side} here: this metric counts what went wrong, less of it is better",
            f".{level}",
        ),
        Cel(
            f"!has(self.{level}) || self.name != 'accuracy'"
            f" || !has(self.{level}.{bad_side}) || has(self.{level}.{good_side})",
            f"use {good_side} here: more accuracy is better",
            f".{level}",
        ),
    )


class Metric(SpecModel):
    """One metric with its levels. A well-known name brings its series; any other needs a kind."""

    name: Name
    """error-rate, escalation-rate, accuracy, tool-error-rate, safety-flags, or your own."""
    ratio: Ratio | None = None
    event: Event | None = None
    threshold: Threshold | None = None
    gate: Level | None = None
    """What must be shown before the next phase may begin."""
    alert: Level | None = None
    """What is worth a warning, and takes nothing back."""
    rollback: Level | None = None
    """What takes all traffic back to the stable revision."""
    baseline: Baseline | None = None
    """Takes the candidate back when it is worse than the stable revision at the same time."""
    min_samples: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Calls that must have been counted before this metric may pass."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            f"{_KNOWN} || [{', '.join(_HAS_KIND)}].exists_one(given, given)",
            "set exactly one of ratio, event and threshold, or use a well-known name",
            message_expression="'set exactly one of ratio, event and threshold: \"' + self.name"
            f" + '\" is not a well-known name ({', '.join(WELL_KNOWN)}) that brings its series'",
        ),
        Cel(
            f"!({_KNOWN}) || !({' || '.join(_HAS_KIND)})",
            "a well-known name brings its own series: remove ratio, event and threshold, "
            "or choose another name",
        ),
        Cel(
            "has(self.gate) || has(self.alert) || has(self.rollback) || has(self.baseline)",
            "set at least one of gate, alert, rollback and baseline: nothing would be judged",
        ),
        Cel(
            f"!has(self.baseline) || {_IS_RATIO}",
            "only a ratio can be compared with the stable revision: remove baseline",
            ".baseline",
        ),
        *(rule for level in _LEVELS for rule in _level_rules(level)),
        *(
            Cel(ordered_limits(low, high), message, ".gate" if "gate" in low + high else ".alert")
            for low, high, message in (
                (
                    "self.gate.below",
                    "self.rollback.above",
                    "must not let pass what rollback takes back: gate.below <= rollback.above",
                ),
                (
                    "self.rollback.below",
                    "self.gate.above",
                    "must not let pass what rollback takes back: gate.above >= rollback.below",
                ),
                (
                    "self.alert.above",
                    "self.rollback.above",
                    "must warn before rollback acts: alert.above <= rollback.above",
                ),
                (
                    "self.rollback.below",
                    "self.alert.below",
                    "must warn before rollback acts: alert.below >= rollback.below",
                ),
            )
        ),
    )


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
    source: Literal["agent-contract"] = "agent-contract"
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
