"""Thresholds on arbitrary queries: no counts, so chance is not ruled out (*unguarded*)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter

from phasegate.engine.kinds.base import Bound, Moment, Settings, Step
from phasegate.engine.messages import number, stretch
from phasegate.engine.samples import VALUE_PREFIX
from phasegate.engine.selectors import Selector
from phasegate.engine.verdict import CheckLevel, CheckVerdict, Reason, Verdict


@dataclass(frozen=True, slots=True)
class ThresholdCheck:
    """Breached when any series of the query's result stays beyond a level for `for_seconds`."""

    name: str
    metric: str
    query: str
    for_seconds: float = 0.0
    limit: Bound | None = None
    gate: Bound | None = None
    alert: Bound | None = None
    warm_up: float = 0.0
    late: bool = False

    @property
    def level(self) -> CheckLevel:
        """The most that a breach can do."""
        if self.limit is not None:
            return "rollback"
        if self.gate is not None:
            return "gate"
        return "alert" if self.alert is not None else "info"

    def selectors(self) -> tuple[Selector, ...]:
        """None: it is a query."""
        return ()

    def parts(self, name: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        """None: results of queries do not count anything."""
        return ()

    def tests(self, level: Literal["rollback", "alert"]) -> int:
        """None: nothing is tested against chance."""
        return 0


@dataclass(slots=True)
class ThresholdState:
    """What a threshold remembers."""

    at: float | None = None
    """Time of the newest result."""
    values: dict[str, float] = field(default_factory=dict)
    """The newest result, by series."""
    limit_since: dict[str, float] = field(default_factory=dict)
    """Since when a series has been beyond the rollback level without a break."""
    alert_since: dict[str, float] = field(default_factory=dict)
    failed: CheckVerdict | None = None

    def copy(self) -> ThresholdState:
        """An independent copy."""
        return ThresholdState(
            self.at, dict(self.values), dict(self.limit_since), dict(self.alert_since), self.failed
        )


@cache
def _codec() -> TypeAdapter[ThresholdState]:
    return TypeAdapter(ThresholdState)


class ThresholdTracker:
    """Follows a query's results through a phase."""

    __slots__ = ("_settings", "_spec", "_state")

    def __init__(self, spec: ThresholdCheck, settings: Settings) -> None:
        self._spec, self._settings, self._state = spec, settings, ThresholdState()

    def step(self, step: Step) -> None:
        """A threshold has no counters."""

    def observe(self, at: float, results: Mapping[str, Mapping[str, float]]) -> None:
        """Results of queries: by part, then by series. A gap longer than stale is a break."""
        values = results.get(f"{VALUE_PREFIX}{self._spec.metric}")
        if values is None or (self._state.at is not None and at <= self._state.at):
            return
        state, spec = self._state, self._spec
        broken = state.at is None or at - state.at > self._settings.stale_seconds
        state.limit_since = _since(spec.limit, {} if broken else state.limit_since, at, values)
        state.alert_since = _since(spec.alert, {} if broken else state.alert_since, at, values)
        state.at, state.values = at, dict(values)
        if state.failed is None and spec.limit is not None and self._lasted(state.limit_since, at):
            state.failed = self._breach(spec.limit, state.limit_since, "rollback")

    def _lasted(self, since: Mapping[str, float], at: float) -> bool:
        return bool(since) and at - min(since.values()) >= self._spec.for_seconds

    def failures(self) -> tuple[CheckVerdict, ...]:
        """The rollback verdict once it is reached; it stays."""
        return () if self._state.failed is None else (self._state.failed,)

    def judge(self, moment: Moment) -> tuple[CheckVerdict, ...]:
        """The verdict now."""
        if self._state.failed is not None:
            return (self._state.failed,)
        fresh = self._state.at is not None
        fresh = fresh and moment.now - (self._state.at or 0.0) <= self._settings.stale_seconds
        found = [self._main(fresh=fresh)] if self._spec.level != "alert" else []
        if self._spec.alert is not None:
            found.append(self._alert(self._spec.alert, fresh=fresh))
        return tuple(found)

    def _main(self, *, fresh: bool) -> CheckVerdict:
        spec, state = self._spec, self._state
        if not fresh or not state.values:
            return self._say(Verdict.INCONCLUSIVE, Reason.NO_DATA, "the query has no fresh result")
        shown = self._shown(spec.limit or spec.gate)
        if state.limit_since:
            text = f"{shown}, beyond the limit for less than {stretch(spec.for_seconds)}"
            return self._say(Verdict.INCONCLUSIVE, Reason.STILL_UNCERTAIN, text)
        if spec.gate is not None and not all(map(spec.gate.beyond, state.values.values())):
            text = f"outside the gate: {self._shown(spec.gate)}"
            return self._say(Verdict.INCONCLUSIVE, Reason.OUTSIDE_GATE, text)
        if spec.level == "info":
            return self._say(Verdict.INCONCLUSIVE, Reason.INFORMATION, shown)
        return self._say(Verdict.PASS, Reason.WITHIN_LIMIT, shown)

    def _alert(self, alert: Bound, *, fresh: bool) -> CheckVerdict:
        state, name = self._state, f"{self._spec.name}-alert"
        if not fresh or not state.values or state.at is None:
            text = "the query has no fresh result"
            return self._say(Verdict.INCONCLUSIVE, Reason.NO_DATA, text, "alert", name)
        if self._lasted(state.alert_since, state.at):
            return self._breach(alert, state.alert_since, "alert")
        return self._say(Verdict.PASS, Reason.WITHIN_LIMIT, self._shown(alert), "alert", name)

    def _breach(
        self, bound: Bound, since: Mapping[str, float], level: Literal["rollback", "alert"]
    ) -> CheckVerdict:
        rollback = level == "rollback"
        return self._say(
            Verdict.FAIL,
            Reason.BREACHED if rollback else Reason.ALERT_BREACHED,
            self._shown(bound),
            level,
            self._spec.name if rollback else f"{self._spec.name}-alert",
            min(since.values()),
        )

    def _worst(self, bound: Bound | None) -> float | None:
        values = self._state.values.values()
        return (max if bound is None or bound.above else min)(values, default=None)

    def _shown(self, bound: Bound | None) -> str:
        value = self._worst(bound)
        text = "no value" if value is None else f"value {number(value)}"
        if bound is not None:
            text += f", limit {'above' if bound.above else 'below'} {number(bound.value)}"
        return f"{text} (unguarded: chance is not ruled out)"

    def _say(
        self,
        verdict: Verdict,
        reason: Reason,
        text: str,
        level: CheckLevel | None = None,
        name: str | None = None,
        since: float | None = None,
    ) -> CheckVerdict:
        spec = self._spec
        bound = spec.alert if level == "alert" else spec.limit or spec.gate
        return CheckVerdict(
            check=name or spec.name,
            metric=spec.metric,
            level=level or spec.level,
            verdict=verdict,
            reason=reason,
            message=text,
            estimate=self._worst(bound),
            limit=None if bound is None else bound.value,
            since=since,
        )

    def copy(self) -> ThresholdTracker:
        """An independent copy."""
        other = ThresholdTracker(self._spec, self._settings)
        other._state = self._state.copy()
        return other

    def dump(self) -> Any:
        """JSON-able state."""
        return _codec().dump_python(self._state, mode="json")

    def load(self, state: Any) -> None:
        """Take over dumped state; ValueError if it does not fit."""
        self._state = _codec().validate_python(state)


def _since(
    bound: Bound | None, before: Mapping[str, float], at: float, values: Mapping[str, float]
) -> dict[str, float]:
    """Since when each series has been beyond a level: until now without a break."""
    if bound is None:
        return {}
    return {key: before.get(key, at) for key, value in values.items() if bound.beyond(value)}
