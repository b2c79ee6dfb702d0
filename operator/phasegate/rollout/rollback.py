"""Taking traffic back. Nothing stands before the route: not capacity, not status, not another error."""

from __future__ import annotations

from datetime import UTC, datetime

from phasegate.api.records import RollbackRecord
from phasegate.engine.verdict import Judgement, Verdict
from phasegate.rollout.draft import Draft, one_line
from phasegate.rollout.exposure import affected_calls, calls_per_second
from phasegate.rollout.reasons import Reason
from phasegate.rollout.route import RollbackIntent, RoutePlan, only, split, with_intent

AFTERWARDS = "after Stable"
"""What a rollback that comes after the last phase names as its phase: no phase can have this name."""
REMEMBERED = 32
"""Revisions that were rolled back and are not tried again by themselves."""


def safe_plan(stable: str, other: str | None, current: RoutePlan | None) -> RoutePlan:
    """All user requests to `stable`. A revision that is in a slot stays there, idle: taking it out costs requests."""
    if (
        other is not None
        and current is not None
        and any(s.revision == other for s in current.slots)
    ):
        return split(stable, other, 0, current)
    return only(stable, current)


def tripped(judgement: Judgement | None) -> tuple[str, str, datetime | None] | None:
    """(trigger, sentence, onset) of the first failed rollback check; None if nothing failed."""
    if judgement is None or judgement.verdict is not Verdict.FAIL:
        return None
    for check in judgement.checks:
        if check.verdict is Verdict.FAIL and check.level == "rollback":
            since = None if check.since is None else datetime.fromtimestamp(check.since, tz=UTC)
            return check.check, check.message, since
    return "judgement", judgement.message, None


def roll_back(
    draft: Draft,
    trigger: str,
    message: str,
    *,
    by: str | None = None,
    since: datetime | None = None,
) -> None:
    """Take all traffic from the running candidate, in this pass.

    If the route says so already, by a pass that ended before it said more, that is what counts.
    """
    status, progress = draft.status, draft.status.progress
    if progress is None or status.candidate_revision is None or status.current_rollout is None:
        raise AssertionError("rolled back without an attempt")
    decided = decided_before(draft)
    if decided is not None:
        complete(draft, decided)
        return
    intent = RollbackIntent(
        rollout=status.current_rollout,
        revision=status.candidate_revision,
        phase=progress.phase.name,
        trigger=trigger,
        message=one_line(message)[:1024],
        decided_at=draft.now,
        by=by,
        since=since,
    )
    complete(draft, intent)


def decided_before(draft: Draft) -> RollbackIntent | None:
    """The rollback of the running attempt that the route already carries."""
    plan = draft.seen.route.plan
    intent = plan.intent if plan is not None else None
    return intent if intent is not None and intent.rollout == draft.status.current_rollout else None


def complete(draft: Draft, intent: RollbackIntent) -> None:
    """Carry out a rollback that was decided, now or before a crash: route, then everything that records it."""
    status, current = draft.status, draft.seen.route.plan
    stable = status.stable_revision
    if stable is None:
        raise AssertionError("rolled back without a stable revision")
    draft.route = with_intent(safe_plan(stable, intent.revision, current), intent)
    draft.update(
        progress=None,
        rollback=RollbackRecord(
            revision=intent.revision,
            digest=status.candidate_digest or "sha256:" + "0" * 64,
            to=stable,
            rollout=intent.rollout,
            phase=intent.phase,
            trigger=intent.trigger,
            message=intent.message,
            by=intent.by,
            since=intent.since,
            decided_at=intent.decided_at,
            calls_per_second=calls_per_second(draft),
        ),
        rejected_revisions=remember(status.rejected_revisions, intent.revision),
    )
    proven = intent.phase == AFTERWARDS and intent.by is None
    reason = Reason.LATE_EVIDENCE if proven else intent.trigger
    draft.record("RolledBack", intent.phase, "stable", reason, intent.message, intent.by)
    draft.announce(Reason.ROLLED_BACK, _sentence(intent), warning=True)
    draft.say(Reason.ROLLED_BACK, _sentence(intent), stalled=True)
    draft.look_again(draft.settings.poll)  # until it is known to be safe


def remember(rejected: tuple[str, ...], revision: str) -> tuple[str, ...]:
    """`rejected` with `revision` as its newest entry, bounded."""
    return (*(r for r in rejected if r != revision), revision)[-REMEMBERED:]


def watch_safety(draft: Draft) -> None:
    """Note when the traffic of a rolled-back revision was really gone."""
    rollback, route = draft.status.rollback, draft.seen.route
    if rollback is None or rollback.safe_at is not None or route.plan is None:
        return
    if route.plan.percent(rollback.revision) > 0 or not route.programmed:
        draft.look_again(draft.settings.poll)
        return
    seconds = max(0.0, (draft.now - rollback.decided_at).total_seconds())
    safe = rollback.model_copy(
        update={
            "safe_at": draft.now,
            "seconds_to_safe": f"{seconds:.2f}",
            "affected_calls": affected_calls(rollback, draft.now),
        }
    )
    draft.update(rollback=safe)
    draft.announce(
        Reason.SAFE,
        f"{rollback.revision} has no users any more, all traffic is with {rollback.to}: "
        f"{seconds:.2f} s after the decision",
    )


def _sentence(intent: RollbackIntent) -> str:
    who = f" by {intent.by}" if intent.by else ""
    return f"rolled back {intent.revision} in {intent.phase}{who}: {intent.message}"
