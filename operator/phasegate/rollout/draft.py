"""The decision being made in one pass. Only this package sees it; `decide` returns it frozen."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from phasegate.api.agentdeployment import AgentDeploymentSpec, AgentDeploymentStatus
from phasegate.api.base import MAX_MESSAGE
from phasegate.api.records import ActionRecord, Calls, EvidenceLink, GateDecision, GateRecord
from phasegate.api.verdicts import CheckSummary
from phasegate.engine.verdict import CheckVerdict
from phasegate.rollout.decision import ActionOutcome, Announcement, RolloutPlan
from phasegate.rollout.observed import ActionSeen, Observed, Settings
from phasegate.rollout.reasons import Reason
from phasegate.rollout.route import RoutePlan

_CONTROLS: Final = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]+"
)
"""Characters that move a cursor, end a line or turn the direction of writing."""


def one_line(text: str) -> str:
    """Words of users and of other programs, as they may stand in a sentence of ours."""
    return _CONTROLS.sub(" ", text)


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
    acts: list[ActionRecord] = field(default_factory=list)
    """Decisions of people, taken in, that belong to it."""
    closed: list[RolloutPlan] = field(default_factory=list)
    """Records of attempts that nobody goes on with."""
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
    goes_on_at: datetime | None = None
    """When it goes on, where only that is waited for."""

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
        return self._told_for("TrafficProgrammed", "False")

    def _told_for(self, name: str, status: str) -> timedelta:
        known = (c for c in self.seen.status.conditions if c.type == name)
        condition = next(known, None)
        if condition is None or condition.status != status:
            return timedelta(0)
        return self.now - condition.last_transition_time

    def update(self, **changes: Any) -> None:
        """Change the status."""
        self.status = self.status.model_copy(update=changes)

    def say(
        self, reason: Reason, message: str, *, ready: bool = False, stalled: bool = False
    ) -> None:
        """Where things stand; the last word of a pass wins."""
        self.reason, self.ready, self.stalled = reason, ready, stalled
        self.message = one_line(message)

    def announce(
        self,
        reason: Reason,
        message: str,
        *,
        warning: bool = False,
        begins: str | None = None,
        ends: tuple[str, ...] = (),
    ) -> None:
        """One event, one log line, and one message a channel; what begins or ends has a name."""
        # As the status keeps it: an Event is named after its words.
        words = one_line(message)[:MAX_MESSAGE]
        before, after = self.seen.status, self.status
        about = after.candidate_revision or before.candidate_revision or after.stable_revision
        kind: Literal["Normal", "Warning"] = "Warning" if warning else "Normal"
        self.announcements.append(Announcement(kind, reason, words, about, begins, ends))

    def end_with_last(self, ends: tuple[str, ...]) -> None:
        """What is over with what was announced last in this pass."""
        if self.announcements:
            last = self.announcements[-1]
            self.announcements[-1] = replace(last, ends=(*last.ends, *ends)[:64])

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
        progress = self.status.progress or self.seen.status.progress
        began = progress.started_at if progress is not None else None
        entry = GateRecord(
            from_phase=from_phase,
            to_phase=to_phase,
            decision=decision,
            reason=reason,
            message=one_line(message)[:2048],
            at=self.now,
            by=by,
            evidence_at=_time(judgement.at) if judgement else None,
            checks=summaries(judgement.checks) if judgement else (),
            seconds=None if began is None else max(0, round((self.now - began).total_seconds())),
            calls=None
            if judgement is None
            else Calls(
                candidate=round(judgement.candidate_calls), stable=round(judgement.baseline_calls)
            ),
        )
        self.records.append(entry)
        self.update(last_gate=entry)
        return entry

    def acted(self, action: ActionSeen, message: str) -> None:
        """Note an accepted decision of a person: it belongs to the attempt's record, once."""
        spec = action.spec
        entry = ActionRecord(
            uid=action.uid,
            name=action.name,
            verb=spec.verb,
            by=spec.actor,
            groups=spec.actor_groups,
            reason=one_line(spec.reason),
            evidence=tuple(EvidenceLink(url=e.url, digest=e.digest) for e in spec.evidence),
            at=self.now,
            message=one_line(message)[:MAX_MESSAGE],
        )
        self.acts.append(entry)


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
