"""The gate at the end of a phase: what has to be true before the candidate goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from phasegate.api.agentdeployment import Hold, Phase, Progress
from phasegate.api.quantities import format_duration, parse_duration
from phasegate.api.rollbackpolicy import OnNoData
from phasegate.engine.verdict import Judgement, Verdict
from phasegate.engine.verdict import Reason as Verdicts
from phasegate.rollout.approvals import agreed, awaited
from phasegate.rollout.budget import say_spent
from phasegate.rollout.draft import Draft
from phasegate.rollout.judging import share_problem
from phasegate.rollout.phases import next_phase
from phasegate.rollout.reasons import Reason
from phasegate.rollout.recording import holds
from phasegate.rollout.waiting import gone_past, told, waits

_HOLDING = frozenset(
    {
        Verdicts.SHARED_CAUSE,
        Verdicts.OUTSIDE_GATE,
        Verdicts.WORSENING,
        Verdicts.BREACHED,
    }
)
"""Evidence that speaks against advancing, rather than too little of it."""


def await_approval(draft: Draft, phase: Phase) -> None:
    """Say that a person has to agree before `phase`."""
    words = awaited(draft, phase)
    draft.awaiting_approval = True
    draft.say(Reason.AWAITING_APPROVAL, words)
    before = (c for c in draft.seen.status.conditions if c.type == "AwaitingApproval")
    if not any(c.status == "True" for c in before):
        draft.announce(Reason.AWAITING_APPROVAL, words)


def say_held(draft: Draft, hold: Hold) -> None:
    """Say who paused, and why."""
    draft.say(Reason.HELD_BY_PERSON, f"paused by {hold.by}: {hold.reason}")


def gate(draft: Draft) -> None:
    """The running phase's gate: advance only if nothing speaks against it."""
    progress = draft.status.progress
    if progress is None or progress.started_at is None:
        return
    phase, started = progress.phase, progress.started_at
    ends = started + parse_duration(phase.min_duration)
    if draft.now < ends:
        draft.look_again(ends)
    if phase.max_duration is not None and draft.now < started + parse_duration(phase.max_duration):
        draft.look_again(started + parse_duration(phase.max_duration))
    if _held(draft, progress):
        return
    if draft.now < ends:
        rest = format_duration(ends - draft.now)
        draft.say(
            Reason.COLLECTING_EVIDENCE, f"{phase.name}: {_evidence(draft)}; at least {rest} to go"
        )
        return
    _next(draft, progress)


def _held(draft: Draft, progress: Progress) -> bool:
    """True when something other than time speaks against advancing; says what."""
    seen, phase = draft.seen, progress.phase
    share = share_problem(phase, seen.measured)
    if progress.hold is not None:
        say_held(draft, progress.hold)
    elif progress.spent is not None:
        say_spent(draft, progress, progress.spent)
    elif seen.unread is not None:
        draft.say(Reason.READ_FAILED, seen.unread)
    elif seen.policy.problem is not None:
        draft.say(seen.policy.reason, seen.policy.problem, stalled=True)
    elif seen.spec_problem is not None:
        draft.say(seen.spec_reason, seen.spec_problem, stalled=True)
    elif share is not None:
        draft.say(Reason.SHARE_MISMATCH, f"{phase.name}: the split is not real: {share}")
    elif seen.judgement is None or not seen.judgement.candidate_fresh:
        _blind(draft, progress)
    elif seen.judgement.verdict is not Verdict.PASS:
        _undecided(draft, progress)
    else:
        return False
    return True


def _blind(draft: Draft, progress: Progress) -> None:
    """No fresh evidence: hold, and after the policy's patience tell a person.

    It goes on by itself when data returns.
    """
    judgement, policy = draft.seen.judgement, draft.seen.policy.spec
    rule = policy.on_no_data if policy is not None else OnNoData()
    started = progress.started_at or draft.now
    newest = datetime.fromtimestamp(judgement.at, tz=UTC) if judgement is not None else started
    patience = max(started, newest) + parse_duration(rule.hold)
    if draft.now < patience or rule.then == "Hold":
        draft.look_again(patience if draft.now < patience else draft.settings.refresh)
        draft.say(Reason.NO_DATA, f"{progress.phase.name}: {_evidence(draft)}")
        return
    text = (
        f"{progress.phase.name}: no evidence for more than {rule.hold}, "
        f"paused until data returns; {_evidence(draft)}"
    )
    if not _said_before(draft, Reason.PAUSED_WITHOUT_DATA):
        draft.announce(Reason.PAUSED_WITHOUT_DATA, text, warning=True)
    draft.say(Reason.PAUSED_WITHOUT_DATA, text)


def _undecided(draft: Draft, progress: Progress) -> None:
    phase = progress.phase
    started = progress.started_at or draft.now
    if phase.max_duration is not None and draft.now >= started + parse_duration(phase.max_duration):
        if not _said_before(draft, Reason.MAX_DURATION):
            draft.announce(
                Reason.MAX_DURATION,
                f"{phase.name} has not passed within {phase.max_duration}",
                warning=True,
            )
        text = f"{phase.name}: not passed within {phase.max_duration}, a person has to decide; {_evidence(draft)}"
        draft.say(Reason.MAX_DURATION, text)
        return
    alarmed = _alarmed(draft.seen.judgement)
    if alarmed:
        draft.say(Reason.ALERT_BREACHED, f"{phase.name}: {alarmed}; holding until it is over")
        return
    held = draft.seen.judgement is not None and draft.seen.judgement.reason in _HOLDING
    reason = Reason.HELD_BY_EVIDENCE if held else Reason.COLLECTING_EVIDENCE
    draft.say(reason, f"{phase.name}: {_evidence(draft)}")


def _alarmed(judgement: Judgement | None) -> str:
    """Every alert that holds the phase, if nothing else does more."""
    if judgement is None or judgement.reason is not Verdicts.ALERT_BREACHED:
        return ""
    failed = (c for c in judgement.checks if c.level == "alert" and c.verdict is Verdict.FAIL)
    return "; ".join(f"{check.check}: {check.message}" for check in failed)


def _said_before(draft: Draft, reason: Reason) -> bool:
    """True when the last written status already gave this reason: announce a state once, not every pass."""
    return any(c.type == "Progressing" and c.reason == reason for c in draft.seen.status.conditions)


def _evidence(draft: Draft) -> str:
    judgement = draft.seen.judgement
    return judgement.message if judgement is not None else "no evidence yet"


def _next(draft: Draft, progress: Progress) -> None:
    """The gate is passed: go on, or wait for the next phase's approval, or for the calendar."""
    upcoming = next_phase(draft.spec.strategy, progress.phase)
    if draft.seen.rollout is None or not holds(draft.seen.rollout, draft.status.last_gate):
        draft.say(Reason.GATE_PASSED, f"{progress.phase.name} passed: writing the record first")
        draft.look_again(draft.settings.poll)
        return
    if upcoming is not None and not agreed(draft, progress, upcoming):
        await_approval(draft, upcoming)
        return
    if waits(draft, f"{progress.phase.name} passed"):
        return
    message = f"{progress.phase.name} passed: {_evidence(draft)}"
    message, by = told(draft, message, progress.approved_by)
    if upcoming is None:
        _promote(draft, progress, message, by)
        return
    draft.record(
        "Advanced",
        progress.phase.name,
        upcoming.name,
        Reason.GATE_PASSED,
        message,
        by,
    )
    draft.announce(
        Reason.ADVANCED, f"{draft.status.candidate_revision}: {upcoming.name} begins; {message}"
    )
    past = gone_past(draft)
    began = Progress(
        phase=upcoming,
        entered_at=draft.now,
        author=progress.author,
        past_calendar=past.by if past is not None else None,
    )
    draft.update(progress=began)
    draft.say(Reason.WAITING_FOR_PODS, f"{upcoming.name}: preparing; {message}")
    draft.look_again(timedelta(0))


def _promote(draft: Draft, progress: Progress, message: str, by: str | None) -> None:
    """The watch is over: the candidate is the stable revision, the one before it stays warm for a while."""
    status = draft.status
    warm = draft.now + parse_duration(draft.spec.standby.keep_warm)
    draft.record("Stable", progress.phase.name, "stable", Reason.PROMOTED, message, by)
    draft.announce(Reason.PROMOTED, f"{status.candidate_revision} is stable; {message}")
    draft.update(
        stable_revision=status.candidate_revision,
        stable_digest=status.candidate_digest,
        previous_revision=status.stable_revision,
        previous_warm_until=warm,
        candidate_revision=None,
        candidate_digest=None,
        base_replicas=None,
        base_replicas_until=None,
        progress=None,
    )
    draft.say(Reason.STABLE, f"{status.candidate_revision} is stable", ready=True)
    draft.look_again(timedelta(0))
