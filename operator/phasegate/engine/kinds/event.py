"""Events: a counter of which one increment is one too many. No statistics: it has happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter

from phasegate.engine.kinds.base import Moment, Settings, Step
from phasegate.engine.messages import number
from phasegate.engine.selectors import Selector
from phasegate.engine.verdict import CheckLevel, CheckVerdict, Reason, Verdict


@dataclass(frozen=True, slots=True)
class EventCheck:
    """More than `allowed` increments in the phase are a breach; `level` says what it does."""

    name: str
    metric: str
    counter: Selector
    level: CheckLevel = "rollback"
    allowed: float = 0.0
    min_samples: int | None = None
    """Calls of the candidate before silence means anything."""
    warm_up: float = 0.0
    late: bool = False

    def selectors(self) -> tuple[Selector, ...]:
        """Series that must be fetched."""
        return (self.counter,)

    def parts(self, name: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        """The selectors a series belongs to, as text."""
        return (str(self.counter),) if self.counter.accepts(name, labels) else ()

    def tests(self, level: Literal["rollback", "alert"]) -> int:
        """None: chance plays no part."""
        return 0


@dataclass(slots=True)
class EventState:
    """What an event check remembers."""

    seen: float = 0.0
    baseline_seen: float = 0.0
    since: float | None = None
    """The scrape that brought it beyond what is allowed."""


@cache
def _codec() -> TypeAdapter[EventState]:
    return TypeAdapter(EventState)


class EventTracker:
    """Counts events through a phase."""

    __slots__ = ("_settings", "_spec", "_state")

    def __init__(self, spec: EventCheck, settings: Settings) -> None:
        self._spec, self._settings, self._state = spec, settings, EventState()

    def step(self, step: Step) -> None:
        """Add one step."""
        part, state = str(self._spec.counter), self._state
        state.seen += step.candidate.get(part, 0.0)
        state.baseline_seen += step.baseline.get(part, 0.0)
        if state.since is None and state.seen > self._spec.allowed:
            state.since = step.at

    def observe(self, at: float, results: Mapping[str, Mapping[str, float]]) -> None:
        """An event has no query."""

    def failures(self) -> tuple[CheckVerdict, ...]:
        """The rollback verdict once it is reached; it stays."""
        if self._state.since is None or self._spec.level != "rollback":
            return ()
        return (self._breach(),)

    def judge(self, moment: Moment) -> tuple[CheckVerdict, ...]:
        """The verdict now."""
        if self._state.since is not None:
            return (self._breach(),)
        if not moment.candidate_fresh:
            return (self._say(Verdict.INCONCLUSIVE, Reason.NO_DATA, "no fresh samples"),)
        need = self._spec.min_samples or self._settings.min_samples
        calls = number(moment.candidate_calls)
        if moment.candidate_calls < need:
            text = f"none in {calls} calls; {need} are needed"
            return (self._say(Verdict.INCONCLUSIVE, Reason.TOO_FEW_SAMPLES, text),)
        return (self._say(Verdict.PASS, Reason.WITHIN_LIMIT, f"none in {calls} calls"),)

    def _breach(self) -> CheckVerdict:
        state = self._state
        text = (
            f"candidate {number(state.seen)} (limit {number(self._spec.allowed)}), "
            f"baseline {number(state.baseline_seen)} since the phase began"
        )
        alert = self._spec.level == "alert"
        said = self._say(
            Verdict.FAIL if self._spec.level in ("rollback", "alert") else Verdict.INCONCLUSIVE,
            Reason.ALERT_BREACHED if alert else Reason.BREACHED,
            text,
        )
        return replace(said, since=state.since)

    def _say(self, verdict: Verdict, reason: Reason, text: str) -> CheckVerdict:
        return CheckVerdict(
            check=self._spec.name,
            metric=self._spec.metric,
            level=self._spec.level,
            verdict=verdict,
            reason=reason,
            message=text,
            estimate=self._state.seen,
            bad=self._state.seen,
            baseline_bad=self._state.baseline_seen,
            limit=self._spec.allowed,
        )

    def copy(self) -> EventTracker:
        """An independent copy."""
        other = EventTracker(self._spec, self._settings)
        other._state = replace(self._state)
        return other

    def dump(self) -> Any:
        """JSON-able state."""
        return _codec().dump_python(self._state, mode="json")

    def load(self, state: Any) -> None:
        """Take over dumped state; ValueError if it does not fit."""
        self._state = _codec().validate_python(state)
