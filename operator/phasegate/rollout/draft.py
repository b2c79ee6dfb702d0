"""The decision being made in one pass. Only this package sees it; `decide` returns it frozen."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from phasegate.api.agentdeployment import AgentDeploymentSpec, AgentDeploymentStatus
from phasegate.api.records import GateDecision, GateRecord
from phasegate.api.verdicts import CheckSummary
from phasegate.engine.verdict import CheckVerdict
from phasegate.rollout.decision import ActionOutcome, Announcement
from phasegate.rollout.observed import Observed, Settings
from phasegate.rollout.reasons import Reason
from phasegate.rollout.route import RoutePlan


@dataclass(slots=True)
class Draft:
    """What is known and what has been decided so far in this pass."""

    seen: Observed
    now: datetime
    settings: Settings
    status: AgentDeploymentStatus
    route: RoutePlan | None = None
    records: list[GateRecord] = field(default_factory=list)
    """Transitions of this pass that belong to the attempt's record."""
    outcomes: list[ActionOutcome] = field(default_factory=list)
    announcements: list[Announcement] = field(default_factory=list)
    release: bool = False
    """Nothing depends on the finalizer any more."""
    ready: bool = False
    reason: Reason = Reason.ROLLING_OUT
    message: str = ""
    stalled: bool = False
    awaiting_approval: bool = False
    decided_at: list[datetime] = field(default_factory=list)
    """Times at which something is due."""

    @property
    def spec(self) -> AgentDeploymentSpec:
        """The spec; only asked for where it is known to be valid."""
        if self.seen.spec is None:
            raise AssertionError("decided on a spec that could not be read")
        return self.seen.spec

    @property
    def in_first_phase(self) -> bool:
        """True in the first phase of an attempt, which nobody's gate led to."""
        gate = self.status.last_gate
        return gate is not None and gate.decision == "Started"

    @property
    def unprogrammed_for(self) -> timedelta:
        """How long the last status has been saying that the route is not programmed."""
        known = (c for c in self.seen.status.conditions if c.type == "TrafficProgrammed")
        condition = next(known, None)
        if condition is None or condition.status == "True":
            return timedelta(0)
        return self.now - condition.last_transition_time

    def update(self, **changes: Any) -> None:
        """Change the status."""
        self.status = self.status.model_copy(update=changes)

    def say(
        self, reason: Reason, message: str, *, ready: bool = False, stalled: bool = False
    ) -> None:
        """Where things stand; the last word of a pass wins."""
        self.reason, self.message, self.ready, self.stalled = reason, message, ready, stalled

    def announce(self, reason: Reason, message: str, *, warning: bool = False) -> None:
        """One event and one log line."""
        self.announcements.append(Announcement("Warning" if warning else "Normal", reason, message))

    def look_again(self, at: datetime | timedelta) -> None:
        """Something is due at (or after) this time."""
        self.decided_at.append(self.now + at if isinstance(at, timedelta) else at)

    def record(
        self,
        decision: GateDecision,
        from_phase: str,
        to_phase: str,
        reason: str,
        message: str,
        by: str | None = None,
    ) -> GateRecord:
        """Note a transition with the evidence it rests on."""
        judgement = self.seen.judgement
        entry = GateRecord(
            from_phase=from_phase,
            to_phase=to_phase,
            decision=decision,
            reason=reason,
            message=message[:2048],
            at=self.now,
            by=by,
            evidence_at=_time(judgement.at) if judgement else None,
            checks=summaries(judgement.checks) if judgement else (),
        )
        self.records.append(entry)
        self.update(last_gate=entry)
        return entry


def summaries(checks: tuple[CheckVerdict, ...]) -> tuple[CheckSummary, ...]:
    """Verdicts as they are written into a status."""
    return tuple(
        CheckSummary(
            name=check.check,
            level=check.level,
            verdict=check.verdict.value,
            reason=check.reason,
            message=check.message[:2048],
            estimate=_figure(check.estimate),
            interval=None if check.interval is None else "{:.4g}..{:.4g}".format(*check.interval),
            limit=_figure(check.limit),
            odds=_figure(check.odds, digits=3),
            since=None if check.since is None else _time(check.since),
        )
        for check in checks[:64]
    )


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, tz=UTC)


def _figure(value: float | None, digits: int = 6) -> str | None:
    """A number as text; one that is unknown or has no bound is left out."""
    return None if value is None or not math.isfinite(value) else f"{value:.{digits}g}"
